"""Delimited text: equal to pandas where that is strict enough, and strict where it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fusionkit_datasets.readers import header, load, load_facts
from fusionkit_datasets.readers.text import TextFile, read_lines, typed
from fusionkit_datasets.references import FileRef

from fusionkit.errors import DataError


def ref(text: str, **more: Any) -> FileRef:
    return FileRef(file=Path(text.partition(":")[0]), key=text.partition(":")[2] or None, **more)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(2500, 4)), columns=["b1", "b2", "b10", "dem"])
    frame.loc[3, "b2"] = np.nan
    frame["site"] = [f"site {i % 3}" for i in range(2500)]
    frame["code"] = [f"{i:03d}" for i in range(2500)]
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.drop(columns="site").dropna().to_csv(tmp_path / "a.txt", index=False, sep=" ", header=False)
    return tmp_path


@pytest.mark.parametrize("file", ["a.csv", "a.tsv"])
def test_numbers_are_those_of_pandas(file: str, root: Path):
    expected = pd.read_csv(root / "a.csv")
    assert header(root, ref(file, columns="b*")).shape == (-1, 3)
    np.testing.assert_array_equal(load(root, ref(file, columns="b*")), expected[["b1", "b2", "b10"]])
    np.testing.assert_array_equal(load(root, ref(file, columns=["dem", 0])), expected[["dem", "b1"]])
    np.testing.assert_array_equal(load(root, ref(f"{file}:dem")), expected[["dem"]])


def test_white_space_without_header(root: Path):
    expected = pd.read_csv(root / "a.csv").dropna()
    np.testing.assert_array_equal(load(root, ref("a.txt", columns=[0, 1]))[:, 1], expected["b2"])


def test_words_stay_as_they_are(root: Path):
    assert load_facts(root, ref("a.csv:site")).tolist()[:2] == ["site 0", "site 1"]
    assert load_facts(root, ref("a.csv:code")).tolist()[7] == "007"
    assert load_facts(root, ref("a.txt", column=4)).tolist()[6] == "007"  # row 3 was dropped


def test_quotes(tmp_path: Path):
    (tmp_path / "a.csv").write_text('name,x\n"a, ""b""",1\nc,2\n')
    assert load_facts(tmp_path, ref("a.csv:name")).tolist() == ['a, "b"', "c"]
    assert load(tmp_path, ref("a.csv:x")).tolist() == [[1], [2]]


def test_missing_numbers_are_nan(tmp_path: Path):
    (tmp_path / "a.csv").write_text("x,y\n1,\nNA,nan\n")
    assert np.isnan(load(tmp_path, ref("a.csv"))).tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize(
    ("words", "kind", "values"),
    [
        (["1", "-2"], "i", [1, -2]),
        (["1", "2.5"], "f", [1, 2.5]),
        (["01", "2"], "U", ["01", "2"]),
        (["1", ""], "U", ["1", ""]),
        (["1", "NA"], "U", ["1", "NA"]),
        (["12345678901234567890"], "U", ["12345678901234567890"]),
    ],
)
def test_typed(words: list[str], kind: str, values: list):
    found = typed(np.array(words))
    assert found.dtype.kind == kind
    assert found.tolist() == values


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,2\n1\n", {}, "line 3 has 1 fields, line 1 has 2"),
        ("a,b\n1,2\n1,2,3\n", {}, "line 3 has 3 fields"),
        ("a,b\n1,2\n\n3,4\n", {}, "line 3 is blank"),
        ("a,b\n1,x\n", {}, "line 2, column 'b': 'x' is no number"),
        ("1,2\n3,4\n", {}, "line 1 is all numbers; say `header: false`"),
        ("a b\n1 2\n", {"delimiter": " ", "header": False}, "line 1, column 0: 'a' is no number; if it is a header"),
        ("a,b\n", {}, "no rows"),
        ("\n1\n", {}, "line 1 is blank"),
        ('a,b\n1,"2\n', {}, "line 2"),
        ("a,b\n1,2\n", {"columns": ["c"]}, "no column 'c'; choose from a, b"),
        ("band,b\n1,2\n", {"column": "bnd"}, "did you mean 'band'"),
        ("a,b\n1,2\n", {"column": 2}, "no column 2; they are 0 to 1"),
        ("a,a\n1,2\n", {"column": "a"}, "two columns"),
        ("1,2\n", {"column": "x*", "header": False}, "no header, so use numbers"),
    ],
)
def test_refused(text: str, options: dict, message: str, tmp_path: Path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load(tmp_path, ref("a.csv", **options))


def test_a_named_column_means_a_header(tmp_path: Path):
    (tmp_path / "a.txt").write_text("x y\n1 2\n")
    assert load(tmp_path, ref("a.txt:y")).tolist() == [[2]]


def test_blank_lines_at_the_end_and_a_byte_order_mark(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfx,y\r\n1,2\r\n\r\n\r\n")
    assert load(tmp_path, ref("a.csv:x")).tolist() == [[1]]


def test_not_utf8(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes("x\n住宅区".encode("gbk"))
    with pytest.raises(DataError, match="UTF-8"):
        load_facts(tmp_path, ref("a.csv:x"))
    with pytest.raises(DataError, match="UTF-8"):
        read_lines(tmp_path / "a.csv")


def test_which_column_must_be_said(tmp_path: Path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(DataError, match=r"has the columns x, y; say which one: a\.csv:COLUMN"):
        load_facts(tmp_path, ref("a.csv"))


def test_missing_and_empty(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        TextFile(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_bytes(b"")
    with pytest.raises(DataError, match="0 bytes"):
        TextFile(tmp_path / "a.csv")


def test_lines(tmp_path: Path):
    (tmp_path / "a.list").write_text("mixed forest\n\n住宅区\n")
    assert read_lines(tmp_path / "a.list") == ["mixed forest", "住宅区"]
