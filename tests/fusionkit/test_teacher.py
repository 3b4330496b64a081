"""A finished run that teaches: its output, what it leaves untouched, and which runs cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fusionkit_fakes import Toy, recipe, registry
from rich.console import Console
from torch import Tensor

from fusionkit.check import check
from fusionkit.components import Component
from fusionkit.contract import Index, Loss
from fusionkit.errors import FusionkitError, RecipeError, RequestError
from fusionkit.evaluation import Objective
from fusionkit.experiment import run
from fusionkit.flow import Batch, Output, Task
from fusionkit.model import FusionModel
from fusionkit.opened import open_data
from fusionkit.progress import Progress
from fusionkit.recipe import Recipe, load_recipe
from fusionkit.registry import Entry, Registry
from fusionkit.runs import Run
from fusionkit.teacher import Teacher, load_teachers

pytestmark = pytest.mark.usefixtures("undrawn")

TASK = Task("classification", ("a", "b", "c"), (1, 1, 1))


class Imitate(Loss):
    """Comes nearer to the logits of a run's model; remembers what it was told in evaluation.

    Args:
        teacher: the run.
    """

    heard: dict[int, Tensor]
    fitted_to: list[tuple[int, ...]]

    def __init__(self, task: Task, *, teacher: str | None = None):
        super().__init__(task)
        self.teacher = teacher

    def fit_to(self, output: Output) -> None:
        if self.teacher is not None:
            said = output.teachers[self.teacher]
            Imitate.fitted_to.append((*said.logits.shape, *said.fused.shape))

    def forward(self, output: Output, batch: Batch) -> Tensor:
        assert self.teacher is not None
        said = output.teachers[self.teacher]
        assert not said.logits.requires_grad
        for position, logits in zip(batch.index.tolist(), said.logits, strict=True):
            known = Imitate.heard.setdefault(position, logits)
            torch.testing.assert_close(known, logits, atol=1e-5, rtol=1e-5)  # in training and in evaluation
        return (output.logits - said.logits).square().mean()


class Folds(Toy):
    """Three folds in a column, and no official split."""

    def index(self, progress: Any = None) -> Index:
        fold = np.array(["x", "y", "z"])[np.arange(self.samples) // 3 % 3]
        return replace(super().index(), split=None, columns={"fold": fold})


class Half(Toy):
    """The map alone, in a split of its own."""

    def inputs(self) -> dict[str, Any]:
        return {"image": super().inputs()["image"]}


class Renamed(Toy):
    """Other classes."""

    def index(self, progress: Any = None) -> Index:
        return replace(super().index(), class_names=("a", "b", "other"))


def parts() -> Registry:
    made = registry(losses=(Imitate,))
    plugin = made.plugins[0]
    made.components += [
        Entry(Component("dataset", target.__name__.lower(), f"{target.__module__}:{target.__name__}"), plugin)
        for target in (Folds, Half, Renamed)
    ]
    return made


@pytest.fixture(autouse=True)
def fakes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher's own recipe is loaded from its folder, with all installed components: here with these."""
    made = parts()
    monkeypatch.setattr("fusionkit.recipe.load_registry", lambda: made)
    Imitate.heard, Imitate.fitted_to = {}, []


def ran(folder: Path, **changes: Any) -> Run:
    return run(load_recipe(recipe(**changes)), runs=folder, progress=Progress(Console(file=StringIO())))


BOTH: dict[str, Any] = {
    "image": {"encoder": {"name": "conv", "norm": True}},
    "vector": {"encoder": "linear", "normalize": "standard"},
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two modalities, one of them through batch norms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fusionkit.recipe.load_registry", parts)
        return ran(tmp_path_factory.mktemp("teacher"), modalities=BOTH, train={"epochs": 3, "lr": 0.03})


def pupil(teacher: Run | Path, **changes: Any) -> dict[str, Any]:
    """A recipe of one modality that the run teaches."""
    path = teacher if isinstance(teacher, Path) else teacher.path
    taught = {"modalities": {"vector": "linear"}, "loss": {"entropy": 1, "imitate": {"teacher": str(path)}}}
    return recipe(**(taught | {"train": {"epochs": 2}} | changes))


class Held:
    """Keeps every objective that was trained."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.objectives: list[Objective] = []
        init = Objective.__init__

        def kept(objective: Objective, *arguments: Any, **named: Any) -> None:
            init(objective, *arguments, **named)
            self.objectives.append(objective)

        monkeypatch.setattr(Objective, "__init__", kept)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(monkeypatch)


# What it says


def test_the_teacher_says_in_the_loss_what_it_answered_in_its_run(tmp_path: Path, teacher: Run, held: Held) -> None:
    before = torch.load(teacher.path / "checkpoints" / "fusion" / "best.ckpt", weights_only=True)["model"]
    made = ran(tmp_path, **pupil(teacher))
    assert made.result.modalities == ("vector",)
    (objective,) = held.objectives
    (model,) = objective.teachers.values()
    assert isinstance(model, FusionModel)
    assert list(model.encoders) == ["image", "vector"]

    # Frozen and in evaluation mode, though the pupil was trained beside it.
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    after = model.state_dict()
    assert any("running_mean" in name for name in before)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(value, after[name]), name

    # No part of what is trained or kept.
    assert not any("teachers" in name or "image" in name for name, _ in objective.named_parameters())
    checkpoints = made.path / "checkpoints" / "fusion"
    last = torch.load(checkpoints / "last.ckpt", weights_only=True)
    own = len(list(objective.parameters()))
    assert sum(len(group["params"]) for group in last["optimizer"]["param_groups"]) == own
    for kept in (last["objective"], torch.load(checkpoints / "best.ckpt", weights_only=True)["model"]):
        assert not any("image" in name or "teacher" in name for name in kept)

    # The loss was told what the run's predictions say, of samples that were in neither's training.
    told = teacher.predictions
    val = [f"s{position}" for position in Imitate.heard]
    assert set(val).isdisjoint(told.ids)  # test samples are answered without the terms of the loss
    assert Imitate.fitted_to[-1] == (2, 3, 2, 6)


def test_its_output_is_that_of_the_predictions(teacher: Run) -> None:
    opened = open_data(load_recipe(pupil(teacher)), Progress(Console(file=StringIO())))
    (held,) = opened.teachers.values()
    assert list(opened.inputs) == ["vector", "image"]
    from fusionkit.loading import EVALUATION, Samples

    samples = Samples(opened.dataset, opened.index.targets, opened.inputs)
    positions = [list(opened.index.ids).index(id) for id in teacher.predictions.ids]
    with torch.no_grad():
        output = held.model(None)(samples.__getitems__([(EVALUATION, position) for position in positions]))
    np.testing.assert_allclose(output.logits.softmax(1).numpy(), teacher.predictions.answers, atol=1e-5)


def test_the_teacher_is_not_in_the_cost_of_its_pupil(tmp_path: Path, teacher: Run) -> None:
    taught = ran(tmp_path, **pupil(teacher, baselines=False))
    alone = ran(tmp_path, **pupil(teacher, loss="entropy"))
    assert taught.result.cost.parameters == alone.result.cost.parameters
    assert taught.metrics["val/imitate"].notna().all()
    assert taught.predictions.answers.tolist() != alone.predictions.answers.tolist()


def test_a_resumed_pupil_is_taught_alike(tmp_path: Path, teacher: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Exception):  # noqa: N818
        pass

    whole = ran(tmp_path / "whole", **pupil(teacher, train={"epochs": 3}))
    with monkeypatch.context() as patch:
        patch.setattr(
            "fusionkit.logs.TensorBoard.on_epoch_end",
            lambda self, job: (_ for _ in ()).throw(Stop) if job.epoch == 2 else None,
        )
        with pytest.raises(Stop):
            ran(tmp_path / "killed", **pupil(teacher, train={"epochs": 3}))
    (folder,) = (tmp_path / "killed").iterdir()
    resumed = run(
        load_recipe(pupil(teacher, train={"epochs": 3})), resume=folder, progress=Progress(Console(file=StringIO()))
    )
    np.testing.assert_array_equal(resumed.predictions.answers, whole.predictions.answers)


def test_folds_are_taught_by_the_model_of_the_same_fold(tmp_path: Path, held: Held) -> None:
    data = {"source": "folds", "split": {"column": "fold", "val": 0.2}, "folds": "all", "batch_size": 8}
    taught = ran(tmp_path / "teacher", modalities=BOTH, data=data, train={"epochs": 1})
    held.objectives.clear()
    Imitate.heard.clear()

    def forget(job: Any) -> None:  # each fold has its own teacher
        Imitate.heard.clear()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fusionkit.logs.TensorBoard.on_fit_end", lambda self, job: forget(job))
        ran(tmp_path / "pupil", **pupil(taught, data=data, train={"epochs": 1}))
    folds = ["x", "y", "z"]
    assert len(held.objectives) == 3
    for fold, objective in zip(folds, held.objectives, strict=True):
        path = taught.path / "checkpoints" / f"fusion-fold{fold}" / "best.ckpt"
        expected = torch.load(path, weights_only=True)["model"]
        (model,) = objective.teachers.values()
        for name, value in model.state_dict().items():
            assert torch.equal(value, expected[name]), (fold, name)
    # Samples of another fold were not its test samples, though they are in its predictions.
    loaded = Teacher.load(str(taught.path), Toy().inputs(), TASK)
    tested = [id for id, fold in zip(taught.predictions.ids, taught.predictions.fold, strict=True) if fold == "x"]
    loaded.hold_unseen(tested, "x")
    for fold in ("y", None):
        with pytest.raises(RequestError, match=f"{len(tested)} of {len(tested)} test samples"):
            loaded.hold_unseen(tested, fold)


@pytest.mark.parametrize("precision", ["bf16", "64"])
def test_other_precisions(tmp_path: Path, teacher: Run, precision: str) -> None:
    made = ran(tmp_path, **pupil(teacher, train={"epochs": 1, "precision": precision}))
    assert made.finished


def test_augmentations_of_the_pupil_leave_the_teachers_modalities_together(tmp_path: Path, teacher: Run) -> None:
    """They are told the modalities of the recipe, and are given samples that hold the teacher's too."""
    Imitate.heard = _Nothing()
    made = ran(tmp_path, **pupil(teacher, augment=["jitter"]))
    assert made.finished


class _Nothing(dict):
    """Remembers nothing."""

    def setdefault(self, key: int, default: Any = None) -> Any:
        return default


# Which runs cannot


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What is said of a recipe whose teacher stands in line 6, by `check` or by a run that leaves no folder."""
    monkeypatch.chdir(tmp_path)

    def refused(path: Path, *, data: str = "source: toy", train: str = "epochs: 1", by_run: bool = False) -> str:
        lines = [f"data: {{{data}}}", "modalities: {image: conv}", "fusion: cat", f"train: {{{train}}}"]
        Path("r.yaml").write_text("\n".join([*lines, "loss:", f"  imitate: {{teacher: {path}}}", "  entropy: 1", ""]))
        told = []
        for work in (run, check)[: 1 if by_run else 2]:
            with pytest.raises(RecipeError) as error:
                work(load_recipe("r.yaml"))
            told.append(str(error.value))
        assert told[0] == told[-1]
        assert not Path("runs").exists()
        return told[0]

    return refused


PLACE = "r.yaml:6:13: loss.imitate.teacher: "


def test_a_path_that_is_no_run(refused: Callable[..., str], tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere") == f"{PLACE}{tmp_path / 'nowhere'} is no run folder"


def test_an_unfinished_run(refused: Callable[..., str], tmp_path: Path, teacher: Run) -> None:
    folder = tmp_path / "unfinished"
    folder.mkdir()
    (folder / "resolved.yaml").write_text((teacher.path / "resolved.yaml").read_text())
    told = refused(folder)
    assert told.startswith(PLACE)
    assert "unfinished" in told


def test_a_run_of_other_classes(refused: Callable[..., str], teacher: Run) -> None:
    told = refused(teacher.path, data="source: renamed")
    assert told == f"{PLACE}{teacher.path} predicts a, b, c (classification), not a, b, other (classification)"


def test_a_run_of_modalities_that_are_not_there(refused: Callable[..., str], teacher: Run) -> None:
    told = refused(teacher.path, data="source: half")
    assert told.startswith(f"{PLACE}{teacher.path} reads vector, which the dataset does not have")


def test_a_run_that_may_have_learned_from_test_samples(refused: Callable[..., str], teacher: Run) -> None:
    told = refused(teacher.path, data="source: toy, split: {test: 0.2, seed: 1}", by_run=True)
    assert told.startswith(PLACE)
    assert "were no test samples of" in told
    assert "teach with a run of the same split" in told


def test_a_run_without_folds_for_one_with_folds(refused: Callable[..., str], teacher: Run) -> None:
    told = refused(teacher.path, data="source: folds, split: {column: fold}, folds: all", by_run=True)
    assert "test samples of fold x, such as s0, were no test samples of" in told


def test_a_run_whose_weights_are_gone_or_of_another_model(tmp_path: Path, teacher: Run) -> None:
    toy = Toy()
    made = Teacher.load(str(teacher.path), toy.inputs(), TASK)
    assert made.model(None).task == replace(TASK, samples=3)
    with pytest.raises(FusionkitError, match=r"fusion-foldx.best\.ckpt: the weights cannot be loaded"):
        made.model("x")
    changed = load_recipe(made.saved.recipe.resolved(), ["fusion.dim=7"])
    other = Teacher(replace(made.saved, recipe=changed))
    with pytest.raises(FusionkitError, match=r"best\.ckpt: the weights cannot be loaded: size mismatch for fusion"):
        other.model(None)


def test_what_the_teacher_says_is_known_without_its_weights(teacher: Run) -> None:
    said = Teacher.load(str(teacher.path), Toy().inputs(), TASK).output()
    assert said.logits.is_meta
    assert (said.logits.shape[1], said.fused.shape[1], list(said.embeddings)) == (3, 6, ["image", "vector"])


def test_samples_that_were_its_test_samples_are_unseen(teacher: Run) -> None:
    made = Teacher.load(str(teacher.path), Toy().inputs(), TASK)
    ids = list(teacher.predictions.ids)
    made.hold_unseen(ids[2:], None)
    with pytest.raises(RequestError, match=r"1 of 12 test samples, such as s0, were no test samples of "):
        made.hold_unseen(["s0", *ids[1:]], None)


def test_a_run_is_loaded_once_and_only_where_a_term_names_one(teacher: Run) -> None:
    toy = Toy()
    assert load_teachers(load_recipe(recipe()), toy.inputs(), TASK) == {}
    taught: Recipe = load_recipe(pupil(teacher))
    (made,) = load_teachers(taught, toy.inputs(), TASK).values()
    assert made.saved.run.path == teacher.path
    assert made.place == ("loss", "imitate", "teacher")
