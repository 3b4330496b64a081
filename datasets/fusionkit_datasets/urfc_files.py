"""Where the files of URFC lie: both rounds' layouts, flat or in part folders, and what a file's name says."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fusionkit.errors import BadSample, DataError

TILE_SHAPE = (3, 100, 100)
CLASSES = 9

FOLDERS = {
    ("small", "train"): ("train_image", "train_visit"),
    ("small", "test"): ("test_image", "test_visit"),
    ("large", "train"): ("train", "train_part"),
    ("large", "test"): ("test", "test_part"),
}
"""Per round and split, the folder of the tiles and the folder of the visit files."""

_IMAGES, _VISITS = {".jpg", ".jpeg"}, {".txt"}
_CLASS_FOLDER = re.compile(r"\d{3}")


class Place(NamedTuple):
    """One place. Ids collide between rounds and splits, so it is known by all three.

    Args:
        round: `"small"` or `"large"`.
        split: `"train"` or `"test"`, of which the second has no labels.
        stem: the name of its files.
        label: class index; -1 where there is none.
        image: path of the tile within the root, or None.
        visits: path of the visit file within the root, or None.
    """

    round: str
    split: str
    stem: str
    label: int
    image: str | None
    visits: str | None

    @property
    def id(self) -> str:
        return f"{self.round}/{self.split}/{self.stem}"


def find_places(root: Path) -> tuple[list[Place], list[tuple[str, BadSample]]]:
    """List the places below `root`, in the order of their ids, and what is wrong with files' names.

    Raises:
        DataError: neither round's folders are there, or they are empty.
    """
    if not root.is_dir():
        raise DataError("there is no such folder", root, option=("root",))
    places: list[Place] = []
    bad: list[tuple[str, BadSample]] = []
    for (round, split), (image_folder, visit_folder) in sorted(FOLDERS.items()):
        images = _by_stem(root, image_folder, _IMAGES, f"{round}/{split}", bad)
        visits = _by_stem(root, visit_folder, _VISITS, f"{round}/{split}", bad)
        for stem in sorted(images.keys() | visits.keys()):
            place = Place(round, split, stem, -1, images.get(stem), visits.get(stem))
            if split == "train":
                try:
                    place = place._replace(label=_label(stem, place.image))
                except BadSample as error:
                    bad.append((place.id, BadSample(error.reason, root / (place.image or place.visits or ""))))
            places.append(place)
    if not places:
        wanted = "; or ".join(
            ", ".join(f"{name}/" for split in ("train", "test") for name in FOLDERS[round, split])
            for round in ("small", "large")
        )
        raise DataError(f"no place of URFC is here; expected are {wanted}", root, option=("root",))
    return places, bad


def _by_stem(
    root: Path, folder: str, suffixes: set[str], prefix: str, bad: list[tuple[str, BadSample]]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in _files(root / folder):
        stem, suffix = os.path.splitext(os.path.basename(path))
        if suffix.lower() not in suffixes:
            continue
        inside = os.path.relpath(path, root)
        if stem in found:
            reason = f"a second file of the place, beside {found[stem]}; the first is used"
            bad.append((f"{prefix}/{stem}", BadSample(reason, path)))
        else:
            found[stem] = inside
    return found


def _files(folder: Path) -> Iterator[str]:
    """Every file below a folder, in a fixed order, hidden ones aside."""

    def fail(error: OSError) -> None:
        raise DataError(f"the folder cannot be read: {error.strerror}", error.filename, option=("root",)) from error

    if not folder.exists():
        return
    for parent, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        folders.sort()
        yield from (os.path.join(parent, name) for name in sorted(names) if not name.startswith("."))


def _label(stem: str, image: str | None) -> int:
    match = re.search(r"_(\d{3})$", stem)
    if not match:
        raise BadSample("the name does not end in a class, as 000001_001 does; the place is used in no split")
    if not 1 <= int(match[1]) <= CLASSES:
        raise BadSample(f"class {match[1]} is not one from 001 to {CLASSES:03d}; the place is used in no split")
    folder = Path(image).parent.name if image else ""
    if _CLASS_FOLDER.fullmatch(folder) and folder != match[1]:
        raise BadSample(f"the name says class {match[1]}, its folder {folder}; the place is used in no split")
    return int(match[1]) - 1


BLANK = ("", "the tile is fully black", "the tile is fully white")
UNREADABLE = len(BLANK)
_NEAR = 3  # of 255; what a JPEG may add to a uniform tile


def blankness(tile: np.ndarray) -> int:
    """Index into `BLANK`; above 0 where a tile shows nothing."""
    return 1 if tile.max() <= _NEAR else 2 if tile.min() >= 255 - _NEAR else 0


def read_tile(path: Path) -> np.ndarray:
    """Read a tile as RGB, uint8 `[3, 100, 100]`.

    Raises:
        BadSample: the file is missing, no JPEG, cut short, or of another size.
    """
    try:
        with Image.open(path, formats=["JPEG"]) as image:
            if image.size != TILE_SHAPE[:0:-1]:
                width, height = image.size
                raise BadSample(f"the tile is {width} x {height} pixels, not {TILE_SHAPE[2]} x {TILE_SHAPE[1]}", path)
            pixels = np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise BadSample("the tile is missing", path) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadSample(f"the tile cannot be read: {str(error).replace(str(path), 'the file')}", path) from error
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
