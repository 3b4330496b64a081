"""MATLAB files of both generations: up to version 7 through SciPy, version 7.3, which is HDF5, through h5py.

Both give the same array. HDF5 stores MATLAB's axes in reverse; they are turned back here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import scipy.sparse

from fusionkit.errors import DataError
from fusionkit_datasets.readers.common import Header, check_header, choose_key, reading
from fusionkit_datasets.readers.hdf5 import array_names
from fusionkit_datasets.references import FileRef

_NUMBERS = {"double": "f8", "single": "f4", "logical": "?", "sparse": "f8"} | {
    f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_TEXT = {"char", "cell"}


def header(path: Path, ref: FileRef) -> Header:
    with reading(path):
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                key = choose_key(ref.key, _variables(file), path)
                return check_header(_header73(file[key], key, path), key, path)
        variables = {name: (shape, kind) for name, shape, kind in scipy.io.whosmat(path)}
        key = choose_key(ref.key, list(variables), path)
        shape, kind = variables[key]
        return check_header(Header(shape, _dtype(kind, key, path)), key, path)


def load(path: Path, ref: FileRef) -> np.ndarray:
    header(path, ref)
    with reading(path):
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                key = choose_key(ref.key, _variables(file), path)
                return _value73(file, file[key], key, path)
        key = choose_key(ref.key, [name for name, _, _ in scipy.io.whosmat(path)], path)
        # MATLAB packs whole-numbered doubles into bytes; `mat_dtype` gives back the type that they had.
        value: Any = scipy.io.loadmat(path, variable_names=[key], mat_dtype=True)[key]
        if scipy.sparse.issparse(value):
            return value.toarray()
        return _words(value, key, path) if value.dtype == object else value


def _dtype(kind: str, key: str, path: Path) -> np.dtype:
    if kind in _TEXT:
        return np.dtype(np.str_)
    if kind not in _NUMBERS:
        raise DataError(f"{key} is a {kind}; save what it holds as arrays of their own", path)
    return np.dtype(_NUMBERS[kind])


def _words(cells: np.ndarray, key: str, path: Path) -> np.ndarray:
    """A cell array of words as an array of text."""
    words = [cell for cell in cells.ravel() if isinstance(cell, np.ndarray) and cell.dtype.kind == "U"]
    if len(words) != cells.size or any(word.size > 1 for word in words):
        raise DataError(f"{key} is a cell array of other things than words; save it as an array", path)
    return np.array([str(word.item()) if word.size else "" for word in words]).reshape(cells.shape)


def _variables(file: h5py.File) -> list[str]:
    return [name for name in array_names(file) if not name.startswith("#")]  # #refs# holds what cells point to


def _kind73(data: h5py.Dataset) -> str:
    kind = data.attrs.get("MATLAB_class", b"double")
    return kind.decode() if isinstance(kind, bytes) else str(kind)


def _header73(data: h5py.Dataset, key: str, path: Path) -> Header:
    if "MATLAB_empty" in data.attrs:
        raise DataError(f"{key} is empty", path)
    if _kind73(data) == "char":
        return Header(data.shape[1:], np.dtype(np.str_))
    return Header(data.shape[::-1], _dtype(_kind73(data), key, path))


def _value73(file: h5py.File, data: h5py.Dataset, key: str, path: Path) -> np.ndarray:
    kind = _kind73(data)
    if kind == "char":
        return np.array(["".join(map(chr, row)).rstrip() for row in data[()].T])
    if kind == "cell":
        cells = data[()].T
        words = [file[reference] for reference in cells.ravel()]
        if any(_kind73(word) != "char" for word in words):
            raise DataError(f"{key} is a cell array of other things than words; save it as an array", path)
        texts = ["" if "MATLAB_empty" in word.attrs else "".join(map(chr, word[()].T.ravel())) for word in words]
        return np.array(texts).reshape(cells.shape)
    return data[()].T.astype(bool) if kind == "logical" else data[()].T
