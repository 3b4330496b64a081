"""Runs of every kind of task, end to end: what they leave and say, and what is refused."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn import metrics as sk

from fusionkit.check import check
from fusionkit.describe import describe
from fusionkit.errors import RecipeError
from fusionkit.experiment import run
from fusionkit.predictions import read_predictions
from fusionkit.progress import Progress
from fusionkit.recipe import load_recipe
from fusionkit.result import Result
from fusionkit.runs import Run

N = 180
LABELS = ("water", "wood", "town")
QUANTITIES = ("moisture", "height")
TEXT = """\
data:
  source: arrays
  root: {root}
  inputs: {{near: "toy.npz:near", far: "toy.npz:far"}}
  {targets}
  columns: {{fold: "toy.npz:fold"}}
  split: {split}
  batch_size: 16
modalities:
  near: &encoder {{encoder: {{name: mlp, width: 16, depth: 1, dropout: 0}}}}
  far: *encoder
fusion: {{name: concat, dim: 8}}
train: {{epochs: 6, lr: 0.05}}
task: {task}
"""
TARGETS = {
    "multilabel": 'labels: "toy.npz:labels"\n  several_labels: true\n  label_names: names.txt',
    "regression": 'quantities: {moisture: "toy.npz:moisture", height: "toy.npz:height"}\n  units: {moisture: "%"}',
    "classification": 'labels: "toy.npz:kind"',
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two vectors that each tell a part of every target; every ninth sample is without a target."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    near, far = (random.normal(size=(N, 2)).astype(np.float32) for _ in range(2))
    labels = np.stack([near[:, 0] > 0, far[:, 0] > 0.3, near[:, 1] + far[:, 1] > 0.5], 1).astype(float)
    moisture = 100 + 30 * near[:, 0] + 30 * far[:, 0] + random.normal(size=N)
    height = -0.01 + 0.002 * near[:, 1] - 0.002 * far[:, 1]
    labels[::9] = moisture[::9] = np.nan
    kind = (near[:, 0] > 0).astype(int)
    np.savez(
        folder / "toy.npz", near=near, far=far, labels=labels, moisture=moisture, height=height, kind=kind,
        fold=np.arange(N) % 3,
    )  # fmt: skip
    (folder / "names.txt").write_text("\n".join(LABELS) + "\n")
    return folder


def text(data: Path, task: str, split: str = "{test: 0.25, val: 0.2}", targets: str | None = None) -> str:
    return TEXT.format(root=data, split=split, task=task, targets=TARGETS[targets or task])


FOLDS = "{column: fold, val: 0.2}\n  folds: all"


@dataclass
class Made:
    """A finished run and its own files."""

    run: Run
    told: dict[str, Any]

    @property
    def path(self) -> Path:
        return self.run.path

    def rows(self, name: str) -> list[dict[str, str]]:
        with (self.path / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Made]:
    """A run of this task: with folds and baselines, or without."""
    known: dict[tuple[str, bool], Made] = {}

    def made(task: str, folds: bool) -> Made:
        if (task, folds) not in known:
            folder = tmp_path_factory.mktemp(task)
            (folder / "toy.yaml").write_text(text(data, task, **({"split": FOLDS} if folds else {})))
            progress = Progress(Console(file=StringIO()))
            found = run(folder / "toy.yaml", overrides=[f"baselines={folds}".lower()], runs=folder, progress=progress)
            known[task, folds] = Made(found, json.loads((found.path / "result.json").read_text()))
        return known[task, folds]

    return made


EACH = pytest.mark.parametrize("folds", [False, True], ids=["split", "folds"])
BOTH = pytest.mark.parametrize("task", ["multilabel", "regression"])


class Words(HTMLParser):
    """The text of a page, section by section, and the texts that stand for its images."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.section, self.text = "", dict[str, str]()
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "img":
            self.images.append(named["alt"] or "")
            assert str(named["src"]).startswith("data:image/png;base64,")
        elif tag not in ("meta", "link", "br"):
            self.open.append(tag)
        if tag == "section":
            self.section = named["id"] or ""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, words: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text[self.section] = self.text.get(self.section, "") + " " + " ".join(words.split())


def report(made: Made) -> Words:
    words = Words()
    words.feed((made.path / "report.html").read_text(encoding="utf-8"))
    assert words.open == []
    return words


# result.json


HEADLINES = {"multilabel": {"map", "macro_f1", "micro_f1", "subset_accuracy"}, "regression": {"rmse", "mae", "r2"}}


@BOTH
@EACH
def test_the_result_tells_of_its_task_alone(made: Callable[..., Made], task: str, folds: bool) -> None:
    told = made(task, folds).told
    assert told["task"] == task
    assert told["n"] == (160 if folds else 40)
    assert told["classes"] == list(LABELS if task == "multilabel" else QUANTITIES)
    assert told["units"] == ([] if task == "multilabel" else ["%", ""])
    assert told["metrics"].keys() == HEADLINES[task]
    assert [len(told["per_class"]), len(told["per_quantity"])] == ([3, 0] if task == "multilabel" else [0, 2])
    assert told["baselines"].keys() == ({"near", "far", "early_stack"} if folds else set())
    for baseline in told["baselines"].values():
        assert baseline.keys() == HEADLINES[task] | {"modalities", "cost"}
    assert [fold["fold"] for fold in told["folds"]] == (["0", "1", "2"] if folds else [])
    assert all(fold["metrics"].keys() == HEADLINES[task] for fold in told["folds"])
    for found in told["comparison"]["against"].values() if folds else ():
        assert found["differences"].keys() == HEADLINES[task]
    assert Result.from_dict(told) == made(task, folds).run.result


@EACH
def test_figures_of_labels_are_those_of_the_predictions(made: Callable[..., Made], folds: bool) -> None:
    held = made("multilabel", folds)
    found = held.run.predictions
    metrics = {name: figure["value"] for name, figure in held.told["metrics"].items()}
    given = found.answers > 0.5
    assert metrics == pytest.approx(
        {
            "map": sk.average_precision_score(found.target, found.answers),
            "macro_f1": sk.f1_score(found.target, given, average="macro"),
            "micro_f1": sk.f1_score(found.target, given, average="micro"),
            "subset_accuracy": sk.accuracy_score(found.target, given),
        }
    )
    assert metrics["map"] > 0.7
    assert [row["name"] for row in held.told["per_class"]] == list(LABELS)
    assert [row["n"] for row in held.told["per_class"]] == found.target.sum(0).tolist()
    confusion = sk.multilabel_confusion_matrix(found.target, given)
    rows = held.rows("confusion.csv")
    assert [row["label"] for row in rows] == list(LABELS)
    assert [[int(count) for count in list(row.values())[1:]] for row in rows] == confusion.reshape(3, 4).tolist()
    assert list(rows[0])[1:] == ["true_negatives", "false_positives", "false_negatives", "true_positives"]
    np.testing.assert_array_equal(held.run.confusion, confusion)


@EACH
def test_figures_of_quantities_are_those_of_the_predictions(made: Callable[..., Made], folds: bool) -> None:
    held = made("regression", folds)
    found = held.run.predictions
    metrics = {name: figure["value"] for name, figure in held.told["metrics"].items()}
    assert metrics == pytest.approx(
        {
            "rmse": sk.root_mean_squared_error(found.target, found.answers),
            "mae": sk.mean_absolute_error(found.target, found.answers),
            "r2": sk.r2_score(found.target, found.answers),
        }
    )
    assert metrics["r2"] > 0.6
    rows = held.told["per_quantity"]
    assert [row["name"] for row in rows] == list(QUANTITIES)
    raw = sk.root_mean_squared_error(found.target, found.answers, multioutput="raw_values")
    assert [row["rmse"]["value"] for row in rows] == pytest.approx(raw)
    assert raw[0] > 1000 * raw[1]  # each in its own unit
    assert not (held.path / "confusion.csv").exists()


@BOTH
@EACH
def test_predictions_are_in_the_order_and_the_unit_of_the_data(
    made: Callable[..., Made], data: Path, task: str, folds: bool
) -> None:
    held = made(task, folds)
    with np.load(data / "toy.npz") as arrays:
        known = {name: arrays[name] for name in arrays}
    expected = known["labels"] if task == "multilabel" else np.stack([known["moisture"], known["height"]], 1)
    beside = ["near", "far", "early_stack"] if folds else []
    for path in [held.path / "predictions.csv", *(held.path / "baselines" / f"{name}.csv" for name in beside)]:
        found, names = read_predictions(path)
        assert found.task == task
        assert names == tuple(held.told["classes"])
        positions = [int(id) for id in found.ids]
        assert positions == sorted(positions)
        assert not {position for position in positions if position % 9 == 0}
        np.testing.assert_array_equal(found.target, expected[positions])
        if folds:
            assert found.fold is not None
            assert found.fold.tolist() == [str(position % 3) for position in positions]


@BOTH
def test_fusion_helps_where_each_modality_tells_a_part(made: Callable[..., Made], task: str) -> None:
    held = made(task, True)
    best = held.told["comparison"]["best"]
    deciding = "map" if task == "multilabel" else "rmse"
    worse = {name: held.told["baselines"][name][deciding]["value"] for name in ("near", "far")}
    assert best == (max if task == "multilabel" else min)(worse, key=worse.__getitem__)
    assert held.told["comparison"]["verdict"] == "better"
    fused = held.told["metrics"][deciding]["value"]
    difference = held.told["comparison"]["against"][best]["differences"][deciding]["value"]
    assert difference == pytest.approx(fused - worse[best])
    assert difference > 0 if task == "multilabel" else difference < 0


@BOTH
@EACH
def test_the_best_epoch_is_the_one_of_the_tasks_own_figure(made: Callable[..., Made], task: str, folds: bool) -> None:
    held = made(task, folds)
    figure = "val/map" if task == "multilabel" else "val/rmse"
    loss = "train/binary_cross_entropy" if task == "multilabel" else "train/mse"
    for row in held.rows("metrics.csv"):
        assert row[figure]
        assert row[loss]
        assert "val/oa" not in row
    with np.load(held.path / "checkpoints" / ("fusion-fold0" if folds else "fusion") / "answer.npz") as answer:
        told = json.loads(str(answer["told"]))
    sign = -1 if task == "multilabel" else 1
    merits = [(sign * row[figure], row["val/loss"]) for row in told["history"]]  # equal ones go by the loss
    assert told["best_epoch"] == 1 + merits.index(min(merits))


@BOTH
def test_a_run_teaches_another_by_the_shipped_loss(
    made: Callable[..., Made], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.setattr("fusionkit.finish.write_report", lambda folder, told: None)  # whose figures take long
    teacher = made(task, False).path
    own = "binary_cross_entropy" if task == "multilabel" else "mse"
    loss = f"loss={{{own}: 1, distillation: {{teacher: {teacher}, features: 0.1, weight: 2}}}}"
    recipe = load_recipe_of(data, task, loss, "modalities.far=null", "train.epochs=2")
    pupil = run(recipe, runs=tmp_path, progress=Progress(Console(file=StringIO())))
    assert pupil.result.modalities == ("near",)
    told = pupil.metrics
    assert (told["train/distillation"] > 0).all()
    np.testing.assert_allclose(told["train/loss"], told[f"train/{own}"] + 2 * told["train/distillation"])


# report.html


@EACH
def test_the_report_of_a_regression_says_nothing_of_classes(made: Callable[..., Made], folds: bool) -> None:
    words = report(made("regression", folds))
    told = " ".join(part for section, part in words.text.items() if section not in ("provenance", "recipe"))
    told += " ".join(words.images)
    assert not re.search(
        r"\b(OA|AA|PA|UA|AP|kappa|F1|mAP)\b|[Cc]onfusion|\bclass|(?<!without a )\blabel|accurac", told
    ), told
    for expected in ("RMSE", "MAE", "R²", "moisture", "height", "Predicted and true", "%"):
        assert expected in told
    assert ("fold as test" in told) == folds


@EACH
def test_the_report_of_labels_says_nothing_of_one_class_a_sample(made: Callable[..., Made], folds: bool) -> None:
    words = report(made("multilabel", folds))
    told = " ".join(part for section, part in words.text.items() if section not in ("provenance", "recipe"))
    told += " ".join(words.images)
    assert not re.search(r"\b(OA|AA|kappa)\b|\bclasses\b|RMSE|R²", told), told
    for expected in ("mAP", "micro F1", "subset accuracy", *LABELS, "20 samples without a label are in no part"):
        assert expected in told


# Before a run


@BOTH
def test_describe_counts_what_has_no_target_and_tells_of_the_rest(data: Path, task: str) -> None:
    told = describe(load_recipe_of(data, task), Progress(Console(file=StringIO())))
    assert told.unlabelled == 20
    assert told.sizes == [("", {"train": 96, "val": 24, "test": 40})]
    lines = str(told).splitlines()
    assert "  unlabelled 20" in lines
    assert ("labels" if task == "multilabel" else "quantities") in lines
    names = LABELS if task == "multilabel" else QUANTITIES
    assert [name for name, _ in told.classes] == list(names)
    assert all(parts.keys() == {"train", "val", "test"} for _, parts in told.classes)


def load_recipe_of(data: Path, task: str, *overrides: str) -> Any:
    path = data / f"{task}.yaml"
    path.write_text(text(data, task))
    return load_recipe(path, overrides)


@BOTH
def test_check_reads_no_sample(data: Path, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusionkit_datasets.arrays.ArrayDataset.read", None)
    rows = {row.part: row for row in check(load_recipe_of(data, task)).rows}
    outputs = 3 if task == "multilabel" else 2
    assert rows["head"].parameters == 8 * outputs + outputs


def test_the_command_line_runs_them_too(
    fusionkit: Callable[..., Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for task in ("multilabel", "regression"):
        Path("toy.yaml").write_text(text(data, task))
        answer = fusionkit("check", "toy.yaml")
        assert answer.code == 0, answer.err
        answer = fusionkit("data", "describe", "toy.yaml")
        assert answer.code == 0, answer.err
        assert "unlabelled 20" in answer.out
    answer = fusionkit("run", "toy.yaml", "baselines=true", "train.epochs=1")
    assert answer.code == 0, answer.err
    [folder] = answer.out.splitlines()
    told = json.loads((Path(folder) / "result.json").read_text())
    assert "RMSE" in answer.err
    assert told["comparison"]["answer"] in " ".join(answer.err.split())
    assert not re.search(r"\bOA\b|kappa", answer.err)


# What is refused

SEVERAL = "several labels as it is asked here; write `task: multilabel`, or ask it for"
BALANCED = "train.balance: gradients are balanced by the scores of classes; the task is"


@pytest.mark.parametrize(
    ("task", "targets", "offered"),
    [
        ("classification", "multilabel", f"{SEVERAL} one"),
        ("classification", "regression", "quantities as it is asked here; write `task: regression`, or ask it for one"),
        ("multilabel", "classification", "one class a sample as it is asked here; write `task: classification`, or"),
        ("regression", "multilabel", f"{SEVERAL} q"),
    ],
)
def test_a_task_that_is_not_that_of_the_data(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, targets: str, offered: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "r.yaml"
    path.write_text(text(data, task, targets=targets))
    line = 1 + path.read_text().splitlines().index(f"task: {task}")
    for work in (check, run, describe):
        with pytest.raises(RecipeError) as told:
            work(load_recipe(path))
        assert str(told.value).startswith(f"{path}:{line}:1: task: arrays gives {offered}")
        assert told.value.exit_code == 2
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("task", "override", "problem"),
    [
        (
            "regression",
            "train.select=oa",
            "train.select: regression has no figure 'oa'; choose from loss, mae, r2, rmse",
        ),
        ("multilabel", "train.select=rmse", "train.select: multilabel has no figure 'rmse'"),
        ("classification", "train.select=map", "train.select: classification has no figure 'map'"),
        ("regression", "train.balance={}", f"{BALANCED} regression"),
        ("multilabel", "train.balance={}", f"{BALANCED} m"),
        ("regression", "loss=cross_entropy", "loss: cross_entropy is for classification, and the task is regression"),
        ("classification", "loss=mse", "loss: mse is for regression and grounding, and the task is classification"),
        ("regression", "data.units={moist: k}", "data.units: there is no quantity 'moist'; did you mean 'moisture'?"),
        ("regression", "data.labels=toy.npz:kind", "data.source: give either `labels` or `quantities`"),
        ("regression", "data.class_names=[a]", "data.class_names: 1 names for 2 "),
    ],
)
def test_what_does_not_go_with_the_task(data: Path, task: str, override: str, problem: str) -> None:
    with pytest.raises(RecipeError) as told:
        check(load_recipe_of(data, task, override))
    assert problem in str(told.value)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("task", "select"),
    [("regression", "r2"), ("regression", "mae"), ("multilabel", "micro_f1"), ("multilabel", "loss")],
)
def test_figures_of_the_task_may_select(data: Path, task: str, select: str) -> None:
    assert load_recipe_of(data, task, f"train.select={select}").train.select == select


def test_quantities_may_have_other_names(data: Path) -> None:
    assert describe(load_recipe_of(data, "regression", "data.class_names=[LFMC, top]")).classes[0][0] == "LFMC"


def test_a_quantity_that_never_varies_is_told_with_its_line(data: Path, tmp_path: Path) -> None:
    np.savez(data / "flat.npz", flat=np.full(N, 0.1))
    recipe = load_recipe_of(data, "regression", "data.quantities={flat: flat.npz:flat}", "data.units=null")
    with pytest.raises(RecipeError, match=r"data.source: flat is the same in all training samples"):
        run(recipe, runs=tmp_path / "runs", progress=Progress(Console(file=StringIO())))
    assert not (tmp_path / "runs").exists()
