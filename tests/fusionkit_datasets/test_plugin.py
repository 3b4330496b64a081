"""The plugin's records, and the options of every dataset as the core derives them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from fusionkit_datasets import plugin

from fusionkit.contract import Dataset
from fusionkit.options import options_model
from fusionkit.registry import load_registry
from fusionkit.sections import Data

NAMES = ["arrays", "table", "patches", "rasters", "image_text", "vqa", "torchgeo", "urfc"]


def test_datasets():
    records = list(plugin.fusionkit_components())
    assert [record.name for record in records] == NAMES
    assert {record.kind for record in records} == {"dataset"}


@pytest.mark.parametrize("name", NAMES)
def test_options(name: str):
    target = load_registry().resolve("dataset", name)
    assert issubclass(target, Dataset)
    fields = options_model(target).model_fields
    assert not set(fields) & set(Data.model_fields), "an option has the name of a key of the core"
    assert all(field.description for field in fields.values())
    assert options_model(target).model_json_schema()["properties"]


def test_no_torch():
    code = "import sys, fusionkit_datasets.plugin; assert 'torch' not in sys.modules; assert 'h5py' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
