"""A finished run answers files that have no labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fusionkit import experiment
from fusionkit.progress import Progress

pytestmark = pytest.mark.usefixtures("undrawn")

RECIPE = """
name: toy
data: {{root: {root}, split: {{test: 0.3, val: 0.2}}, {source}}}
modalities: {{optical: mlp, sar: mlp}}
fusion: concat
train: {{epochs: 2}}
"""
SOURCES = {
    "table": "source: table, file: t.csv, label: kind, inputs: {optical: {type: values, columns: [a, b]}, "
    "sar: {type: values, columns: [c]}}",
    "arrays": "source: arrays, labels: 't.csv:kind', inputs: {optical: 'o.npy', sar: 's.npy'}",
}


def write(folder: Path, n: int, seed: int, labels: bool) -> Path:
    folder.mkdir()
    random = np.random.default_rng(seed)
    values = random.normal(size=(n, 3))
    frame = pd.DataFrame(values, columns=["a", "b", "c"])
    if labels:
        frame["kind"] = np.where(values[:, 0] > 0, "wet", "dry")
    frame.to_csv(folder / "t.csv", index=False)
    np.save(folder / "o.npy", values[:, :2])
    np.save(folder / "s.npy", values[:, 2:])
    return folder


@pytest.mark.parametrize("source", SOURCES)
def test_files_without_labels(source: str, tmp_path: Path, fusionkit: Callable[..., Any]) -> None:
    known = write(tmp_path / "known", 60, 0, labels=True)
    new = write(tmp_path / "new", 7, 1, labels=False)
    (tmp_path / "toy.yaml").write_text(RECIPE.format(root=known, source=SOURCES[source]))
    run = experiment.run(tmp_path / "toy.yaml", runs=tmp_path, progress=Progress(quiet=True))
    key = "label" if source == "table" else "labels"
    answer = fusionkit("predict", run.path, f"data.root={new}", f"data.{key}=null", "-o", tmp_path / "out.csv")
    assert answer.code == 0, answer.err
    told = pd.read_csv(tmp_path / "out.csv")
    assert told.columns.tolist() == ["id", "prediction", "p_dry", "p_wet"]
    assert len(told) == 7
    refused = fusionkit("run", tmp_path / "toy.yaml", f"data.{key}=null")
    assert refused.code == 2
    assert "left out for predictions alone" in refused.err
