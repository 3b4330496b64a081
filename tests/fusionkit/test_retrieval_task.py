"""A retrieval from recipe to report, on vectors of which two and two are alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusionkit import experiment, retrieval
from fusionkit.assembly import for_retrieval
from fusionkit.contract import Index
from fusionkit.errors import RecipeError
from fusionkit.loading import Batches
from fusionkit.predictions import read_predictions
from fusionkit.progress import Progress
from fusionkit.recipe import load_recipe
from fusionkit.runs import Run

RECIPE = """
name: pairs
task: retrieval
data:
  source: arrays
  root: {root}
  inputs: {{image: "pairs.npz:image", text: "pairs.npz:text"}}
  labels: "pairs.npz:label"
  split: {{test: 0.3, val: 0.2}}
  batch_size: 32
modalities: {{image: mlp, text: mlp}}
fusion: {{name: dual_encoder, dim: 16}}
train: {{epochs: 8, lr: 3.0e-3}}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 pairs of vectors that share six hidden numbers, in three classes."""
    folder = tmp_path_factory.mktemp("pairs")
    random = np.random.default_rng(0)
    hidden = random.normal(size=(200, 6))
    made = {name: hidden @ random.normal(size=(6, width)) for name, width in (("image", 12), ("text", 9))}
    np.savez(folder / "pairs.npz", **made, label=hidden[:, :3].argmax(1))
    return folder


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = root / "pairs.yaml"
    path.write_text(RECIPE.format(root=root))
    return experiment.run(path, runs=tmp_path_factory.mktemp("runs"), progress=Progress(quiet=True))


def test_pairs_are_found(finished: Run) -> None:
    """Of 60 pairs chance finds a sixtieth; the figures are those of the embeddings in the file."""
    result = finished.result
    assert result.task == "retrieval"
    predictions, names = read_predictions(finished.path / "predictions.csv")
    assert names == result.classes
    figures = retrieval.figures(predictions.target, predictions.answers)
    for name, found in result.metrics.items():
        assert found.value == pytest.approx(figures[name], abs=1e-6)
    assert result.metrics["forward_r1"].value > 0.3
    assert result.metrics["mean_recall"].low > 0.3
    lengths = np.linalg.norm(predictions.answers.reshape(len(predictions), 2, -1), axis=2)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_the_files_tell_of_a_retrieval(finished: Run) -> None:
    names = {path.name for path in finished.path.iterdir()}
    assert {"recall.png", "recall.pdf", "predictions.csv", "report.html"} <= names
    assert not {name for name in names if name.startswith("confusion")}
    page = (finished.path / "report.html").read_text()
    assert retrieval.PROTOCOL in page
    assert "image to text" in page
    assert "Confusion" not in page
    assert "R@1 →" in str(finished.result.table())


def test_without_classes_there_is_no_map(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    text = RECIPE.format(root=root).replace('labels: "pairs.npz:label"', 'labels: "plain.npz:label"')
    with np.load(root / "pairs.npz") as held:
        np.savez(root / "plain.npz", label=np.zeros(len(held["label"]), int))
    path.write_text(text)
    result = experiment.run(path, runs=tmp_path, overrides=["train.epochs=1"], progress=Progress(quiet=True)).result
    assert "mAP" in str(result.table())  # of one class everything is right
    assert result.metrics["mean_map"].value == 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("fusion=concat", "embedded apart"),
        ("loss=cross_entropy", "the task is retrieval"),
        ("baselines=true", "needs both modalities"),
        ("train.select=oa", "has no figure"),
        ("augment=[mixup]", "has to tell them apart"),
    ],
)
def test_what_does_not_go_with_it(root: Path, tmp_path: Path, change: str, problem: str) -> None:
    path = tmp_path / "pairs.yaml"
    path.write_text(RECIPE.format(root=root))
    with pytest.raises(RecipeError, match=problem):
        experiment.run(path, runs=tmp_path / "runs", overrides=[change], progress=Progress(quiet=True))


def test_default_loss(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.yaml"
    path.write_text(RECIPE.format(root=root))
    assert [term.loss.name for term in load_recipe(path).losses] == ["info_nce"]


def index(targets: Any, **facts: Any) -> Index:
    return Index([str(i) for i in range(len(targets))], np.array(targets), ("a", "b"), **facts)


def test_samples_of_a_group_show_one_thing() -> None:
    made = for_retrieval(index([0, 0, 1, -1], groups=np.array(["x", "x", "y", "z"])))
    assert made.task == "retrieval"
    assert made.targets.tolist() == [[0, 0], [0, 0], [1, 1], [2, -1]]
    assert made.labelled.all()
    alone = for_retrieval(index([0, 1, 1]))
    assert alone.targets[:, 0].tolist() == [0, 1, 2]


@pytest.fixture
def draw() -> Callable[..., list[list[int]]]:
    def order(epoch: int, **facts: Any) -> list[list[int]]:
        groups = np.array([7, 7, 7, 3, 3, 9, 1, 1, 1, 1])
        batches = Batches(np.arange(1, 10), 2, seed=5, groups=groups, **facts)
        batches.epoch = epoch
        assert len(list(batches)) == len(batches)
        return [[position for _, position in batch] for batch in batches]

    return order


def test_an_epoch_has_one_sample_of_each_group(draw: Callable[..., list[list[int]]]) -> None:
    groups = np.array([7, 7, 7, 3, 3, 9, 1, 1, 1, 1])
    seen = set()
    for epoch in range(40):
        drawn = [position for batch in draw(epoch) for position in batch]
        assert sorted(groups[drawn]) == [1, 3, 7, 9]
        assert draw(epoch) == draw(epoch)
        seen |= set(drawn)
    assert seen == set(range(1, 10))  # all of them have their turn; 0 is not among the positions


def test_processes_share_the_epoch(draw: Callable[..., list[list[int]]]) -> None:
    parts = [draw(3, rank=rank, world=2) for rank in range(2)]
    assert sorted(p for part in parts for batch in part for p in batch) == sorted(p for b in draw(3) for p in b)
