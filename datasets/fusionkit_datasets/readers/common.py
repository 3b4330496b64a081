"""What all readers share: checks of a path, of a key, of a kind of values, and one sentence for whatever goes wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusionkit.errors import DataError, suggestion


@dataclass(frozen=True)
class Header:
    """What a file's header says of an array.

    Args:
        shape: -1 for the rows of a text file, which only reading tells.
        dtype: of the values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype


@contextmanager
def blamed_on(*option: str | int) -> Iterator[None]:
    """Say which option of the dataset led to a `DataError`."""
    try:
        yield
    except DataError as error:
        if not error.option:
            error.option = option
        raise


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Check that a file is there, and turn whatever reading it raises into a `DataError`."""
    check_file(path)
    try:
        yield
    except DataError:
        raise
    # A damaged file makes the libraries raise almost anything: struct.error, zlib.error, KeyError, TypeError, ...
    except Exception as error:
        raise DataError(f"cannot be read: {str(error) or type(error).__name__}", path) from error


def check_file(path: Path) -> None:
    """Raise a `DataError` where there is no file, or an empty one."""
    if path.is_dir():
        raise DataError("is a folder, not a file", path)
    if not path.is_file():
        folder = path.parent
        near = suggestion(path.name, (other.name for other in folder.iterdir())) if folder.is_dir() else ""
        raise DataError(f"there is no such file{near if 'did you mean' in near else ''}", path)
    if path.stat().st_size == 0:
        raise DataError("the file is empty (0 bytes)", path)


def choose_key(key: str | None, known: Sequence[str], path: Path) -> str:
    """The array that is meant: the one named, or the only one.

    Raises:
        DataError: it is not there, or there are several and none is named.
    """
    if not known:
        raise DataError("holds no arrays", path)
    if key is None:
        if len(known) > 1:
            raise DataError(f"holds several arrays, say which: {path.name}:KEY with KEY of {listed(known)}", path)
        return known[0]
    if key not in known:
        near = suggestion(key, known)
        holds = f" The file holds {listed(known)}" if "did you mean" in near else ""
        raise DataError(f"there is no array {key!r}{near}{holds}", path)
    return key


def listed(names: Iterable[object], most: int = 20) -> str:
    """The first names, and a sign that there are more."""
    words = [str(name) for name in names]
    return ", ".join(words[:most]) + (", ..." if len(words) > most else "")


def check_header(header: Header, name: str, path: Path) -> Header:
    """Refuse arrays that hold nothing, or what is neither number nor text.

    Raises:
        DataError: see above.
    """
    dtype = header.dtype
    if dtype.names:
        raise DataError(f"{name} is a table with fields {listed(dtype.names)}, not an array", path)
    if dtype.hasobject:
        raise DataError(
            f"{name} holds Python objects (a pickle), which are never loaded; save it as numbers or text", path
        )
    if 0 in header.shape:
        raise DataError(f"{name} is empty: {by(header.shape)}", path)
    return header


def check_numbers(dtype: np.dtype, name: str, path: Path) -> None:
    """Refuse arrays that no encoder can read.

    Raises:
        DataError: complex numbers, text, dates.
    """
    if dtype.kind == "c":
        raise DataError(f"{name} is complex; store real and imaginary part, or amplitude, as channels", path)
    if dtype.kind not in "biuf":
        what = "text" if dtype.kind in "SU" else str(dtype)
        raise DataError(f"{name} holds {what}; a modality is made of numbers", path)


def by(shape: Iterable[int]) -> str:
    """A shape in words: `2 x 3`."""
    return " x ".join(map(str, shape))
