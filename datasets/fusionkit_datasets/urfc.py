"""URFC, urban region function classification: a satellite tile and the hourly visits of each place, in nine classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from fusionkit.contract import Dataset, Index, Sample
from fusionkit.errors import BadSample
from fusionkit.flow import InputSpec
from fusionkit.options import DataPath
from fusionkit_datasets.urfc_cache import Facts, default_cache, gather, open_counts
from fusionkit_datasets.urfc_files import BLANK, TILE_SHAPE, Place, blankness, find_places, read_tile
from fusionkit_datasets.urfc_make import Ceiling, make_urfc
from fusionkit_datasets.urfc_visits import SHAPE

CLASS_NAMES = {
    "en": (
        "residential",
        "school",
        "industrial park",
        "railway station",
        "airport",
        "park",
        "shopping",
        "administrative",
        "hospital",
    ),
    "zh": ("住宅区", "学校", "工业园区", "火车站", "机场", "公园", "商场", "政务区", "医院"),
}


class URFC(Dataset):
    """Urban region function classification, both rounds, as its files were handed out.

    Modalities: `image`, the RGB tile `[3, 100, 100]` from 0 to 255; `visits`, how many people were there in each hour
    of 182 days, `[7, 26, 24]` as weekday (0 is Monday) x week x hour.

    Below `root`, the small round is `train_image/ train_visit/ test_image/ test_visit/`, the large one
    `train/ train_part/ test/ test_part/`; folders inside these do not matter. The places of the test folders have no
    labels. Every place is `round/split/stem`, which are columns to split by as well (`round`, `split`, `place`).

    A fully black or white tile counts as absent, and so do visits whose file is missing, empty or without a good line.
    A line with anything wrong in it is not counted. All this is listed as bad, with file, line and reason. Places with
    identical visits form a group.

    Args:
        root: folder of the data.
        cache: where counted visits are kept for the next run; 9 kB a place. Without it, the user's cache folder
            (`$XDG_CACHE_HOME` or `~/.cache`).
        language: of the class names.
    """

    def __init__(self, *, root: DataPath, cache: DataPath | None = None, language: Literal["en", "zh"] = "en"):
        self.root, self.cache, self.language = root, cache, language
        self._places: list[Place] = []
        self._has_visits = np.zeros(0, bool)
        self._counts_file = Path()
        self._counts: np.ndarray | None = None

    def inputs(self) -> dict[str, InputSpec]:
        return {"image": InputSpec(TILE_SHAPE), "visits": InputSpec(SHAPE, counts=True)}

    def class_names(self) -> tuple[str, ...]:
        return CLASS_NAMES[self.language]

    def index(self, progress: Callable[[int, int], None] | None = None) -> Index:
        """List the places, and count the visits of those that are not in the cache.

        Raises:
            DataError: no place is there, or the cache cannot be written.
        """
        places, bad = find_places(self.root)
        facts, self._counts_file = gather(self.root, places, self.cache or default_cache(), progress)
        self._places, self._has_visits, self._counts = places, facts.has_visits, open_counts(self._counts_file)
        for i in np.flatnonzero(facts.blank):
            bad.append((places[i].id, BadSample(BLANK[facts.blank[i]], self.root / (places[i].image or ""))))
        for i, line, reason in zip(facts.bad_place, facts.bad_line, facts.bad_reason, strict=True):
            path = self.root / (places[i].visits or "")
            bad.append((places[i].id, BadSample(str(reason), path, line=int(line) or None)))
        return Index(
            ids=[place.id for place in places],
            targets=np.array([place.label for place in places], np.int64),
            class_names=self.class_names(),
            columns={
                "round": np.array([place.round for place in places]),
                "split": np.array([place.split for place in places]),
                "place": np.array([place.stem for place in places]),
            },
            groups=_groups(facts),
            bad=bad,
        )

    def read(self, i: int) -> Sample:
        place = self._places[i]
        image = None if place.image is None else read_tile(self.root / place.image)
        if image is not None and blankness(image):
            image = None
        visits = None
        if self._has_visits[i]:
            if self._counts is None:
                self._counts = open_counts(self._counts_file)
            visits = self._counts[i].astype(np.float32)
        if image is None and visits is None:
            raise BadSample("neither a tile nor visits", self.root / (place.image or place.visits or ""))
        return {"image": image, "visits": visits}

    @classmethod
    def make(
        cls,
        folder: Path,
        progress: Callable[[int, int], None] | None = None,
        *,
        places: PositiveInt = 2000,
        test_places: NonNegativeInt = 0,
        seed: NonNegativeInt = 0,
    ) -> Ceiling:
        """Make places up, in the small round's files, and tell the best accuracy that is possible on them.

        Args:
            folder: to write to: a new or an empty one, or one made before, which is replaced.
            progress: is told how many of how many are done.
            places: how many labelled places.
            test_places: how many places without a label, as the real test places are.
            seed: the same seed gives the same places.

        Raises:
            DataError: something else is in the folder.
        """
        return make_urfc(folder, places=places, test_places=test_places, seed=seed, progress=progress)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_counts": None}  # a mapped file would be copied whole into each loader worker


def _groups(facts: Facts) -> np.ndarray:
    """A number for each distinct set of visits; a place without visits has its own."""
    numbers: dict[bytes | int, int] = {}
    digests = zip(facts.digest.tolist(), facts.has_visits.tolist(), strict=True)
    keys = (digest if has_visits else i for i, (digest, has_visits) in enumerate(digests))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
