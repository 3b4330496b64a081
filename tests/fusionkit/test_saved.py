"""Finished runs that answer samples: what they say, what they need to be rebuilt, and which cannot be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fusionkit_fakes import Toy, ToyLabels, ToyQuantities, recipe, registry
from rich.console import Console

from fusionkit.components import Component
from fusionkit.contract import Dataset, Index, Sample
from fusionkit.errors import FusionkitError, RequestError
from fusionkit.experiment import run
from fusionkit.flow import InputSpec, Task
from fusionkit.progress import Progress
from fusionkit.recipe import load_recipe
from fusionkit.registry import Entry, Registry
from fusionkit.runs import Run
from fusionkit.saved import SavedRun
from fusionkit.splits import divide

pytestmark = pytest.mark.usefixtures("undrawn")


class Folds(Toy):
    """Three folds in a column, and no official split."""

    def index(self, progress: Any = None) -> Index:
        fold = np.array(["x", "y", "z"])[np.arange(self.samples) // 3 % 3]
        return replace(super().index(), split=None, columns={"fold": fold})


class FoldsOfQuantities(Folds, ToyQuantities):
    """The same of quantities."""


class Sparse(Toy):
    """Every fourth sample lacks the vector."""

    def read(self, i: int) -> Sample:
        return super().read(i) | ({"vector": None} if i % 4 == 0 else {})


def parts() -> Registry:
    made = registry()
    made.components += [
        Entry(Component("dataset", target.__name__.lower(), f"{target.__module__}:{target.__name__}"), made.plugins[0])
        for target in (Folds, FoldsOfQuantities, Sparse)
    ]
    return made


@pytest.fixture(autouse=True)
def fakes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = parts()
    monkeypatch.setattr("fusionkit.recipe.load_registry", lambda: made)


ALL = {
    "image": {"encoder": {"name": "conv", "norm": True}},
    "vector": {"encoder": "linear", "normalize": "quantile"},
    "steps": {"encoder": "linear", "normalize": "whiten", "absent": "token"},
}
BY_FOLD = {"split": {"column": "fold", "val": 0.2}, "folds": "all", "batch_size": 8}
RECIPES: dict[str, dict[str, Any]] = {
    "classes": {},
    "labels": {"task": "multilabel", "loss": "binary", "data": {"source": "toylabels", "batch_size": 8}},
    "quantities": {"task": "regression", "loss": "squares", "data": {"source": "toyquantities", "batch_size": 8}},
    "bf16": {"train": {"epochs": 2, "precision": "bf16"}},
    "64": {"train": {"epochs": 2, "precision": "64"}},
    "folds": {"data": {"source": "folds", **BY_FOLD}},
    "folds of quantities": {
        "task": "regression", "loss": "squares", "data": {"source": "foldsofquantities", **BY_FOLD},
    },
    "sparse": {"data": {"source": "sparse", "batch_size": 8}},
    "dropped": {"augment": [{"name": "jitter", "drop": 0.5}]},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """A run of one of `RECIPES`, over three modalities scaled in different ways."""
    known: dict[str, Run] = {}

    def made(name: str) -> Run:
        if name not in known:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("fusionkit.recipe.load_registry", parts)
                whole = recipe(**({"modalities": ALL, "train": {"epochs": 2, "lr": 0.03}} | RECIPES[name]))
                progress = Progress(Console(file=StringIO()))
                known[name] = run(load_recipe(whole), runs=tmp_path_factory.mktemp("runs"), progress=progress)
        return known[name]

    return made


def samples(dataset: Dataset, ids: list[str]) -> list[Sample]:
    """Read anew, with more modalities than are asked for."""
    return [dataset.read(int(id.removeprefix("s"))) for id in ids]


# What it says


@pytest.mark.parametrize(
    ("name", "dataset"),
    [("classes", Toy()), ("labels", ToyLabels()), ("quantities", ToyQuantities()), ("64", Toy()), ("sparse", Sparse())],
)
def test_test_samples_are_answered_as_the_run_answered_them(
    made: Callable[[str], Run], name: str, dataset: Dataset
) -> None:
    told = made(name).predictions
    saved = SavedRun.load(made(name).path)
    answers = saved.answers(saved.batch(samples(dataset, list(told.ids))))
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, told.answers, rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(
        saved.answers(saved.batch(samples(dataset, [told.ids[3]]))), told.answers[3:4], rtol=1e-5
    )


def test_the_precision_is_that_of_the_run(made: Callable[[str], Run]) -> None:
    told = made("bf16").predictions
    saved = SavedRun.load(made("bf16").path)
    answers = saved.answers(saved.batch(samples(Toy(), list(told.ids))))
    np.testing.assert_allclose(answers, told.answers, rtol=2e-2)
    exact = replace(saved, recipe=load_recipe(saved.recipe.resolved(), ["train.precision=32"]))
    assert np.abs(exact.answers(saved.batch(samples(Toy(), list(told.ids)))) - answers).max() > 1e-4


def test_folds_answer_together(made: Callable[[str], Run]) -> None:
    told = made("folds").predictions
    saved = SavedRun.load(made("folds").path)
    assert saved.folds == ("x", "y", "z")
    batch = saved.batch(samples(Toy(), list(told.ids)))
    with torch.no_grad():
        each = {fold: saved.model(fold)(batch).logits.softmax(1).numpy() for fold in "xyz"}
    for fold in "xyz":  # each model said of its own test samples what stands in the predictions
        own = told.fold == fold
        np.testing.assert_allclose(each[fold][own], told.answers[own], rtol=2e-6)
    np.testing.assert_allclose(saved.answers(batch), np.mean(list(each.values()), 0), rtol=1e-6)


def test_quantities_of_each_fold_are_in_their_own_unit(made: Callable[[str], Run]) -> None:
    saved = SavedRun.load(made("folds of quantities").path)
    told = made("folds of quantities").predictions
    batch = saved.batch(samples(Toy(), list(told.ids)))
    means = []
    for fold in "xyz":
        model = saved.model(fold)
        state = torch.load(saved.run.path / "checkpoints" / f"fusion-fold{fold}" / "best.ckpt", weights_only=True)
        scale = state["model"]["target_std"], state["model"]["target_mean"]
        with torch.no_grad():
            means.append((model(batch).logits * scale[0] + scale[1]).numpy())
        own = told.fold == fold
        np.testing.assert_allclose(means[-1][own], told.answers[own], rtol=2e-6)
    assert len({model.tobytes() for model in means}) == 3
    np.testing.assert_allclose(saved.answers(batch), np.mean(means, 0), rtol=1e-6)


def test_what_stands_in_the_place_of_an_absent_input_changes_nothing(made: Callable[[str], Run]) -> None:
    saved = SavedRun.load(made("sparse").path)
    held = samples(Toy(), ["s0", "s1", "s2"])
    without = [sample | {"vector": None} for sample in held]
    unnamed = [{name: value for name, value in sample.items() if name != "vector"} for sample in held]
    batch = saved.batch(without)
    assert batch.present["vector"].tolist() == [False] * 3
    assert batch.present["image"].tolist() == [True] * 3
    assert batch.valid["steps"].sum(1).tolist() == [1, 2, 3]
    batch.inputs["vector"] += torch.nan
    np.testing.assert_array_equal(saved.answers(batch), saved.answers(saved.batch(unnamed)))
    assert np.abs(saved.answers(batch) - saved.answers(saved.batch(held))).max() > 1e-4


# What it knows of itself


def test_shapes_and_classes_are_known_without_the_data(made: Callable[[str], Run], tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(made("classes").path, folder)
    resolved = folder / "resolved.yaml"
    resolved.write_text(resolved.read_text().replace("gone: null", "gone: /nowhere"))
    saved = SavedRun.load(folder)
    assert saved.recipe.dataset.options.model_dump()["gone"] == "/nowhere"
    assert saved.inputs == {"image": InputSpec((2, 6, 6)), "vector": InputSpec((5,)), "steps": Toy().inputs()["steps"]}
    assert (saved.task.kind, saved.task.class_names) == ("classification", ("a", "b", "c"))
    told = saved.run.predictions
    answers = saved.answers(saved.batch(samples(Toy(), list(told.ids))))
    np.testing.assert_allclose(answers, told.answers, rtol=2e-6)


def test_result_json_tells_shapes_and_absences(made: Callable[[str], Run]) -> None:
    told = json.loads((made("sparse").path / "result.json").read_text())
    assert list(told["inputs"]) == ["image", "vector", "steps"]
    assert told["inputs"]["steps"]["shape"] == [4, 3]
    assert told["inputs"]["steps"]["ragged"] is True
    assert told["absent"] == {"image": 0, "vector": lacking_in_train(made("sparse")), "steps": 0}


def lacking_in_train(run: Run) -> int:
    """Of the samples that lack the vector, those that the run has learned from."""
    partition, *others = divide(Toy().index(), load_recipe(run.resolved).data.split)
    assert not others
    found = sum(position % 4 == 0 for position in partition.train.tolist())
    assert 0 < found < 15
    return found


def test_whether_it_knows_samples_without_a_modality(made: Callable[[str], Run]) -> None:
    assert SavedRun.open(made("classes").path).absences == {}
    assert SavedRun.open(made("sparse").path).absences == {
        "vector": f"absent in {lacking_in_train(made('sparse'))} training samples"
    }
    assert SavedRun.open(made("dropped").path).absences == {"vector": "left out in training by jitter"}


# Runs that cannot be rebuilt


@pytest.fixture
def copied(made: Callable[[str], Run], tmp_path: Path) -> Path:
    """The folder of a run, to be spoilt."""
    shutil.copytree(made("classes").path, tmp_path / "run")
    return tmp_path / "run"


def edit_result(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    told = json.loads((folder / "result.json").read_text())
    change(told)
    (folder / "result.json").write_text(json.dumps(told))


def test_what_is_no_finished_run(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="nowhere is no run folder"):
        SavedRun.load(tmp_path / "nowhere")
    (copied / "result.json").unlink()
    with pytest.raises(RequestError, match=r"run is an unfinished run"):
        SavedRun.load(copied)


def test_a_run_of_an_earlier_version(copied: Path) -> None:
    edit_result(copied, lambda told: told.pop("inputs"))
    with pytest.raises(RequestError, match=r"does not tell the shape of image, vector, steps: it was made by an earl"):
        SavedRun.load(copied)
    known = SavedRun.open(copied, Toy().inputs())
    assert list(known.inputs) == ["image", "vector", "steps"]
    shapes = {"image": "[2, 6, 6]", "vector": "[5]"}
    resolved = load_recipe(
        known.recipe.resolved(), [f"modalities.{name}.shape={shape}" for name, shape in shapes.items()]
    )
    made = resolved.resolved()
    del made["modalities"]["steps"]
    (copied / "resolved.yaml").write_text(json.dumps(made))
    assert SavedRun.open(copied).inputs == {"image": InputSpec((2, 6, 6)), "vector": InputSpec((5,))}


WEIGHTS = Path("checkpoints") / "fusion" / "best.ckpt"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(b""), ""),
        (lambda path: path.write_text("no weights"), ""),
        (lambda path: path.write_bytes(path.read_bytes()[:-4000]), ""),
        (lambda path: torch.save({"other": {}}, path), "'model'"),
        (lambda path: torch.save([1, 2], path), ""),
        (lambda path: torch.save({"model": {}}, path), "Missing key"),
        (lambda path: torch.save({"model": Path("/")}, path), "Weights only load failed"),
    ],
    ids=["missing", "empty", "text", "cut", "other", "list", "no keys", "code"],
)
def test_weights_that_are_missing_or_damaged(copied: Path, spoil: Callable[[Path], Any], reason: str) -> None:
    spoil(copied / WEIGHTS)
    with pytest.raises(FusionkitError, match=r"best\.ckpt: the weights cannot be loaded: .*" + reason) as error:
        SavedRun.load(copied)
    assert len(str(error.value).splitlines()) == 1


def test_weights_of_another_model(copied: Path) -> None:
    edit_result(copied, lambda told: told["inputs"]["vector"].update(shape=[7]))
    with pytest.raises(FusionkitError, match=r"the weights cannot be loaded: size mismatch for normalizers\.vector"):
        SavedRun.load(copied)
    edit_result(copied, lambda told: told["inputs"]["vector"].update(shape="wide"))
    with pytest.raises(RequestError, match=r"result\.json: not a result of fusionkit: inputs\.vector\.shape"):
        SavedRun.load(copied)


def test_the_task_tells_nothing_of_training(made: Callable[[str], Run]) -> None:
    assert SavedRun.open(made("quantities").path).task == Task(
        "regression", ("light", "length"), samples=2, mean=(0.0, 0.0), std=(1.0, 1.0)
    )
