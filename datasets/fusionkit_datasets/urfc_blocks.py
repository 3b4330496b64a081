"""What a worker of `urfc_prepare` does: some places' files into rows and facts, and rows compared with checksums."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fusionkit.errors import BadSample
from fusionkit_datasets.urfc_cache import ROWS, Facts, Rows, Store, checksum, row_size, row_start
from fusionkit_datasets.urfc_files import BLANK, UNREADABLE, Place, blankness, read_tile
from fusionkit_datasets.urfc_visits import SHAPE, count_visits

T = TypeVar("T")

ABSENT, FAILED = -1, -2  # in place of a size and a time; what failed is tried again the next time
_MOST = np.iinfo(np.uint16).max
_TILE, _VISITS = slice(0, 2), slice(2, 4)  # among the stamps


@dataclass(frozen=True)
class Block:
    """Some neighbouring places of a store that is being made.

    Args:
        start: the row of the first.
        total: how many rows the store has.
        root: folder of the data.
        places: of the block.
        ids: `[n]` theirs.
        stamps: `[n, 4]` sizes and times, as in `Facts`.
        rows: what is kept of them.
        folder: of the rows.
        record: file for the facts.
        earlier: what an earlier store holds of them.
        at: `[n]` their positions in it, -1 where it has none; empty without an earlier store.
    """

    start: int
    total: int
    root: Path
    places: Sequence[Place]
    ids: np.ndarray
    stamps: np.ndarray
    rows: Sequence[Rows]
    folder: Path
    record: Path
    earlier: Store | None = None
    at: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def with_earlier(self, store: Store, rows: np.ndarray) -> Block:
        """The same block with what an earlier store holds of it, in these rows; -1 where it has none."""
        there = rows >= 0
        at = np.where(there, np.cumsum(there) - 1, -1)
        return replace(self, earlier=store.take(rows[there]), at=at)


def work_for(parent: int, function: Callable[..., T], *arguments: Any) -> T:
    """Call the function in a worker that ends when its parent does, though that be killed."""
    if os.getpid() != parent:
        _end_with(parent)
    return function(*arguments)


@cache
def _end_with(parent: int) -> None:
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def stamp(root: Path, path: str | None) -> tuple[int, int]:
    """Size and time in ns of a file; `ABSENT` where there is none, `FAILED` where it cannot be told."""
    if path is None:
        return ABSENT, ABSENT
    try:
        status = os.stat(root / path)
    except OSError:
        return FAILED, FAILED
    return status.st_size, status.st_mtime_ns


def convert(block: Block) -> None:
    """Write the rows of a block, then its facts."""
    n = len(block.places)
    kept = {what: np.zeros((n, *ROWS[what][0]), ROWS[what][1]) for what in block.rows}
    stamps, tile, sums = block.stamps.copy(), np.zeros(n, np.uint8), np.zeros((n, len(ROWS), 16), np.uint8)
    bad: list[tuple[int, bool, int, str]] = []
    for i, place in enumerate(block.places):
        pixels, tile[i], reasons = _earlier_tile(block, i) or _read_tile(block.root, place)
        bad += [(i, True, *reason) for reason in reasons]
        if "tiles" in kept and pixels is not None:
            kept["tiles"][i] = pixels
        counts, reasons = _earlier_visits(block, i) or _read_visits(block.root, place)
        bad += [(i, False, *reason) for reason in reasons]
        if counts is None:
            stamps[i, _VISITS] = FAILED
        else:
            kept["visits"][i] = counts
        for what, rows in kept.items():
            sums[i, list(ROWS).index(what)] = np.frombuffer(checksum(rows[i].data), np.uint8)
    for what, rows in kept.items():
        _write(block, what, rows)
    columns = list(zip(*bad, strict=True)) or [()] * 4
    Facts(
        ids=block.ids,
        stamps=stamps,
        tile=tile,
        has_visits=kept["visits"].reshape(n, -1).max(1) > 0,
        sums=sums,
        bad_place=np.array(columns[0], np.int64),
        bad_tile=np.array(columns[1], bool),
        bad_line=np.array(columns[2], np.int64),
        bad_reason=np.array([reason.encode() for reason in columns[3]], np.bytes_),
    ).save(block.record)


def check(folder: Path, kept: Sequence[Rows], start: int, total: int, sums: np.ndarray) -> list[int]:
    """The rows, from `start` on, that are not as their checksums say."""
    damaged = set()
    for what in kept:
        with (folder / f"{what}.npy").open("rb") as file:
            file.seek(row_start(what, total, start))
            for i, expected in enumerate(sums[:, list(ROWS).index(what)]):
                if checksum(file.read(row_size(what))) != expected.tobytes():
                    damaged.add(start + i)
    return sorted(damaged)


def _earlier_tile(block: Block, i: int) -> tuple[np.ndarray | None, int, list[tuple[int, str]]] | None:
    """What `_read_tile` once said of a tile, if that is known, and the tile has not been written to since."""
    at = _unchanged(block, i, _TILE)
    if block.earlier is None or at is None or ("tiles" in block.rows and not block.earlier.has_tiles):
        return None
    facts = block.earlier.facts
    try:
        pixels = block.earlier.row("tiles", at) if block.earlier.has_tiles else None
    except BadSample:  # of the store, not of the tile
        return None
    return pixels, int(facts.tile[at]), facts.bad_of(at, tile=True)


def _earlier_visits(block: Block, i: int) -> tuple[np.ndarray, list[tuple[int, str]]] | None:
    """The same of a visit file."""
    at = _unchanged(block, i, _VISITS)
    if block.earlier is None or at is None:
        return None
    try:
        return block.earlier.row("visits", at), block.earlier.facts.bad_of(at, tile=False)
    except BadSample:
        return None


def _unchanged(block: Block, i: int, stamps: slice) -> int | None:
    """Where the earlier store has place i, if a file of it is as it was then."""
    if block.earlier is None or block.at[i] < 0 or FAILED in block.stamps[i, stamps]:
        return None
    at = int(block.at[i])
    return at if np.array_equal(block.stamps[i, stamps], block.earlier.facts.stamps[at, stamps]) else None


def _read_tile(root: Path, place: Place) -> tuple[np.ndarray | None, int, list[tuple[int, str]]]:
    """The pixels, what they show, and what is wrong."""
    if place.image is None:
        return None, 0, []
    try:
        pixels = read_tile(root / place.image)
    except BadSample as error:
        return None, UNREADABLE, [(0, error.reason)]
    state = blankness(pixels)
    return pixels, state, [(0, BLANK[state])] if state else []


def _read_visits(root: Path, place: Place) -> tuple[np.ndarray | None, list[tuple[int, str]]]:
    """Counts as uint16, or None if the file could not be read, and what is wrong."""
    nothing = np.zeros(SHAPE, np.uint16)
    if place.visits is None:
        return nothing, []
    try:
        data = (root / place.visits).read_bytes()
    except OSError as error:
        return None, [(0, f"the visit file cannot be read: {error.strerror}")]
    if not data.strip():
        return nothing, [(0, "the visit file is empty")]
    counts, lines = count_visits(data)
    bad = [(line.line, line.reason) for line in lines]
    if counts.max() > _MOST:
        return nothing, [*bad, (0, f"more than {_MOST} visits in one hour")]
    if not counts.any():
        bad.append((0, "the visit file has no good line"))
    return counts.astype(np.uint16), bad


def _write(block: Block, what: Rows, rows: np.ndarray) -> None:
    with (block.folder / f"{what}.npy").open("r+b") as file:
        file.seek(row_start(what, block.total, block.start))
        file.write(rows.data)
