"""Made-up URFC data of which it is known how well anyone can do on it.

The model. A place has a class y, with the small round's shares. Given y, and independently of each other, it has a
scene s (what its tile shows) and a rhythm r (who comes, and when), by the tables below. The size of its city, uniform
from 0 to 1, changes the tile's look and the number of visits alike, and says nothing of y. In `LABEL_NOISE` of the
places the label is another class, each as likely.

Tile and visits depend on y through s and r alone, and show these so plainly that they are told with hardly an error;
the tests of this module do so by simple means. So the best possible accuracy from the tile is the best from s, which
is summed over the tables: the sum over s of the largest P(label, s). The same holds for the visits and r, and for both
and (s, r).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from fusionkit.errors import DataError, RequestError
from fusionkit.randomness import generator
from fusionkit_datasets.urfc_rhythms import draw_visits
from fusionkit_datasets.urfc_scenes import draw_scene

CLASS_COUNTS = (9542, 7538, 3590, 1358, 3464, 5507, 3517, 2617, 2867)
"""Labelled places of each class in the small round."""

LABEL_NOISE = 0.05

Split = Literal["train", "test"]

# P(scene | class) in twentieths.
#    houses  campus  sheds  lines  open  towers
SCENES_OF = (
    (10, 1, 0, 0, 1, 8),  # residential
    (4, 12, 0, 0, 3, 1),  # school
    (1, 1, 14, 2, 2, 0),  # industrial park
    (0, 0, 6, 11, 0, 3),  # railway station
    (0, 2, 3, 1, 14, 0),  # airport
    (2, 6, 0, 2, 10, 0),  # park
    (2, 0, 10, 1, 0, 7),  # shopping
    (2, 1, 0, 0, 0, 17),  # administrative
    (2, 9, 2, 0, 0, 7),  # hospital
)

# P(rhythm | class) in twentieths.
#    home  weekdays  shifts  travel  leisure  care
RHYTHMS_OF = (
    (17, 0, 0, 0, 2, 1),  # residential
    (0, 19, 0, 0, 1, 0),  # school
    (0, 7, 13, 0, 0, 0),  # industrial park
    (0, 0, 2, 17, 1, 0),  # railway station
    (0, 0, 1, 18, 1, 0),  # airport
    (1, 1, 0, 0, 18, 0),  # park
    (1, 1, 0, 1, 17, 0),  # shopping
    (0, 18, 1, 0, 0, 1),  # administrative
    (4, 1, 2, 0, 0, 13),  # hospital
)

_SHARES = np.array(CLASS_COUNTS) / sum(CLASS_COUNTS)
_SCENE = np.array(SCENES_OF) / 20
_RHYTHM = np.array(RHYTHMS_OF) / 20
_CLASSES = len(CLASS_COUNTS)
_LABEL = np.where(np.eye(_CLASSES) > 0, 1 - LABEL_NOISE, LABEL_NOISE / (_CLASSES - 1))  # P(label | class)

_CEILING, _UNFINISHED = "ceiling.json", ".unfinished"
_FOLDERS = ("train_image", "train_visit", "test_image", "test_visit")


@dataclass(frozen=True)
class Ceiling:
    """The best overall accuracy that anyone can expect on this data, by what is looked at.

    Args:
        majority: nothing; the most frequent class is always named.
        image: the tile alone.
        visits: the visits alone.
        both: tile and visits.
    """

    majority: float
    image: float
    visits: float
    both: float

    def __str__(self) -> str:
        rows = {
            "nothing (majority class)": self.majority,
            "image": self.image,
            "visits": self.visits,
            "image + visits": self.both,
        }
        return "\n".join([f"{'modalities':<26}best OA", *(f"{name:<26}{value:.3f}" for name, value in rows.items())])


def joint() -> np.ndarray:
    """P(label, scene, rhythm), `[9, scenes, rhythms]`."""
    return np.einsum("y,yl,ys,yr->lsr", _SHARES, _LABEL, _SCENE, _RHYTHM)


def ceiling() -> Ceiling:
    """The accuracy of the best decision from each modality, exact."""
    p = joint()
    return Ceiling(
        majority=float(p.sum((1, 2)).max()),
        image=float(p.sum(2).max(0).sum()),
        visits=float(p.sum(1).max(0).sum()),
        both=float(p.max(0).sum()),
    )


@dataclass(frozen=True)
class MadePlace:
    """One made-up place.

    Args:
        label: class index as written, which may be a wrong one.
        scene: index into `urfc_scenes.SCENES`.
        rhythm: index into `urfc_rhythms.RHYTHMS`.
        tile: uint8 `[100, 100, 3]`.
        visits: content of the visit file.
    """

    label: int
    scene: int
    rhythm: int
    tile: np.ndarray
    visits: bytes


def draw_place(seed: int, split: Split, number: int) -> MadePlace:
    """Draw a place; it is the same however many others are drawn."""
    random = generator(seed, "urfc", split, number)
    y = random.choice(_CLASSES, p=_SHARES)
    label, scene, rhythm = (int(random.choice(len(of[y]), p=of[y])) for of in (_LABEL, _SCENE, _RHYTHM))
    city = random.random()
    return MadePlace(label, scene, rhythm, draw_scene(scene, city, random), draw_visits(rhythm, city, random))


def make_urfc(
    root: Path,
    *,
    places: int,
    seed: int,
    test_places: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Ceiling:
    """Write made-up places in the small round's layout, and beside them `ceiling.json`.

    What an earlier call left in `root` is replaced once all is drawn.

    Args:
        root: folder to write to: new, empty, or made by this function.
        places: labelled ones.
        seed: the same seed gives the same places.
        test_places: ones without label, as the real test places are.
        progress: is told how many of how many are done.

    Returns:
        The best possible accuracies.

    Raises:
        DataError: something else is in `root`.
        RequestError: no place is asked for.
    """
    if places < 1 or test_places < 0:
        raise RequestError(f"{places} labelled and {test_places} test places cannot be made; ask for 1 or more")
    _refuse_other_folders(root)
    part = root / _UNFINISHED
    shutil.rmtree(part, ignore_errors=True)
    done = 0
    wanted: dict[Split, int] = {"train": places, "test": test_places}
    for split, count in wanted.items():
        for number in range(count):
            _write(part, split, number, draw_place(seed, split, number))
            done += 1
            if progress:
                progress(done, places + test_places)
    best = ceiling()
    facts = {
        "made_by": "fusionkit data make urfc",
        "places": places,
        "test_places": test_places,
        "seed": seed,
        "label_noise": LABEL_NOISE,
        "best_possible_oa": asdict(best),
        "how": "exact: sum over all that can be shown of the largest P(label, shown); see fusionkit_datasets.urfc_make",
    }
    (part / _CEILING).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    for name in _FOLDERS:
        shutil.rmtree(root / name, ignore_errors=True)
        if (part / name).exists():
            (part / name).rename(root / name)
    (part / _CEILING).replace(root / _CEILING)
    part.rmdir()
    return best


def _refuse_other_folders(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise DataError("this is a file; name a folder", root)
    there = {path.name for path in root.iterdir()} if root.exists() else set()
    ours = there & {_CEILING, _UNFINISHED}
    foreign = there - {_CEILING, _UNFINISHED, *_FOLDERS} if ours else there
    if foreign:
        raise DataError(
            f"the folder holds {min(foreign)!r}, which was not made here; name a new or an empty folder", root
        )


def _write(root: Path, split: Split, number: int, place: MadePlace) -> None:
    stem = f"{number:06d}_{place.label + 1:03d}" if split == "train" else f"{number:06d}"
    images = root / f"{split}_image" / split / (stem[-3:] if split == "train" else "")
    visits = root / f"{split}_visit" / ("" if split == "train" else split)
    for folder in (images, visits):
        folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(place.tile).save(images / f"{stem}.jpg", quality=90)
    (visits / f"{stem}.txt").write_bytes(place.visits)
