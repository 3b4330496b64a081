"""Raw labels to class indices, against scikit-learn's encoders where they do the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fusionkit_datasets.labels import encode, encode_quantities, encode_several, read_names, unique, units_of
from fusionkit_datasets.references import FileRef
from sklearn.preprocessing import LabelBinarizer, LabelEncoder, MultiLabelBinarizer

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


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float32])
def test_several_labels_are_those_of_scikit_learn(kind: type):
    sets = [{"a", "c"}, {"b"}, set(), {"a", "b", "c"}, {"c"}]
    binarizer = MultiLabelBinarizer()
    expected = binarizer.fit_transform(sets)
    targets, names = encode_several(expected.astype(kind), tuple(binarizer.classes_))
    np.testing.assert_array_equal(targets, expected)
    assert targets.dtype == np.int64
    assert names == ("a", "b", "c")
    assert encode_several(expected.astype(kind), None)[1] == ("0", "1", "2")


def test_rows_without_any_knowledge_of_labels():
    raw = np.array([[1, 0], [np.nan, np.nan], [0, 0]])
    targets, _ = encode_several(raw, None)
    assert targets.tolist() == [[1, 0], [-1, -1], [0, 0]]


@pytest.mark.parametrize(
    ("raw", "names", "option", "message"),
    [
        ([1, 0, 1], None, (), "numbers in rows, 0 or 1 for each label"),
        ([["1", "0"]], None, (), "numbers in rows, 0 or 1 for each label"),
        ([[1, 0], [2, 0]], None, (), "row 1 of the labels holds something other than 0 and 1"),
        ([[1, 0], [-1, -1]], None, (), "row 1 of the labels"),
        ([[0.5, 0]], None, (), "row 0 of the labels"),
        ([[1, 0], [1, 1], [np.nan, 0]], None, (), "row 2 of the labels"),
        ([[np.inf, 0]], None, (), "row 0 of the labels"),
        ([[np.nan, np.nan]], None, (), "no sample has labels"),
        ([[1, 0]], ["a", "b", "c"], ("label_names",), "3 names for 2 labels"),
    ],
)
def test_several_labels_refused(raw: list, names: list[str] | None, option: tuple, message: str):
    with pytest.raises(DataError, match=message) as raised:
        encode_several(np.asarray(raw), names)
    assert raised.value.option == option


def test_quantities_are_columns_in_their_order():
    targets, names = encode_quantities({"b": np.array([1, 2, 3]), "a": np.array([0.5, np.nan, -2], np.float32)})
    assert names == ("b", "a")
    assert targets.dtype == np.float64
    np.testing.assert_array_equal(targets, [[1, 0.5], [2, np.nan], [3, -2]])


def test_quantities_as_a_text_file_has_them():
    words = np.array(["1.5", "", "-2e-3", " 7 ", "NA"])
    targets, _ = encode_quantities({"moisture": words})
    np.testing.assert_array_equal(targets, [[1.5], [np.nan], [-0.002], [7], [np.nan]])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": ["1.5", "dry", ""]}, "^a holds 'dry' in sample 1, which is no number"),
        ({"a": [1.0, 2.0], "b": [np.nan, -np.inf]}, "^b is infinite in sample 1$"),
        ({"a": ["1", "inf"]}, "^a is infinite in sample 1$"),
        ({"a": [np.nan, np.nan]}, "^no sample has a$"),
        ({"a": [np.nan, 1.0], "b": [1.0, np.nan]}, "^no sample has a and b$"),
    ],
)
def test_quantities_refused(columns: dict[str, list], message: str):
    with pytest.raises(DataError, match=message):
        encode_quantities({name: np.asarray(column) for name, column in columns.items()})


def test_units():
    assert units_of(["a", "b"], {"b": "%"}) == ("", "%")
    assert units_of(["a", "b"], None) == ("", "")
    assert units_of([], None) == ()
    with pytest.raises(DataError, match="there is no quantity 'hight'; did you mean 'height'") as raised:
        units_of(["height"], {"hight": "m"})
    assert raised.value.option == ("units",)


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
