"""Metrics of a recipe: their figures wherever those of the task stand, and what is said of faulty ones."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn import metrics as sk

from fusionkit.check import check
from fusionkit.contract import Metric
from fusionkit.errors import PluginFault, RecipeError
from fusionkit.estimates import Estimate
from fusionkit.experiment import run
from fusionkit.extra_metrics import ExtraMetric, estimate, figures
from fusionkit.kinds import KINDS
from fusionkit.made_up import made_up
from fusionkit.progress import Progress
from fusionkit.recipe import load_recipe
from fusionkit.result import Result
from fusionkit.runs import Run
from fusionkit.testing.metrics import TASKS

N = 90
TEXT = """\
data:
  source: arrays
  root: {root}
  inputs: {{near: "toy.npz:near", far: "toy.npz:far"}}
  labels: toy.npz:kind
  columns: {{fold: "toy.npz:fold"}}
  split: {{column: fold, val: 0.3}}
  folds: all
  batch_size: 16
modalities:
  near: &encoder {{encoder: {{name: mlp, width: 16, depth: 1, dropout: 0}}}}
  far: *encoder
fusion: {{name: concat, dim: 8}}
train: {{epochs: 3, lr: 0.03, select: brier}}
baselines: true
metrics: [brier, {{name: top_k, k: 2}}]
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, of which each of two vectors tells a part; two folds."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    kind = np.arange(N) % 3
    near, far = (random.normal(size=(N, width)).astype(np.float32) for width in (2, 3))
    near[:, 0] += 2 * (kind == 1)
    far[:, 0] += 2 * (kind == 2)
    np.savez(folder / "toy.npz", near=near, far=far, kind=kind, fold=np.arange(N) // 3 % 2)
    return folder


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with folds and baselines."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "toy.yaml").write_text(TEXT.format(root=data))
    return run(folder / "toy.yaml", runs=folder, progress=Progress(Console(file=StringIO())))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def by_scikit_learn(path: Path, fold: str | None = None) -> dict[str, float]:
    """Both metrics of a file of predictions."""
    kept = [row for row in rows(path) if fold in (None, row["fold"])]
    target = np.array([int(row["target"]) for row in kept])
    answers = np.array([[float(row[f"p_{k}"]) for k in range(3)] for row in kept])
    answers /= answers.sum(1, keepdims=True)
    brier = sk.brier_score_loss(target, answers, labels=[0, 1, 2], scale_by_half=False)
    return {"brier": float(brier), "top_k": float(sk.top_k_accuracy_score(target, answers, k=2, labels=[0, 1, 2]))}


# What a run leaves of them


def test_the_result_has_them_with_intervals_for_every_model_and_fold(made: Run) -> None:
    told = json.loads((made.path / "result.json").read_text())
    files = {None: "predictions.csv", "near": "baselines/near.csv", "far": "baselines/far.csv"}
    for model, file in files.items():
        held = told["metrics"] if model is None else told["baselines"][model]
        for name, expected in by_scikit_learn(made.path / file).items():
            assert held[name]["value"] == pytest.approx(expected, rel=1e-5)
            assert held[name]["low"] < held[name]["value"] < held[name]["high"]
    assert [fold["fold"] for fold in told["folds"]] == ["0", "1"]
    for fold in told["folds"]:
        expected = by_scikit_learn(made.path / "predictions.csv", fold["fold"])
        assert {name: fold["metrics"][name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert list(told["metrics"])[-2:] == ["brier", "top_k"]
    assert told["extra_metrics"]["brier"]["higher_is_better"] is False
    assert told["extra_metrics"]["top_k"]["higher_is_better"] is True
    assert Result.from_json(made.result.to_json()) == made.result


def test_every_epoch_has_them_and_the_lowest_error_chooses_it(made: Run) -> None:
    models: dict[str, list[dict[str, str]]] = {}
    for row in rows(made.path / "metrics.csv"):
        models.setdefault(row["model"], []).append(row)
    assert len(models) == 4 * 2
    for model, epochs in models.items():
        assert all(0 <= float(row["val/top_k"]) <= 1 for row in epochs)
        chosen = int(np.argmin([float(row["val/brier"]) for row in epochs])) + 1
        told = np.load(made.path / "checkpoints" / model / "answer.npz")["told"]
        assert json.loads(str(told))["best_epoch"] == chosen


def test_the_printed_table_and_the_report_have_them(made: Run) -> None:
    head, *body = str(made.result.table()).splitlines()
    assert head.split()[-3:] == ["brier", "top_k", "parameters"]
    found = made.result.metrics["brier"]
    assert f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]" in body[-1]
    page = (made.path / "report.html").read_text()
    assert '<span class="name">brier</span>' in page
    assert "brier: squared error of the probabilities, 0 to 2; less is better." in page
    assert "top_k (k 2): share of samples whose class is among the k most probable." in page
    assert page.count("<th>top_k</th>") == 1  # in a table of metrics, which fits on a page
    assert "those of metrics on scales of their own" in page
    for fold in made.result.folds:
        assert f'<td class="n">{fold.metrics["brier"]:.4f}</td>' in page


def test_the_resolved_recipe_names_them_with_their_options(made: Run) -> None:
    assert made.resolved["metrics"] == [{"name": "brier"}, {"name": "top_k", "k": 2}]
    assert load_recipe(made.resolved).resolved() == made.resolved


# Intervals


class Squares(Metric):
    tasks = ("regression",)
    higher_is_better = False

    def compute(self, target: np.ndarray, answers: np.ndarray) -> float:
        return float(np.sqrt(((answers - target) ** 2).mean(0)).mean())


class Hits(Metric):
    tasks = ("classification", "retrieval")

    def compute(self, target: np.ndarray, answers: np.ndarray) -> float:
        return float(np.mean(answers.argmax(1) == target.reshape(len(target), -1)[:, 0]))


class OfTheFirstClass(Metric):
    """The accuracy of the first class, which has none where no sample is of it."""

    def compute(self, target: np.ndarray, answers: np.ndarray) -> float:
        right = answers.argmax(1)[target == 0] == 0
        return float(right.mean()) if len(right) else float("nan")


def named(kind: type[Metric], task: str) -> dict[str, ExtraMetric]:
    return {"m": ExtraMetric("m", "acme", "", kind(TASKS[task]))}


def test_an_interval_is_that_of_the_same_figure_of_the_task() -> None:
    target, answers = made_up(TASKS["regression"], 60)
    found = estimate(named(Squares, "regression"), "regression", target, answers, seed=3)["m"]
    expected = KINDS["regression"].estimate(target, answers, seed=3)["rmse"]
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_whole_groups_are_resampled() -> None:
    target, answers = made_up(TASKS["classification"], 60)
    groups = np.arange(60) // 5
    found = estimate(named(Hits, "classification"), "classification", target, answers, groups=groups, seed=3)["m"]
    expected = KINDS["classification"].estimate(target, answers, groups=groups, seed=3)["oa"]
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))
    alone = estimate(named(Hits, "classification"), "classification", target, answers, groups=0 * groups)["m"]
    assert alone == Estimate(found.value)


def test_what_is_undefined_has_neither_value_nor_interval_and_some_resamples_may_be() -> None:
    target, answers = np.array([0, 1, 1, 2, 2, 1]), made_up(TASKS["classification"], 6)[1]
    metrics = named(OfTheFirstClass, "classification")
    assert estimate(metrics, "classification", target[1:], answers[1:])["m"] == Estimate(None)
    assert np.isnan(figures(metrics, target[1:], answers[1:])["m"])
    found = estimate(metrics, "classification", target, answers)["m"]  # undefined without its one sample of the class
    assert found.value == found.low == found.high


def test_what_is_infinite_is_undefined() -> None:
    class Infinite(Hits):
        def compute(self, target: np.ndarray, answers: np.ndarray) -> float:
            return float("inf")

    target, answers = made_up(TASKS["classification"], 6)
    assert estimate(named(Infinite, "classification"), "classification", target, answers)["m"] == Estimate(None)


def test_a_retrieval_has_no_intervals() -> None:
    target, answers = made_up(TASKS["retrieval"], 20)
    found = estimate(named(Hits, "retrieval"), "retrieval", target, answers)["m"]
    assert found == Estimate(float(np.mean(answers.argmax(1) == target[:, 0])))


def test_a_metric_may_do_with_its_arrays_what_it_likes() -> None:
    class Sorts(Hits):
        def compute(self, target: np.ndarray, answers: np.ndarray) -> float:
            answers.sort(axis=1)
            target[:] = 0
            return 0.0

    target, answers = made_up(TASKS["classification"], 6)
    before = target.copy(), answers.copy()
    figures(named(Sorts, "classification"), target, answers)
    assert np.array_equal(target, before[0])
    assert np.array_equal(answers, before[1])


# Faults, and what is refused

PLUGIN = """
from fusionkit import Component, hookimpl

@hookimpl
def fusionkit_components():
    for name in ("raises", "pair", "whole", "unmade", "labels", "kappa", "cost", "focal"):
        yield Component("metric", name, f"strange.parts:{name.capitalize()}")
"""
PARTS = """
from fusionkit import Metric

class Raises(Metric):
    def compute(self, target, answers):
        return helper(target)

def helper(target):
    raise KeyError("oak")

class Pair(Metric):
    def compute(self, target, answers):
        return float(target[1] == answers[1].argmax())

class Whole(Metric):
    def compute(self, target, answers):
        return 3

class Unmade(Metric):
    def __init__(self, task):
        raise KeyError("elm")

    def compute(self, target, answers): ...

class Labels(Metric):
    tasks = ("multilabel", "regression")

    def compute(self, target, answers): ...

class Kappa(Whole): ...
class Cost(Whole): ...
class Focal(Whole): ...
"""


@pytest.fixture
def strange(packages: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Load the recipe with metrics of a stranger's package in the place of its own."""
    packages.add("strange", plugin=PLUGIN, parts=PARTS)
    monkeypatch.chdir(tmp_path)

    def load(metrics: str, *overrides: str) -> Any:
        Path("r.yaml").write_text(TEXT.format(root=data).replace("select: brier", "select: oa"))
        text = Path("r.yaml").read_text().partition("metrics:")[0]
        Path("r.yaml").write_text(f"{text}metrics: {metrics}\n")
        return load_recipe("r.yaml", overrides)

    return load


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "raises",
            r"metric 'raises' of strange fails with KeyError: 'oak'; mend the plugin, or leave it out\n.*helper",
        ),
        ("pair", "metric 'pair' of strange fails with IndexError: "),  # of a single sample
        ("whole", "metric 'whole' of strange returns 3, of the type int, and not a float; mend the plugin"),
        ("unmade", "metric 'unmade' of strange fails with KeyError: 'elm'; mend the plugin"),
    ],
)
def test_a_fault_is_the_plugins_and_told_before_anything_is_trained(strange: Any, name: str, told: str) -> None:
    recipe = strange(f"[brier, {name}]")
    with pytest.raises(PluginFault, match=f"(?s){told}"):
        check(recipe)
    with pytest.raises(PluginFault, match=f"(?s){told}"):
        run(recipe, progress=Progress(Console(file=StringIO())))
    assert not Path("runs").exists()


def test_a_fault_is_told_with_its_traceback_on_the_command_line(strange: Any, fusionkit: Any) -> None:
    strange("[raises]")
    answer = fusionkit("check", "r.yaml")
    assert answer.code == 1
    assert answer.err.startswith("error: metric 'raises' of strange fails with KeyError: 'oak'; mend the plugin")
    assert "strange/parts.py" in answer.err


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        (
            "[labels]",
            "r.yaml:16:11: metrics.0: labels is for multilabel and regression, and the task is classification",
        ),
        ("[brier, kappa]", "r.yaml:16:18: metrics.1: kappa is the name of a figure or key of every result; it needs"),
        ("[cost]", "r.yaml:16:11: metrics.0: cost is the name of a figure or key of every result; it needs another"),
        (
            "[focal]\nloss: focal",
            "r.yaml:16:11: metrics.0: focal is a term of the loss as well; both would be val/focal",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(strange: Any, metrics: str, told: str) -> None:
    with pytest.raises(RecipeError) as error:
        strange(metrics)
    assert str(error.value).startswith(told)
    assert len(error.value.problems) == 1


def test_options_that_do_not_fit_the_task_are_refused_with_their_place(strange: Any) -> None:
    with pytest.raises(RecipeError, match=r"r.yaml:16:18: metrics.1: k is 3 of 3 classes, so every answer would be"):
        check(strange("[brier, {name: top_k, k: 3}]"))
