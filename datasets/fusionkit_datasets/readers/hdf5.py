"""HDF5 files. Arrays stored in one piece are mapped into memory; compressed ones are loaded, or read sample by sample
where they are large."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np

from fusionkit.errors import BadSample, DataError
from fusionkit_datasets.readers.common import Header, check_header, choose_key, reading
from fusionkit_datasets.references import FileRef

IN_MEMORY = 2**30
"""Bytes up to which a compressed array is loaded whole."""


def header(path: Path, ref: FileRef) -> Header:
    with reading(path), _open(path) as file:
        data = _dataset(file, ref, path)
        return _header(data, path)


def load(path: Path, ref: FileRef) -> np.ndarray:
    with reading(path), _open(path) as file:
        data = _dataset(file, ref, path)
        dtype = _header(data, path).dtype
        if h5py.check_string_dtype(data.dtype):
            return np.asarray(data.asstr()[()], dtype=np.str_)
        if (offset := data.id.get_offset()) is not None:
            return np.asarray(np.memmap(path, dtype, "r", offset, data.shape))
        return data[()]


def load_or_leave(path: Path, ref: FileRef) -> np.ndarray | ChunkedArray:
    """As `load`, but an array that is compressed and large stays in its file."""
    with reading(path), _open(path) as file:
        data = _dataset(file, ref, path)
        dtype = _header(data, path).dtype
        if data.chunks and data.nbytes > IN_MEMORY:
            return ChunkedArray(path, data.name, data.shape, dtype)
    return load(path, ref)


class ChunkedArray:
    """An array that stays in its file. Each process opens the file for itself.

    Args:
        path, name: of the array.
        shape, dtype: of the array.
        axis: the one that `[i]` picks from.
    """

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype, axis: int = 0):
        self.path, self.name, self.shape, self.dtype, self.axis = path, name, shape, dtype, axis
        self._process = 0
        self._data: h5py.Dataset | None = None

    def along(self, axis: int) -> ChunkedArray:
        """The same array, picked from another axis."""
        return ChunkedArray(self.path, self.name, self.shape, self.dtype, axis)

    def __getitem__(self, i: int) -> np.ndarray:
        try:
            if self._data is None or self._process != os.getpid():
                self._data, self._process = h5py.File(self.path, "r")[self.name], os.getpid()
            return self._data[(slice(None),) * self.axis + (int(i),)]
        except OSError as error:
            raise BadSample(f"{self.name} cannot be read at {i}: {error}", self.path) from error


def array_names(file: h5py.File) -> list[str]:
    """The path of every array in the file."""
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


def _open(path: Path) -> h5py.File:
    if not h5py.is_hdf5(path):
        raise DataError("is no HDF5 file", path)
    return h5py.File(path, "r")


def _dataset(file: h5py.File, ref: FileRef, path: Path) -> h5py.Dataset:
    return file[choose_key(ref.key and ref.key.strip("/"), array_names(file), path)]


def _header(data: h5py.Dataset, path: Path) -> Header:
    name = data.name.strip("/")
    if h5py.check_string_dtype(data.dtype):
        return check_header(Header(data.shape, np.dtype(np.str_)), name, path)
    if data.dtype.hasobject and not data.dtype.names:
        raise DataError(f"{name} holds lists or references, not numbers or text", path)
    if data.shape is None:
        raise DataError(f"{name} is empty", path)
    return check_header(Header(data.shape, data.dtype), name, path)
