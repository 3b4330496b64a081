"""npy files: mapped into memory, never unpickled."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from fusionkit.errors import DataError
from fusionkit_datasets.readers.common import Header, check_header, reading
from fusionkit_datasets.references import FileRef


def header(path: Path, ref: FileRef) -> Header:
    with reading(path), path.open("rb") as file:
        return read_header(file, path.stat().st_size, path.name, path)


def load(path: Path, ref: FileRef) -> np.ndarray:
    header(path, ref)
    with reading(path):
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def read_header(file: IO[bytes], size: int, name: str, path: Path) -> Header:
    """Read a header, and hold what it promises against the file's size before anything is allocated for it."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    header = check_header(Header(shape, dtype), name, path)
    promised = file.tell() + math.prod(shape) * dtype.itemsize
    if promised != size:
        state = "truncated" if size < promised else "damaged"
        raise DataError(f"{name} is {state}: {size} bytes where its header promises {promised}", path)
    return header
