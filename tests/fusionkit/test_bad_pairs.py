"""Dead links, truncated images and a reader that never comes back: an epoch of pairs goes on without them."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusionkit import experiment
from fusionkit.progress import Progress

pytestmark = pytest.mark.usefixtures("undrawn")

RECIPE = """
name: pairs
task: retrieval
data:
  source: image_text
  format: csv
  root: {root}
  file: captions.csv
  size: 16
  split: {{test: 0.25, val: 0.2}}
  batch_size: 24
  max_bad: 0.1
  timeout: 3
modalities:
  image: {{encoder: {{name: patch_cnn, width: 8}}}}
  text: {{encoder: {{name: text_transformer, tokenizer: word, vocabulary: 60, length: 12, width: 16, layers: 1}}}}
fusion: {{name: dual_encoder, dim: 8}}
train: {{epochs: 1}}
"""
DEAD, CUT, BLOCKING = range(0, 100, 20), (7, 57), 33
"""5 % dead links, 2 % truncated JPEGs, one reader that blocks for ever."""


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_is_finished(tmp_path: Path, workers: int) -> None:
    random = np.random.default_rng(0)
    for number in range(100):
        path = tmp_path / f"{number:03}.jpg"
        if number in DEAD:
            path.symlink_to(tmp_path / "nowhere" / path.name)
        elif number == BLOCKING:
            os.mkfifo(path)
        else:
            Image.fromarray(random.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
        if number in CUT:
            path.write_bytes(path.read_bytes()[:500])
    with (tmp_path / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *((f"{n:03}.jpg", f"picture {n}") for n in range(100))])
    (tmp_path / "pairs.yaml").write_text(RECIPE.format(root=tmp_path), encoding="utf-8")
    run = experiment.run(
        tmp_path / "pairs.yaml",
        runs=tmp_path / "runs",
        overrides=[f"data.num_workers={workers}"],
        progress=Progress(quiet=True),
    )
    with (run.path / "bad_samples.csv").open(encoding="utf-8") as file:
        bad = {Path(row["path"] or row["id"]).name.partition("#")[0]: row["reason"] for row in csv.DictReader(file)}
    assert set(bad) == {f"{number:03}.jpg" for number in (*DEAD, *CUT, BLOCKING)}
    assert all(bad.values())
    assert run.result.n == 23  # a quarter of the 92 others
