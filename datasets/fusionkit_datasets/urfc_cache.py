"""What was found in the files of URFC, kept from one run to the next: visit counts, tiles, and what is wrong.

Each root has one folder in the cache, and in it one store: a folder whose name is a key made of every place's id and of
the sizes and times of its files.

    KEY/visits.npy     uint16 [places, 7, 26, 24]
    KEY/tiles.npy      uint8 [places, 3, 100, 100], where it was asked for
    KEY/facts.npz      what else is known of each place, checksums included: `Facts`
    KEY/bad.csv        whatever is wrong in a file, for people
    KEY/manifest.json  checksums of the two before

A store is made beside its place and renamed into it, so it is there whole or not at all. `urfc_prepare` makes it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fusionkit.errors import BadSample
from fusionkit.files import atomic
from fusionkit_datasets.urfc_files import TILE_SHAPE, Place
from fusionkit_datasets.urfc_visits import SHAPE

VERSION = "2"
"""Raise it when the same files come to be read otherwise: caches of another version are not looked at."""

Rows = Literal["visits", "tiles"]
ROWS: dict[Rows, tuple[tuple[int, ...], np.dtype[Any]]] = {
    "visits": (SHAPE, np.dtype("<u2")),
    "tiles": (TILE_SHAPE, np.dtype("u1")),
}
"""Shape and type of what is kept of a place."""

_FACTS, _BAD, _MANIFEST = "facts.npz", "bad.csv", "manifest.json"


@dataclass(frozen=True)
class Facts:
    """What was found in the files of n places.

    Args:
        ids: `[n]` the places, as bytes.
        stamps: `[n, 4]` size and time in ns of the tile, then of the visit file.
        tile: `[n]` what a tile shows: what `urfc_files.blankness` says, or `UNREADABLE`.
        has_visits: `[n]` whether any visit was counted.
        sums: `[n, 2, 16]` checksums of the visits, which are equal where the counts are, and of the tile as kept.
        bad_place: `[b]` the place of each thing that is wrong, as its position, ascending.
        bad_tile: `[b]` whether it is wrong with the tile, not with the visit file.
        bad_line: `[b]` line number, or 0 for the file as a whole.
        bad_reason: `[b]` what is wrong, UTF-8.
    """

    ids: np.ndarray
    stamps: np.ndarray
    tile: np.ndarray
    has_visits: np.ndarray
    sums: np.ndarray
    bad_place: np.ndarray
    bad_tile: np.ndarray
    bad_line: np.ndarray
    bad_reason: np.ndarray

    def take(self, rows: np.ndarray) -> Facts:
        """The facts of some places, in that order."""
        first, stop = (np.searchsorted(self.bad_place, rows, side) for side in ("left", "right"))
        bad = [i for span in zip(first.tolist(), stop.tolist(), strict=True) for i in range(*span)]
        taken = {field.name: getattr(self, field.name) for field in fields(self)}
        taken = {name: value[bad if name.startswith("bad_") else rows] for name, value in taken.items()}
        return Facts(**taken | {"bad_place": np.repeat(np.arange(len(rows)), stop - first)})

    def bad_of(self, i: int, *, tile: bool) -> list[tuple[int, str]]:
        """What is wrong with the tile or the visit file of place i: line or 0, and reason."""
        first, stop = (int(np.searchsorted(self.bad_place, i, side)) for side in ("left", "right"))
        here = [row for row in range(first, stop) if self.bad_tile[row] == tile]
        return [(int(self.bad_line[row]), self.bad_reason[row].decode()) for row in here]

    def bad(self) -> Iterator[tuple[int, bool, int, str]]:
        """Whatever is wrong: place, whether it is the tile, line or 0, reason."""
        for i, of_tile, line, reason in zip(
            self.bad_place.tolist(), self.bad_tile.tolist(), self.bad_line.tolist(), self.bad_reason, strict=True
        ):
            yield i, of_tile, line, reason.decode()

    def save(self, path: Path) -> None:
        with atomic(path) as file:
            np.savez(file, allow_pickle=False, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Facts | None:
        """None where the file is missing or went bad."""
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(**{field.name: file[field.name] for field in fields(cls)})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    @classmethod
    def join(cls, parts: Sequence[Facts]) -> Facts:
        starts = np.cumsum([0] + [len(part.ids) for part in parts])
        joined = {field.name: [getattr(part, field.name) for part in parts] for field in fields(cls)}
        joined["bad_place"] = [places + start for places, start in zip(joined["bad_place"], starts, strict=False)]
        return cls(**{name: np.concatenate(values) for name, values in joined.items()})


def checksum(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


class Store:
    """A store that is complete.

    Rows are read one by one, not mapped for good: what is mapped counts as a process's memory, and grows to all of it.

    Args:
        path: its folder.
        facts: of the places.
        has_tiles: whether the tiles are in it as well.
        rows: `[n]` where the places stand in the files; default: `facts` are of all.
        total: how many rows the files have; default: as many as there are facts.
    """

    def __init__(
        self, path: Path, facts: Facts, has_tiles: bool, rows: np.ndarray | None = None, total: int | None = None
    ):
        self.path, self.facts, self.has_tiles = path, facts, has_tiles
        self.mended = 0  # rows that were damaged when it was last verified
        self._rows, self._total = rows, len(facts.ids) if total is None else total

    def take(self, places: np.ndarray) -> Store:
        """The same store, of some places alone, in that order."""
        return Store(self.path, self.facts.take(places), self.has_tiles, places, self._total)

    def row(self, what: Rows, i: int) -> np.ndarray:
        """The visits or the tile of place i, checked against their checksum.

        Raises:
            BadSample: the store is damaged.
        """
        path, position = self.path / f"{what}.npy", i if self._rows is None else int(self._rows[i])
        shape, dtype = ROWS[what]
        try:
            row = np.fromfile(path, dtype, math.prod(shape), offset=row_start(what, self._total, position))
        except OSError as error:
            raise BadSample(f"the cache cannot be read: {error.strerror}", path) from error
        if checksum(row.data) != self.facts.sums[i, list(ROWS).index(what)].tobytes():
            raise BadSample(f"the cache is damaged in row {position}; `fusionkit data prepare urfc` mends it", path)
        return row.reshape(shape)


@cache
def npy_header(what: Rows, total: int) -> bytes:
    """How an .npy file of so many rows begins."""
    shape, dtype = ROWS[what]
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype.str, "fortran_order": False, "shape": (total, *shape)})
    return header.getvalue()


def row_size(what: Rows) -> int:
    shape, dtype = ROWS[what]
    return math.prod(shape) * dtype.itemsize


def row_start(what: Rows, total: int, i: int) -> int:
    """Where row i of so many begins in its file; where the file ends if i is their number."""
    return len(npy_header(what, total)) + i * row_size(what)


def _is_whole(path: Path, what: Rows, total: int) -> bool:
    header = npy_header(what, total)
    with path.open("rb") as file:
        return file.read(len(header)) == header and path.stat().st_size == row_start(what, total, total)


def load_store(path: Path) -> Store | None:
    """The store in a folder, all but its rows checked; None where it is missing or went bad."""
    try:
        manifest = json.loads((path / _MANIFEST).read_bytes())
        for name, expected in manifest["checksums"].items():
            if checksum((path / name).read_bytes()).hex() != expected:
                return None
        facts = Facts.load(path / _FACTS)
        if facts is None:
            return None
        if not all(_is_whole(path / f"{what}.npy", what, len(facts.ids)) for what in manifest["rows"]):
            return None
        return Store(path, facts, "tiles" in manifest["rows"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def complete(path: Path, facts: Facts, places: Sequence[Place], rows: Sequence[Rows]) -> None:
    """Write what a store needs beside its rows; the manifest comes last."""
    facts.save(path / _FACTS)
    with atomic(path / _BAD) as file:
        text = io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["place", "file", "line", "reason"])
        for i, of_tile, line, reason in facts.bad():
            table.writerow([places[i].id, places[i].image if of_tile else places[i].visits, line or "", reason])
        text.detach()
    sums = {name: checksum((path / name).read_bytes()).hex() for name in (_FACTS, _BAD)}
    manifest = {"version": VERSION, "places": len(facts.ids), "rows": list(rows), "checksums": sums}
    with atomic(path / _MANIFEST) as file:
        file.write(json.dumps(manifest, indent=2).encode())
