"""Makes the store of `urfc_cache`: each file is read once, on all cores; a killed run is taken up where it stopped.

The places are done in blocks. A worker writes the rows of a block to their place in the unfinished store, then the
block's facts to a record of their own, which appears whole or not at all; a block without a record is done again. When
all have one, every row is read back and compared with its checksum. What is done twice gives the same bytes, so the
store does not depend on when, or how often, the work was cut off.

Where files are as they were when an earlier store was made, it is copied, checksum by checksum.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from fusionkit.errors import DataError, FusionkitError
from fusionkit_datasets.urfc_blocks import FAILED, Block, check, convert, stamp, work_for
from fusionkit_datasets.urfc_cache import (
    VERSION,
    Facts,
    Rows,
    Store,
    checksum,
    complete,
    load_store,
    npy_header,
    row_start,
)
from fusionkit_datasets.urfc_files import Place

BLOCK = 256
"""Places that are done at once: 10 MB of tiles and visits."""

Progress = Callable[[str, int, int], None]
"""Is told what is being done, and of how many places of how many it is done."""


def default_cache() -> Path:
    """The user's cache folder; data often lies where its reader may not write."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fusionkit"


def prepare_store(
    root: Path,
    places: Sequence[Place],
    cache: Path,
    *,
    tiles: bool = False,
    workers: int = 1,
    verify: bool = False,
    progress: Progress | None = None,
) -> Store:
    """The store of `places`: from the cache where their files are as they were, else made.

    Args:
        root: folder of the data.
        places: in the order of their ids.
        cache: folder of all stores.
        tiles: whether tiles are to be in it. They stay in it where they were.
        workers: processes that make it.
        verify: compare the whole of a store that is there with its checksums, and mend it.
        progress: is told how it goes on.

    Raises:
        DataError: the cache cannot be written.
        FusionkitError: a worker was killed, or the disk does not keep what is written.
    """
    making = _Making(root, places, workers, progress or (lambda what, done, total: None))
    folder = cache / f"urfc-{checksum(VERSION.encode() + os.fsencode(root.resolve())).hex()}"
    path = folder / making.key
    try:
        store = load_store(path)
        if store and not verify and making.still_failing(store):
            return store
        folder.mkdir(parents=True, exist_ok=True)
        with making.alone(folder):  # who had to wait finds the store made
            store = load_store(path)
            damaged = making.damaged(store) if verify and store else []
            sufficient = store and (store.has_tiles or not tiles) and making.still_failing(store)
            if not store or not sufficient or damaged:
                store = making.make(path, store or _newest(folder), tiles)
            store.mended = len(damaged)
            _remove_others(folder, {path} if store.has_tiles else {path, *_unfinished(path, tiles=True)})
            return store
    except OSError as error:
        raise DataError(
            f"the cache cannot be kept here: {error.strerror or error}; name another folder with `cache`",
            folder,
            option=("cache",),
        ) from error


class _Making:
    """How a store of these places is made; the arguments are those of `prepare_store`."""

    def __init__(self, root: Path, places: Sequence[Place], workers: int, progress: Progress):
        self.root, self.places, self.workers, self.progress = root, places, workers, progress
        self.ids = np.array([place.id.encode(errors="surrogateescape") for place in places])
        stamps = [stamp(root, place.image) + stamp(root, place.visits) for place in places]
        self.stamps = np.array(stamps, np.int64)
        self.key = checksum(self.ids.tobytes() + self.stamps.tobytes()).hex()

    @contextmanager
    def alone(self, folder: Path) -> Iterator[None]:
        """No other process works in the folder meanwhile."""
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.progress("waiting for another process that prepares it", 0, len(self.places))
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def make(self, path: Path, old: Store | None, tiles: bool) -> Store:
        """Make the store, or go on making it."""
        tiles = tiles or bool(old and old.has_tiles)
        rows: list[Rows] = ["visits", "tiles"] if tiles else ["visits"]
        part, records = _unfinished(path, tiles=tiles)
        _remove_others(path.parent, {path, part, records, *_unfinished(path, tiles=True), *([old.path] if old else [])})
        for folder in (part, records):
            folder.mkdir(exist_ok=True)
        for file in part.iterdir():  # a run killed at its very end leaves all manner of it
            if file.suffix != ".npy":
                file.unlink()
        for what in rows:
            _reserve(part / f"{what}.npy", what, len(self.places))
        for _ in range(2):
            found = self._facts(part, records, rows, old)
            damaged = self.damaged(Store(part, found, tiles))
            if not damaged:
                break
            for i in damaged:  # what a power cut may leave of a block that has its record
                _record(records, i - i % BLOCK).unlink(missing_ok=True)
        else:
            raise FusionkitError(f"{part}: what is written here reads otherwise; the disk may be broken")
        complete(part, found, self.places, rows)
        if path.exists():
            path.rename(path.with_name(f"{path.name}.old.part"))
        part.rename(path)
        return Store(path, found, tiles)

    def damaged(self, store: Store) -> list[int]:
        """The rows that are not as their checksums say."""
        what = ["visits", "tiles"] if store.has_tiles else ["visits"]
        sums = (store.facts.sums[start : start + BLOCK] for start in self._starts())
        jobs = (
            (store.path, what, start, len(self.places), part) for start, part in zip(self._starts(), sums, strict=True)
        )
        return sorted(row for rows in self._each("verifying", check, jobs) for row in rows)

    def still_failing(self, store: Store) -> bool:
        """Whether the visit files that could not be read still cannot be."""
        failed = (store.facts.stamps[:, 3] == FAILED) & (self.stamps[:, 3] != FAILED)
        for i in np.flatnonzero(failed).tolist():
            try:
                (self.root / (self.places[i].visits or "")).read_bytes()
            except OSError:
                continue
            return False
        return True

    def _facts(self, part: Path, records: Path, rows: list[Rows], old: Store | None) -> Facts:
        """What is in the files, block by block, from the records as far as there are any."""
        missing = [start for start in self._starts() if Facts.load(_record(records, start)) is None]
        known = _rows_of(self.ids, old) if old else None

        def blocks() -> Iterator[tuple[Block]]:
            for start in missing:
                here = slice(start, start + BLOCK)
                block = Block(
                    start=start,
                    total=len(self.places),
                    root=self.root,
                    places=self.places[here],
                    ids=self.ids[here],
                    stamps=self.stamps[here],
                    rows=rows,
                    folder=part,
                    record=_record(records, start),
                )
                yield (block if old is None or known is None else block.with_earlier(old, known[here]),)

        for _ in self._each("reading", convert, blocks(), len(self._starts()) - len(missing)):
            pass
        found = [Facts.load(_record(records, start)) for start in self._starts()]
        return Facts.join([facts for facts in found if facts])

    def _starts(self) -> range:
        return range(0, len(self.places), BLOCK)

    def _each(
        self, what: str, function: Callable[..., Any], jobs: Iterable[tuple[Any, ...]], done: int = 0
    ) -> Iterator[Any]:
        """Call the function for each block, on all workers; results come in any order."""
        parallel = Parallel(self.workers, return_as="generator_unordered", batch_size=1, max_nbytes=None)
        try:
            for result in parallel(delayed(work_for)(os.getpid(), function, *job) for job in jobs):
                done += 1
                self.progress(what, min(done * BLOCK, len(self.places)), len(self.places))
                yield result
        except TerminatedWorkerError as error:
            raise FusionkitError(
                "a worker process was killed, perhaps for want of memory; what is done is kept: start again, "
                "with fewer workers"
            ) from error


def _unfinished(path: Path, *, tiles: bool) -> tuple[Path, Path]:
    """The folders of a store that is being made: its rows, and the records of its blocks."""
    name = f"{path.name}-{'tiles' if tiles else 'visits'}"
    return path.with_name(f"{name}.part"), path.with_name(f"{name}.records.part")


def _record(records: Path, start: int) -> Path:
    return records / f"{start:07d}.npz"


def _reserve(path: Path, what: Rows, count: int) -> None:
    """A file for `count` rows, whose blocks are written later, in any order."""
    size = row_start(what, count, count)
    if not path.exists() or path.stat().st_size != size:
        with path.open("wb") as file:
            file.write(npy_header(what, count))
            file.truncate(size)


def _rows_of(ids: np.ndarray, store: Store) -> np.ndarray:
    """The row that each place has in a store, -1 where it has none. Both are in the order of their ids."""
    rows = np.minimum(np.searchsorted(store.facts.ids, ids), len(store.facts.ids) - 1)
    return np.where(store.facts.ids[rows] == ids, rows, -1)


def _newest(folder: Path) -> Store | None:
    """The latest store of the same root."""
    stores = [path for path in folder.iterdir() if path.is_dir() and path.suffix != ".part"]
    for path in sorted(stores, key=lambda path: path.stat().st_mtime, reverse=True):
        if store := load_store(path):
            return store
    return None


def _remove_others(folder: Path, keep: set[Path]) -> None:
    for path in folder.iterdir():
        if path not in keep and path.is_dir():
            shutil.rmtree(path)
