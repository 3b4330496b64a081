"""Raw labels to class indices, against scikit-learn's encoders where they do the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fusionkit_datasets.labels import encode, read_names, unique
from fusionkit_datasets.references import FileRef
from sklearn.preprocessing import LabelBinarizer, LabelEncoder

from fusionkit.errors import DataError

RANDOM = np.random.default_rng(0)


def run(raw, *, classes=None, ignore=(), names=None):
    targets, found = encode(np.asarray(raw), classes=classes, ignore=ignore, names=names)
    assert targets.dtype == np.int64
    return targets.tolist(), found


@pytest.mark.parametrize(
    "raw",
    [
        RANDOM.integers(1, 5, 50),
        RANDOM.integers(-3, 300, 50).astype(np.int16),
        RANDOM.choice(["oak", "elm", "ash 2"], 50),
        RANDOM.integers(0, 2, 50).astype(bool),
        RANDOM.integers(1, 12, 50).astype(np.float64),
    ],
    ids=["from one", "gaps", "words", "bool", "MATLAB doubles"],
)
def test_same_as_scikit_learn(raw: np.ndarray):
    encoder = LabelEncoder()
    expected = encoder.fit_transform(raw)
    targets, names = run(raw)
    assert targets == expected.tolist()
    assert names == tuple(str(int(c)) if raw.dtype.kind in "bf" else str(c) for c in encoder.classes_)


def test_one_hot():
    raw = RANDOM.permutation(np.repeat(np.arange(4), 5))
    targets, names = run(LabelBinarizer().fit_transform(raw))
    assert targets == raw.tolist()
    assert names == ("0", "1", "2", "3")


def test_a_one_hot_column_without_samples_is_a_class():
    assert run(np.eye(4)[[0, 3]]) == ([0, 3], ("0", "1", "2", "3"))


def test_ignored_and_missing():
    assert run([-1, 2, 5, 2], ignore=[-1]) == ([-1, 0, 1, 0], ("2", "5"))
    assert run([np.nan, 2.0, 5.0]) == ([-1, 0, 1], ("2", "5"))
    assert run(["", "b", "unknown", "a"], ignore=["unknown"]) == ([-1, 1, -1, 0], ("a", "b"))


def test_classes_give_the_order_and_may_be_empty():
    assert run([7, 3, 7], classes=[7, 5, 3]) == ([0, 2, 0], ("7", "5", "3"))
    assert run([7, 3], classes=[7, 5, 3], names=["a", "b", "c"]) == ([0, 2], ("a", "b", "c"))


@pytest.mark.parametrize(
    ("raw", "options", "option", "message"),
    [
        ([-1, -1], {"ignore": [-1]}, (), "no sample has a label"),
        ([np.nan], {}, (), "no sample has a label"),
        ([0.5, 1], {}, (), "they hold 0.5"),
        ([[1, 1], [0, 1]], {}, (), "row 0 has not exactly one 1"),
        ([[0, 1], [0, 0]], {}, (), "row 1"),
        ([[0.2, 0.8]], {}, (), "2, so one-hot"),
        ([1, 2, 9], {"classes": [1, 2]}, ("classes",), "hold 9 beside"),
        ([1, 2], {"classes": [1, 2, 1]}, ("classes",), "'1' is listed twice"),
        ([1, 2, 4], {"names": ["a", "b", "c", "d"]}, ("label_names",), r"4 names.*3 values \(1, 2, 4\); list in `cl"),
    ],
)
def test_refused(raw: list, options: dict, option: tuple, message: str):
    with pytest.raises(DataError, match=message) as raised:
        run(raw, **options)
    assert raised.value.option == option


def test_names(tmp_path: Path):
    np.savez(tmp_path / "a.npz", classes=np.array(["oak", "elm"]))
    (tmp_path / "names.txt").write_text("mixed forest\nwater\n")
    (tmp_path / "names.csv").write_text("code,name\n1,007\n2,water\n")
    assert read_names(tmp_path, FileRef(file=Path("a.npz"), key="classes")) == ["oak", "elm"]
    assert read_names(tmp_path, FileRef(file=Path("names.txt"))) == ["mixed forest", "water"]
    assert read_names(tmp_path, FileRef(file=Path("names.csv"), key="name")) == ["007", "water"]
    with pytest.raises(DataError, match="no such file") as raised:
        read_names(tmp_path, FileRef(file=Path("nowhere.txt")))
    assert raised.value.option == ("label_names",)


def test_repeated_ids_are_numbered():
    assert unique(["a", "b", "a", 1, "a"]) == ["a", "b", "a#2", "1", "a#3"]
