"""HDF5 files: equal to h5py's reading whether mapped, loaded or left in the file."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import h5py
import numpy as np
import pytest
from fusionkit_datasets.readers import hdf5, header, load, load_facts, load_or_leave
from fusionkit_datasets.references import FileRef

from fusionkit.errors import BadSample, DataError

VALUES = np.random.default_rng(0).normal(size=(30, 4, 5)).astype("f4")


def ref(text: str) -> FileRef:
    return FileRef.model_validate_json(f'"{text}"')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["plain"] = VALUES
        file.create_dataset("deep/packed", data=VALUES, chunks=(7, 4, 5), compression="gzip")
        file["words"] = ["ä", "bc"]
        file["fixed"] = np.array([b"x", b"yz"])
        file["flags"] = np.array([True, False])
        file["complex"] = np.zeros(2, complex)
        file["ragged"] = np.array([np.zeros(2), np.zeros(3)], dtype=h5py.vlen_dtype(np.float64))
        file.create_dataset("unwritten", (3, 2), "f4", fillvalue=7)
        file.create_dataset("none", data=h5py.Empty("f4"))
    return tmp_path


@pytest.mark.parametrize("name", ["plain", "deep/packed", "flags", "unwritten"])
def test_same_as_h5py(name: str, root: Path):
    with h5py.File(root / "a.h5") as file:
        expected = file[name][()]
    found = load(root, ref(f"a.h5:{name}"))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype
    assert header(root, ref(f"a.h5:{name}")).shape == expected.shape


def test_behind_a_user_block(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        file["x"] = VALUES
    np.testing.assert_array_equal(load(tmp_path, ref("a.h5")), VALUES)


def test_one_piece_is_mapped(root: Path):
    assert isinstance(load(root, ref("a.h5:plain")).base, np.memmap)


def test_words(root: Path):
    assert load_facts(root, ref("a.h5:words")).tolist() == ["ä", "bc"]
    assert load_facts(root, ref("a.h5:fixed")).tolist() == ["x", "yz"]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("complex", "is complex"),
        ("ragged", "lists or references"),
        ("none", "none is empty"),
        ("words", "holds text"),
        ("packed", "did you mean 'deep/packed'"),
        ("deep", "no array 'deep'"),
    ],
)
def test_refused(key: str, message: str, root: Path):
    with pytest.raises(DataError, match=message):
        load(root, ref(f"a.h5:{key}"))


def test_damaged(root: Path):
    data = (root / "a.h5").read_bytes()
    (root / "a.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        load(root, ref("a.h5:plain"))
    (root / "a.h5").write_bytes(b"no HDF5" * 100)
    with pytest.raises(DataError, match="no HDF5 file"):
        load(root, ref("a.h5:plain"))


@pytest.fixture
def left(root: Path, monkeypatch: pytest.MonkeyPatch) -> hdf5.ChunkedArray:
    monkeypatch.setattr(hdf5, "IN_MEMORY", 100)
    found = load_or_leave(root, ref("a.h5:deep/packed"))
    assert isinstance(found, hdf5.ChunkedArray)
    return found


def test_a_large_packed_array_stays_in_its_file(left: hdf5.ChunkedArray):
    assert left.shape == VALUES.shape
    np.testing.assert_array_equal(left[11], VALUES[11])
    np.testing.assert_array_equal(left.along(2)[3], VALUES[:, :, 3])


def _read(left: hdf5.ChunkedArray, queue) -> None:
    queue.put([left[i] for i in range(len(VALUES))])


def test_it_is_read_by_forked_processes_at_once(left: hdf5.ChunkedArray):
    left[0]  # the file is open when they start
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_read, args=(left, queue)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for _ in workers:
        np.testing.assert_array_equal(queue.get(timeout=30), VALUES)
    for worker in workers:
        worker.join()


def test_each_process_opens_the_file_for_itself(left: hdf5.ChunkedArray, monkeypatch: pytest.MonkeyPatch):
    left[0]
    inherited = left._data
    assert (left[1], left._data)[1] is inherited
    monkeypatch.setattr("os.getpid", lambda: -1)
    np.testing.assert_array_equal(left[2], VALUES[2])
    assert left._data is not inherited


def test_a_damaged_chunk_is_a_bad_sample(root: Path, left: hdf5.ChunkedArray):
    with h5py.File(root / "a.h5") as file:
        where = file["deep/packed"].id.get_chunk_info(1)
    with (root / "a.h5").open("r+b") as raw:
        raw.seek(where.byte_offset)
        raw.write(b"\xff" * where.size)
    left[0]
    with pytest.raises(BadSample, match="deep/packed cannot be read at 7"):
        left[7]
