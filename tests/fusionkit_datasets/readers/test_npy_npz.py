"""npy and npz files: equal to NumPy's own reading, and refused where damaged or pickled."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from fusionkit_datasets.readers import header, load, load_facts
from fusionkit_datasets.references import FileRef

from fusionkit.errors import DataError

ARRAYS = {
    "float": np.random.default_rng(0).normal(size=(4, 3, 5)),
    "fortran": np.asfortranarray(np.arange(24, dtype=np.int16).reshape(4, 6)),
    "big_endian": np.arange(6, dtype=">f4").reshape(2, 3),
    "bool": np.array([True, False]),
}


def ref(text: str) -> FileRef:
    return FileRef.model_validate_json(f'"{text}"')


@pytest.mark.parametrize("name", ARRAYS)
def test_same_as_numpy(name: str, tmp_path: Path):
    np.save(tmp_path / "a.npy", ARRAYS[name])
    np.savez_compressed(tmp_path / "a.npz", **ARRAYS)
    for one in ("a.npy", f"a.npz:{name}"):
        assert header(tmp_path, ref(one)).shape == ARRAYS[name].shape
        found = load(tmp_path, ref(one))
        np.testing.assert_array_equal(found, ARRAYS[name])
        assert found.dtype == ARRAYS[name].dtype


def test_npy_is_mapped_not_loaded(tmp_path: Path):
    np.save(tmp_path / "a.npy", ARRAYS["float"])
    found = load(tmp_path, ref("a.npy"))
    assert isinstance(found.base, np.memmap)
    assert type(found) is np.ndarray  # slices of a memmap itself are slow


def test_the_only_array_needs_no_key(tmp_path: Path):
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    assert load(tmp_path, ref("a.npz")).tolist() == [0, 1, 2]


def test_words(tmp_path: Path):
    np.savez(tmp_path / "a.npz", unicode=np.array(["ä", "b"]), bytes=np.array([b"x", b"yz"]))
    assert load_facts(tmp_path, ref("a.npz:unicode")).tolist() == ["ä", "b"]
    assert load_facts(tmp_path, ref("a.npz:bytes")).tolist() == ["x", "yz"]


def test_every_truncation_of_npy_is_refused(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.arange(5.0))
    data = (tmp_path / "a.npy").read_bytes()
    for length in range(len(data)):
        (tmp_path / "a.npy").write_bytes(data[:length])
        with pytest.raises(DataError):
            load(tmp_path, ref("a.npy"))
    (tmp_path / "a.npy").write_bytes(data + b"\0")
    with pytest.raises(DataError, match="damaged"):
        load(tmp_path, ref("a.npy"))


def test_damaged_npz_is_refused(tmp_path: Path):
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=200))
    data = (tmp_path / "a.npz").read_bytes()
    for broken in [data[: len(data) // 2], data[:-30], data[:300] + bytes([data[300] ^ 255]) + data[301:]]:
        (tmp_path / "a.npz").write_bytes(broken)
        with pytest.raises(DataError, match="cannot be read"):
            load(tmp_path, ref("a.npz:x"))


def test_a_changed_byte_of_a_stored_array_is_noticed(tmp_path: Path):
    np.savez(tmp_path / "a.npz", x=np.arange(50.0))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[data.index(np.arange(50.0)[7:9].tobytes())] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(DataError, match="CRC"):
        load(tmp_path, ref("a.npz:x"))


def test_a_header_that_promises_too_much_allocates_nothing(tmp_path: Path):
    huge = np.lib.format
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open("x.npy", "w") as file:
        huge.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**3)})
    with pytest.raises(DataError, match="truncated"):
        load(tmp_path, ref("a.npz:x"))


def test_pickles_are_never_loaded(tmp_path: Path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    trap = np.array([Trap()], dtype=object)
    np.save(tmp_path / "a.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=trap)
    for one in ("a.npy", "a.npz:x"):
        for read in (header, load, load_facts):
            with pytest.raises(DataError, match="holds Python objects"):
                read(tmp_path, ref(one))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, 3)), "empty: 0 x 3"),
        (np.array(["a"]), "holds text"),
        (np.array([1j]), "is complex"),
        (np.array(["2020-01-01"], dtype="M8[D]"), "holds datetime"),
        (np.zeros(2, dtype=[("a", "f4"), ("b", "i2")]), "fields a, b"),
    ],
)
def test_what_is_no_numbers_is_refused(array: np.ndarray, message: str, tmp_path: Path):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=message):
        header(tmp_path, ref("a.npy"))


def test_missing_things_are_named(tmp_path: Path):
    np.savez(tmp_path / "crowns.npz", hsi=np.zeros(2), rgb=np.zeros(2))
    np.save(tmp_path / "empty.npy", np.zeros(2))
    (tmp_path / "empty.npy").write_bytes(b"")
    for text, message in {
        "crowns.npz:his": "no array 'his'; did you mean 'hsi'.*holds hsi, rgb",
        "crowns.npz:zzz": "no array 'zzz'; choose from hsi, rgb",
        "crowns.npz": "several arrays.*hsi, rgb",
        "crown.npz:hsi": "no such file; did you mean 'crowns.npz'",
        "empty.npy": "empty",
        "empty.npy:x": "no key",
        "crowns.xyz": "suffix",
    }.items():
        with pytest.raises(DataError, match=message):
            load(tmp_path, ref(text))
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(DataError, match="folder"):
        load(tmp_path, ref("folder.npy"))


def test_keys_of_text_files_are_refused_elsewhere(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.zeros(2))
    with pytest.raises(DataError, match="`column` is for text"):
        load(tmp_path, FileRef(file=Path("a.npy"), column=1))
