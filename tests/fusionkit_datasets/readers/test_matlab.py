"""MATLAB files: both generations give the same array, equal to SciPy's and to the one written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from fusionkit_datasets.readers import header, load, load_facts
from fusionkit_datasets.references import FileRef

from fusionkit.errors import DataError

CUBE = np.random.default_rng(0).normal(size=(5, 4, 3))
VARIABLES = {
    "cube": CUBE,
    "whole": np.arange(12.0).reshape(3, 4),  # MATLAB packs such doubles into bytes
    "bytes": np.arange(6, dtype=np.uint8).reshape(2, 3),
    "mask": np.array([[True, False, True]]),
}


def ref(text: str) -> FileRef:
    return FileRef.model_validate_json(f'"{text}"')


@pytest.fixture
def both(tmp_path: Path, save73) -> list[Path]:
    for compressed in (False, True):
        scipy.io.savemat(tmp_path / f"old{int(compressed)}.mat", VARIABLES, do_compression=compressed)
    save73(tmp_path / "new.mat", **VARIABLES)
    return [tmp_path / "old0.mat", tmp_path / "old1.mat", tmp_path / "new.mat"]


@pytest.mark.parametrize("name", VARIABLES)
def test_both_generations_give_the_array_that_was_written(name: str, both: list[Path]):
    for path in both:
        found = load(path.parent, ref(f"{path.name}:{name}"))
        np.testing.assert_array_equal(found, VARIABLES[name])
        assert found.dtype == VARIABLES[name].dtype
        told = header(path.parent, ref(f"{path.name}:{name}"))
        assert (told.shape, told.dtype) == (found.shape, found.dtype)


def test_version_4(tmp_path: Path):
    scipy.io.savemat(tmp_path / "a.mat", {"x": np.arange(6.0).reshape(2, 3)}, format="4")
    np.testing.assert_array_equal(load(tmp_path, ref("a.mat:x")), scipy.io.loadmat(tmp_path / "a.mat")["x"])


def test_words_of_both_generations(tmp_path: Path, save73):
    scipy.io.savemat(tmp_path / "old.mat", {"names": np.array([["oak", "pine"]], object), "name": "elm"})
    save73(tmp_path / "new.mat", names=["oak", "pine"], name="elm")
    for file in ("old", "new"):
        assert load_facts(tmp_path, ref(f"{file}.mat:names")).ravel().tolist() == ["oak", "pine"]
        assert load_facts(tmp_path, ref(f"{file}.mat:name")).tolist() == ["elm"]
        with pytest.raises(DataError, match="holds text"):
            load(tmp_path, ref(f"{file}.mat:names"))


def test_sparse(tmp_path: Path):
    matrix = np.eye(4) * 3
    scipy.io.savemat(tmp_path / "a.mat", {"x": scipy.sparse.csc_matrix(matrix)})
    np.testing.assert_array_equal(load(tmp_path, ref("a.mat:x")), matrix)


def test_structures_are_refused(tmp_path: Path):
    scipy.io.savemat(tmp_path / "a.mat", {"s": {"x": 1}, "c": np.array([np.zeros(3), "a"], object)})
    with pytest.raises(DataError, match="s is a struct"):
        load(tmp_path, ref("a.mat:s"))
    with pytest.raises(DataError, match="other things than words"):
        load_facts(tmp_path, ref("a.mat:c"))


def test_missing_key_lists_the_variables_but_not_what_cells_point_to(tmp_path: Path, save73):
    save73(tmp_path / "new.mat", cube=CUBE, names=["oak", "elm"])
    with pytest.raises(DataError, match=r"'cubes'; did you mean 'cube'\? The file holds cube, names$"):
        load(tmp_path, ref("new.mat:cubes"))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated(share: float, both: list[Path]):
    for path in both:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DataError):
            load(path.parent, ref(f"{path.name}:mask"))


def test_no_mat_file(tmp_path: Path):
    (tmp_path / "a.mat").write_bytes(b"hello, this is no MATLAB file at all" * 10)
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path, ref("a.mat:x"))


def test_empty(tmp_path: Path):
    scipy.io.savemat(tmp_path / "a.mat", {"x": np.zeros((0, 3))})
    with pytest.raises(DataError, match="x is empty"):
        header(tmp_path, ref("a.mat:x"))
