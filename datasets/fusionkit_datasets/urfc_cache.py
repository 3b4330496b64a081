"""What was found in the files of URFC, kept from one run to the next: visit counts, blank tiles, bad lines.

Each root has one folder in the cache. In it two files carry the same key, made of every place's id and of the sizes and
times of its files: `KEY.npy` holds the counts, uint16 `[places, 7, 26, 24]`, mapped into memory, `KEY.npz` the rest.
Both are written beside their places and renamed into them, so two processes may build the same cache at once. When
files change, what is known of the others is taken over.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO

import numpy as np

from fusionkit.errors import BadSample, DataError
from fusionkit_datasets.urfc_files import Place, blankness, read_tile
from fusionkit_datasets.urfc_visits import SHAPE, BadLine, count_visits

VERSION = "1"
"""Raise it when the same files come to be read otherwise: caches of another version are not looked at."""

_ABSENT, _FAILED = -1, -2  # in place of a size and a time; what failed is tried again the next time
_MOST = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class Facts:
    """What was found in the files of n places.

    Args:
        ids: `[n]` the places, as bytes.
        stamps: `[n, 4]` size and time in ns of the tile, then of the visit file.
        blank: `[n]` what `urfc_files.blankness` says of the tile.
        has_visits: `[n]` whether any visit was counted.
        digest: `[n]` 16 bytes that are equal where the counts are.
        bad_place: `[b]` the place of each bad visit file or line, as its position.
        bad_line: `[b]` line number, or 0 for the file as a whole.
        bad_reason: `[b]` what is wrong.
    """

    ids: np.ndarray
    stamps: np.ndarray
    blank: np.ndarray
    has_visits: np.ndarray
    digest: np.ndarray
    bad_place: np.ndarray
    bad_line: np.ndarray
    bad_reason: np.ndarray


def default_cache() -> Path:
    """The user's cache folder; data often lies where its reader may not write."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fusionkit"


def gather(
    root: Path, places: list[Place], cache: Path, progress: Callable[[int, int], None] | None = None
) -> tuple[Facts, Path]:
    """Find out what is in the files of `places`: from the cache where they are as they were, else by reading them.

    Returns:
        The facts, and the file of the counts for `open_counts`.

    Raises:
        DataError: the cache cannot be written.
    """
    ids = np.array([place.id.encode() for place in places])
    stamps = np.array([_stamp(root, place.image) + _stamp(root, place.visits) for place in places], np.int64)
    key = _digest(ids.tobytes(), stamps.tobytes()).hex()
    folder = cache / f"urfc-{_digest(VERSION.encode(), os.fsencode(root.resolve())).hex()}"
    counts_file = folder / f"{key}.npy"
    known = _load(counts_file)
    if known and not (known.stamps == _FAILED).any():
        return known, counts_file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(folder)
        facts = _build(root, places, ids, stamps, counts_file, progress)
        with _replacing(counts_file.with_suffix(".npz")) as file:
            np.savez(file, allow_pickle=False, **vars(facts))
        _remove_others(folder, key)
    except OSError as error:
        raise DataError(
            f"the counted visits cannot be kept here: {error.strerror}; name another folder with `cache`",
            folder,
            option=("cache",),
        ) from error
    return facts, counts_file


def open_counts(path: Path) -> np.ndarray:
    """The counts, mapped into memory: uint16 `[n, 7, 26, 24]`."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _build(
    root: Path,
    places: list[Place],
    ids: np.ndarray,
    stamps: np.ndarray,
    counts_file: Path,
    progress: Callable[[int, int], None] | None,
) -> Facts:
    n = len(places)
    old = _newest(counts_file.parent)
    stamps, blank, digest = stamps.copy(), np.zeros(n, np.uint8), np.zeros(n, "V16")
    has_visits = np.zeros(n, bool)
    bad: list[tuple[int, BadLine]] = []
    header = {"descr": "<u2", "fortran_order": False, "shape": (n, *SHAPE)}
    with _replacing(counts_file) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for i, place in enumerate(places):
            if old and (row := old.find(ids[i], stamps[i])) is not None:
                counts, lines, blank[i] = old.counts[row], old.bad[row], old.facts.blank[row]
            else:
                blank[i] = _blankness(root, place)
                counts, lines = _read_visits(root, place)
                if counts is None:
                    stamps[i, 3] = _FAILED
                    counts = np.zeros(SHAPE, np.uint16)
            has_visits[i] = counts.any()
            digest[i] = _digest(counts.tobytes())
            bad += [(i, line) for line in lines]
            file.write(counts.tobytes())
            if progress:
                progress(i + 1, n)
    return Facts(
        ids=ids,
        stamps=stamps,
        blank=blank,
        has_visits=has_visits,
        digest=digest,
        bad_place=np.array([i for i, _ in bad], np.int64),
        bad_line=np.array([line.line for _, line in bad], np.int64),
        bad_reason=np.array([line.reason for _, line in bad], np.str_),
    )


def _blankness(root: Path, place: Place) -> int:
    if place.image is None:
        return 0
    try:
        return blankness(read_tile(root / place.image))
    except BadSample:
        return 0  # found, and told, by whoever reads the sample


def _read_visits(root: Path, place: Place) -> tuple[np.ndarray | None, list[BadLine]]:
    """Counts as uint16, or None if the file could not be read, and what is wrong."""
    nothing = np.zeros(SHAPE, np.uint16)
    if place.visits is None:
        return nothing, []
    try:
        data = (root / place.visits).read_bytes()
    except OSError as error:
        return None, [BadLine(0, f"the visit file cannot be read: {error.strerror}")]
    if not data.strip():
        return nothing, [BadLine(0, "the visit file is empty")]
    counts, bad = count_visits(data)
    if counts.max() > _MOST:
        return nothing, [*bad, BadLine(0, f"more than {_MOST} visits in one hour")]
    if not counts.any():
        bad.append(BadLine(0, "the visit file has no good line"))
    return counts.astype(np.uint16), bad


class _Old:
    """An earlier cache of the same root, by place."""

    def __init__(self, facts: Facts, counts: np.ndarray):
        self.facts, self.counts = facts, counts
        self.rows = {place: row for row, place in enumerate(facts.ids.tolist())}
        self.bad: list[list[BadLine]] = [[] for _ in self.rows]
        for row, line, reason in zip(facts.bad_place, facts.bad_line, facts.bad_reason, strict=True):
            self.bad[row].append(BadLine(int(line), str(reason)))

    def find(self, place: bytes, stamp: np.ndarray) -> int | None:
        """The row of a place whose files are as they were."""
        row = self.rows.get(bytes(place))
        return row if row is not None and np.array_equal(self.facts.stamps[row], stamp) else None


def _newest(folder: Path) -> _Old | None:
    for path in sorted(folder.glob("*.npy"), key=lambda path: path.stat().st_mtime, reverse=True):
        if facts := _load(path):
            return _Old(facts, open_counts(path))
    return None


def _load(counts_file: Path) -> Facts | None:
    """The facts that belong to a file of counts; None where either is missing or went bad."""
    try:
        counts = open_counts(counts_file)
        with np.load(counts_file.with_suffix(".npz"), allow_pickle=False) as file:
            facts = Facts(**{field.name: file[field.name] for field in fields(Facts)})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return facts if counts.shape == (len(facts.ids), *SHAPE) and counts.dtype == np.uint16 else None


def _stamp(root: Path, path: str | None) -> tuple[int, int]:
    if path is None:
        return _ABSENT, _ABSENT
    try:
        status = os.stat(root / path)
    except OSError:
        return _FAILED, _FAILED
    return status.st_size, status.st_mtime_ns


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes its place only when it is whole."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _remove_others(folder: Path, key: str) -> None:
    for path in folder.glob("*.np[yz]"):
        if path.stem != key:
            path.unlink(missing_ok=True)


def _remove_left_behind(folder: Path) -> None:
    """Remove what killed processes left half-written, a day ago or longer."""
    for path in folder.glob("*.part"):
        if path.stat().st_mtime < time.time() - 86400:
            path.unlink(missing_ok=True)
