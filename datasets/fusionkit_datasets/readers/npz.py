"""npz files: zip archives of npy files, loaded, never unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from fusionkit_datasets.readers.common import Header, choose_key, reading
from fusionkit_datasets.readers.npy import read_header
from fusionkit_datasets.references import FileRef


def header(path: Path, ref: FileRef) -> Header:
    with reading(path), zipfile.ZipFile(path) as archive:
        return _header(archive, _member(archive, ref, path), path)


def load(path: Path, ref: FileRef) -> np.ndarray:
    with reading(path), zipfile.ZipFile(path) as archive:
        member = _member(archive, ref, path)
        _header(archive, member, path)
        with archive.open(member) as file:
            return npy.read_array(file, allow_pickle=False)


def _member(archive: zipfile.ZipFile, ref: FileRef, path: Path) -> zipfile.ZipInfo:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if not info.is_dir()}
    return members[choose_key(ref.key, list(members), path)]


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Header:
    with archive.open(member) as file:
        return read_header(file, member.file_size, member.filename.removesuffix(".npy"), path)
