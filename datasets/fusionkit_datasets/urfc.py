"""URFC, urban region function classification: a satellite tile and the hourly visits of each place, in nine classes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from fusionkit.contract import Dataset, Index, Sample
from fusionkit.errors import BadSample
from fusionkit.flow import InputSpec
from fusionkit.options import DataPath
from fusionkit_datasets.urfc_cache import Facts, Store
from fusionkit_datasets.urfc_files import TILE_SHAPE, UNREADABLE, blankness, find_places, read_tile
from fusionkit_datasets.urfc_make import Ceiling, make_urfc
from fusionkit_datasets.urfc_prepare import default_cache, prepare_store
from fusionkit_datasets.urfc_visits import SHAPE, fastest_parser

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

    A fully black or white tile counts as absent, and so do visits whose file is empty or without a good line. A line
    with anything wrong in it is not counted. All this is listed as bad, with file, line and reason. Visits without any
    file are absent, and counted as such. Places with identical visits form a group.

    Args:
        root: folder of the data.
        cache: where counted visits are kept for the next run, 9 kB a place, and tiles too if `fusionkit data prepare`
            put them there. Without it, the user's cache folder (`$XDG_CACHE_HOME` or `~/.cache`).
        language: of the class names.
    """

    def __init__(self, *, root: DataPath, cache: DataPath | None = None, language: Literal["en", "zh"] = "en"):
        self.root, self.cache, self.language = root, cache, language
        self._images = self._visits = np.zeros(0, np.bytes_)  # paths within the root, empty where there is none
        self._store: Store | None = None

    def inputs(self) -> dict[str, InputSpec]:
        return {"image": InputSpec(TILE_SHAPE), "visits": InputSpec(SHAPE, counts=True)}

    def class_names(self) -> tuple[str, ...]:
        return CLASS_NAMES[self.language]

    def index(self, progress: Callable[[int, int], None] | None = None) -> Index:
        """List the places, and read the files of those that are not in the cache.

        Raises:
            DataError: no place is there, or the cache cannot be written.
        """
        places, bad = find_places(self.root)

        def reading(what: str, done: int, total: int) -> None:
            if progress and what == "reading":
                progress(done, total)

        self._store = prepare_store(self.root, places, self.cache or default_cache(), progress=reading)
        facts = self._store.facts
        for i, of_tile, line, reason in facts.bad():
            if not (of_tile and facts.tile[i] == UNREADABLE):  # `read` tells that
                path = self.root / ((places[i].image if of_tile else places[i].visits) or "")
                bad.append((places[i].id, BadSample(reason, path, line=line or None)))
        self._images = np.array([os.fsencode(place.image or "") for place in places])
        self._visits = np.array([os.fsencode(place.visits or "") for place in places])
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
        assert self._store is not None, "the samples are listed before they are read"  # noqa: S101
        facts, image, visits = self._store.facts, None, None
        path = self.root / os.fsdecode(self._images[i] or self._visits[i])
        if self._images[i]:
            if self._store.has_tiles and facts.tile[i] != UNREADABLE:
                image = self._store.row("tiles", i)
            else:
                image = read_tile(path)
            image = None if blankness(image) else image
        if facts.has_visits[i]:
            visits = self._store.row("visits", i).astype(np.float32)
        if image is None and visits is None:
            raise BadSample("neither a tile nor visits", path)
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

    @classmethod
    def prepare(
        cls,
        root: Path,
        progress: Callable[[str, int, int], None] | None = None,
        *,
        cache: DataPath | None = None,
        tiles: bool = True,
        workers: PositiveInt | None = None,
    ) -> Prepared:
        """Read all files into the cache on all cores, so that runs start at once and read fast.

        It can be stopped and started again at any moment. Of what is in the cache already, checksums are compared.

        Args:
            root: folder of the data, as in the recipe.
            progress: is told what is being done, and of how many places of how many.
            cache: as in the recipe: by default the user's cache folder.
            tiles: keep tiles as well as visits: 39 kB a place in place of 9 kB.
            workers: processes; by default one a core.

        Raises:
            DataError: no place is there, or the cache cannot be written.
        """
        places, _ = find_places(root)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        store = prepare_store(
            root,
            places,
            cache or default_cache(),
            tiles=tiles,
            workers=workers or cores,
            verify=True,
            progress=progress,
        )
        return Prepared(store)


class Prepared:
    """What `URFC.prepare` made, in words."""

    def __init__(self, store: Store):
        self.store = store

    def __str__(self) -> str:
        store, facts = self.store, self.store.facts
        size = sum(path.stat().st_size for path in store.path.iterdir())
        what = "visits and tiles" if store.has_tiles else "visits"
        told = [
            f"{len(facts.ids)} places, {what}, {size / 1e6:.1f} MB, all checksums agree: {store.path}",
            f"visit files are read by {fastest_parser()}",
        ]
        if store.mended:
            told.append(f"{store.mended} places of the cache were damaged, and were read anew")
        if bad := len(facts.bad_place):
            told.append(f"{bad} bad lines or files at {len(np.unique(facts.bad_place))} places: {store.path}/bad.csv")
        return "\n".join(told)


def _groups(facts: Facts) -> np.ndarray:
    """A number for each distinct set of visits; a place without visits has its own."""
    numbers: dict[bytes | int, int] = {}
    digests = zip(map(bytes, facts.sums[:, 0]), facts.has_visits.tolist(), strict=True)
    keys = (digest if has_visits else i for i, (digest, has_visits) in enumerate(digests))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
