"""References to arrays: short and long forms, and what is wrong with a form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fusionkit_datasets.arrays import ArrayDataset
from fusionkit_datasets.references import ArrayRef, FileRef, Splits, as_list, by_part
from pydantic import ValidationError

from fusionkit.explain import explain
from fusionkit.options import options_model

MODEL = options_model(ArrayDataset)


def source(value: Any) -> Any:
    return MODEL.model_validate_json(json.dumps({"inputs": {"a": value}, "labels": "l.npy"})).inputs["a"]


def problems(value: Any) -> dict[str, str]:
    data = {"inputs": {"a": value}, "labels": "l.npy"}
    with pytest.raises(ValidationError) as raised:
        MODEL.model_validate_json(json.dumps(data))
    return {".".join(map(str, path)): message for path, message in explain(raised.value, MODEL, data)}


@pytest.mark.parametrize(
    ("text", "file", "key"),
    [
        ("a.npy", "a.npy", None),
        ("a.npz:key", "a.npz", "key"),
        ("sub/a.h5:deep/key", "sub/a.h5", "deep/key"),
        ("a.csv:b:c", "a.csv", "b:c"),
        (r"C:\data\a.npz:key", r"C:\data\a.npz", "key"),
    ],
)
def test_short_form(text: str, file: str, key: str | None):
    found = source(text)
    assert (found.file, found.key) == (Path(file), key)
    assert isinstance(found, ArrayRef)


def test_forms_of_a_source(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HERE", "/data")
    assert source("${HERE}/a.npy").file == Path("/data/a.npy")
    assert [one.key for one in source(["a.npz:x", {"file": "a.npz", "key": "y"}])] == ["x", "y"]
    split = source({"test": "b.npy", "train": ["a.npy", "c.npy"]})
    assert isinstance(split, Splits)
    assert list(by_part(split)) == ["train", "test"]
    assert [one.file.name for one in as_list(by_part(split)["train"])] == ["a.npy", "c.npy"]
    assert list(by_part(source("a.npy"))) == [""]


def test_what_is_resolved_can_be_read_again():
    data = {
        "inputs": {
            "a": {"train": ["a.npz:x"], "test": ["a.npz:x", "b.npy"]},
            "b": {"file": "x.npy", "axis": 1, "index": [0, 2]},
        },
        "labels": "l.npy",
    }
    resolved = MODEL.model_validate_json(json.dumps(data)).model_dump_json()
    assert MODEL.model_validate_json(resolved).model_dump_json() == resolved
    assert json.loads(resolved)["inputs"]["b"]["index"] == [0, 2]


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        (3, "inputs.a", "write `file`, `file:key` or a mapping with `file`"),
        ([], "inputs.a", "at least 1 item"),
        ([3], "inputs.a.0", "write `file`"),
        ({"fil": "a.npy"}, "inputs.a.fil", "did you mean 'file'"),
        ({"file": "a.npy", "axis": 1}, "inputs.a", "`axis` and `index` go together"),
        ({"file": "a.npy", "axis": 1, "index": "1-3"}, "inputs.a.index", "should match"),
        ({"file": "a.npy", "axis": 1, "index": "0:3:0"}, "inputs.a.index", "should match"),
        ({"file": "a.npy", "axes": "nxy"}, "inputs.a.axes", "should match"),
        ({"file": "a.csv", "column": 1, "columns": [2]}, "inputs.a", "not both"),
        ({"file": "$NO_SUCH_VARIABLE/a.npy"}, "inputs.a.file", "NO_SUCH_VARIABLE is not set"),
        ({"train": "a.npy", "tets": "b.npy"}, "inputs.a.tets", "did you mean 'test'"),
        ({"train": {"fil": "a.npy"}}, "inputs.a.train.fil", "did you mean 'file'"),
        ({"train": None}, "inputs.a", "name the train, val or test part"),
        ({"file": "a.mat", "format": "matlab"}, "inputs.a.format", "'mat'"),
    ],
)
def test_problems_are_told_where_they_are(value: Any, path: str, message: str):
    found = problems(value)
    assert message in found[path]


def test_an_editor_learns_both_forms():
    schema = MODEL.model_json_schema()
    described = json.dumps(schema)
    assert "file, or file:key" in described
    assert "within `root`" in described


def test_references_that_read_the_same():
    one = FileRef(file=Path("a.npy"), axis=0, index=[1])
    assert one.content == FileRef(file=Path("a.npy")).content
    assert one.content != FileRef(file=Path("a.npz"), key="x").content
    assert str(FileRef(file=Path("deep/a.npz"), key="x")) == "a.npz:x"
