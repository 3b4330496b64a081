"""Reads arrays from npy, npz, MATLAB, HDF5 and delimited text files. Nothing is ever unpickled."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from fusionkit.errors import DataError
from fusionkit_datasets.readers.common import Header, check_numbers, listed, reading
from fusionkit_datasets.references import FileRef, Format

if TYPE_CHECKING:
    from fusionkit_datasets.readers.hdf5 import ChunkedArray

SUFFIXES: dict[str, Format] = {
    ".npy": "npy",
    ".npz": "npz",
    ".mat": "mat",
    **dict.fromkeys((".h5", ".hdf5", ".hdf", ".he5"), "hdf5"),
    **dict.fromkeys((".csv", ".tsv", ".txt", ".list", ".dat", ".data"), "text"),
    **dict.fromkeys((".tif", ".tiff", ".vrt", ".img", ".jp2", ".png", ".asc", ".bil", ".bip", ".bsq"), "raster"),
}
_MODULES: dict[Format, str] = {"npy": "npy", "npz": "npz", "mat": "matlab", "hdf5": "hdf5", "text": "text"}
_TEXT_ONLY = ("column", "columns", "delimiter", "header")
_WITHOUT_KEYS = {"npy", "raster"}


class Reader(Protocol):
    """What the module of each format offers."""

    @staticmethod
    def header(path: Path, ref: FileRef) -> Header: ...

    @staticmethod
    def load(path: Path, ref: FileRef) -> np.ndarray: ...


def format_of(ref: FileRef) -> Format:
    """The format that the reference names, else that of the file's suffix.

    Raises:
        DataError: the suffix says nothing, or the reference has keys that do not go with the format.
    """
    suffix = ref.file.suffix.lower()
    if ref.format is None and suffix not in SUFFIXES:
        raise DataError(f"the suffix {suffix!r} is not one of {listed(SUFFIXES, 99)}; say its `format`", ref.file)
    kind = ref.format or SUFFIXES[suffix]
    for option in _TEXT_ONLY:
        if kind != "text" and getattr(ref, option) is not None:
            raise DataError(f"`{option}` is for text files", ref.file)
    if kind in _WITHOUT_KEYS and ref.key is not None:
        raise DataError(f"such a file ({kind}) has no key, here {ref.key!r}", ref.file)
    return kind


def header(root: Path, ref: FileRef) -> Header:
    """Shape and type of an array of numbers, without reading it.

    Raises:
        DataError: it is missing, damaged, empty, or does not hold numbers.
    """
    found = _reader(ref).header(root / ref.file, ref)
    check_numbers(found.dtype, str(ref), root / ref.file)
    return found


def load(root: Path, ref: FileRef) -> np.ndarray:
    """An array of numbers; mapped from the file where that is possible.

    Raises:
        DataError: as for `header`.
    """
    values = _reader(ref).load(root / ref.file, ref)
    check_numbers(values.dtype, str(ref), root / ref.file)
    return values


def load_or_leave(root: Path, ref: FileRef) -> np.ndarray | ChunkedArray:
    """As `load`; a large compressed array of an HDF5 file stays there and is read position by position."""
    if format_of(ref) != "hdf5":
        return load(root, ref)
    from fusionkit_datasets.readers import hdf5

    values = hdf5.load_or_leave(root / ref.file, ref)
    check_numbers(values.dtype, str(ref), root / ref.file)
    return values


def load_facts(root: Path, ref: FileRef, *, words: bool = False) -> np.ndarray:
    """An array of numbers or text; from a text file, numbers only where every field is one.

    Args:
        root, ref: where it is.
        words: fields of a text file stay as they are written.

    Raises:
        DataError: it is missing, damaged or empty.
    """
    if format_of(ref) == "text":
        from fusionkit_datasets.readers import text

        field = text.load_words(root / ref.file, ref)
        return field if words else text.typed(field)
    values = _reader(ref).load(root / ref.file, ref)
    if values.dtype.kind == "S":
        with reading(root / ref.file):
            values = np.char.decode(values, "utf-8")
    if values.dtype.kind not in "biufU":
        raise DataError(f"{ref} holds {values.dtype}, neither numbers nor words", root / ref.file)
    return values


def _reader(ref: FileRef) -> Reader:
    """The module for the reference's format; h5py and SciPy are imported only where they are needed."""
    if (name := format_of(ref)) == "raster":
        raise DataError("a raster is no array of samples; use the dataset `patches` or `table`", ref.file)
    return cast(Reader, import_module(f"fusionkit_datasets.readers.{_MODULES[name]}"))
