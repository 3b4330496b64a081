"""The terms of a loss: which a model can be asked for, what is said of others, and what is made to fit the model."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from fusionkit_fakes import Branches, Cat, Entropy, Size, recipe, registry
from rich.console import Console
from torch import Tensor, nn

from fusionkit.assembly import blueprint
from fusionkit.check import check
from fusionkit.components import Component
from fusionkit.contract import Loss, Mixing
from fusionkit.errors import RecipeError, ShapeError
from fusionkit.experiment import run
from fusionkit.flow import Batch, Features, Fused, InputSpec, Output, Task
from fusionkit.progress import Progress
from fusionkit.recipe import Recipe, load_recipe
from fusionkit.registry import Entry, Registry
from fusionkit.runs import Run
from fusionkit.terms import fit_losses, fit_losses_of_baseline, make_loss

pytestmark = pytest.mark.usefixtures("undrawn")

TASK = Task("classification", ("a", "b", "c"), (1, 1, 1))
INPUTS = {"image": InputSpec((2, 6, 6)), "vector": InputSpec((5,))}


class Adapted(Loss):
    """Compares the fused vector with the embedding of one modality, which a layer made to fit brings to its width.

    Args:
        modality: the one.
    """

    def __init__(self, task: Task, *, modality: str = "vector"):
        super().__init__(task)
        self.modality, self.fitted, self.stepped = modality, 0, 0

    def fit_to(self, output: Output) -> None:
        assert output.logits.is_meta
        if self.modality not in output.embeddings:
            raise ShapeError(f"there is no modality {self.modality}")
        self.fitted += 1
        self.layer = nn.Linear(output.embeddings[self.modality].shape[1], output.fused.shape[1])

    def forward(self, output: Output, batch: Batch) -> Tensor:
        return (self.layer(output.embeddings[self.modality]) - output.fused).square().mean()

    def after_step(self) -> None:
        self.stepped += 1
        with torch.no_grad():
            self.layer.bias.clamp_(min=0)


class Stages(Loss):
    """Reads the stages of the fusion."""

    needs_stages = True

    def forward(self, output: Output, batch: Batch) -> Tensor:
        return torch.stack([logits.square().mean() for logits in output.stage_logits.values()]).sum()


class Penalty(Loss):
    """Reads a penalty of the fusion."""

    needs_penalty = "size"

    def forward(self, output: Output, batch: Batch) -> Tensor:
        return output.penalties["size"]


class Contrast(Entropy):
    """Compares the samples of a batch, which are of one class each."""

    compares_samples = True
    takes_mixed = False


class Staged(Cat):
    """Names a stage on its way, and a penalty."""

    def forward(self, features: dict[str, Features]) -> Fused:  # type: ignore[override]
        vector = super().forward(features)
        return Fused(vector, stages={"middle": vector[:, :4]}, penalties={"size": vector.square().mean()})


class Mix(Mixing):
    """Mixes nothing."""

    def __call__(self, batch: Batch, random: Any) -> Batch:
        return batch


def parts() -> Registry:
    """The fakes and what is above."""
    made = registry(losses=(Adapted, Stages, Penalty, Contrast))
    plugin = made.plugins[0]
    more: list[Any] = [("fusion", "staged", Staged), ("augmentation", "mix", Mix)]
    made.components += [
        Entry(Component(kind, name, f"{target.__module__}:{target.__name__}"), plugin) for kind, name, target in more
    ]
    return made


def loaded(**changes: Any) -> Recipe:
    return load_recipe(recipe(**changes), registry=parts())


def fitted(**changes: Any) -> Mapping[str, tuple[Loss, Any]]:
    held = loaded(**changes)
    return fit_losses(held, blueprint(held, INPUTS, TASK))


def ran(folder: Path, **changes: Any) -> Run:
    return run(loaded(**changes), runs=folder, progress=Progress(Console(file=StringIO())))


# What is refused, with its line


TEXT = """\
data: {{source: {data}}}
modalities: {{{modalities}}}
fusion: {fusion}
{more}
loss:
  entropy: 1
  {loss}
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What `check` says of a recipe with this term in line 7."""
    monkeypatch.chdir(tmp_path)

    def told(loss: str, *, data: str = "toy", modalities: str = "image: conv, vector: linear", **keys: str) -> str:
        text = TEXT.format(**{"fusion": "cat", "more": ""} | keys, loss=loss, data=data, modalities=modalities)
        Path("r.yaml").write_text(text)
        with pytest.raises(RecipeError) as error:
            check(load_recipe("r.yaml", registry=parts()))
        assert error.value.exit_code == 2
        return str(error.value)

    return told


def test_a_loss_of_another_task(told: Callable[..., str]) -> None:
    assert told("binary: 0.5") == "r.yaml:7:3: loss.binary: binary is for multilabel, and the task is classification"
    assert told("squares: {weight: 2}") == (
        "r.yaml:7:3: loss.squares: squares is for regression, and the task is classification"
    )


def test_a_branch_that_the_fusion_does_not_have(told: Callable[..., str]) -> None:
    twins = {"data": "twins", "modalities": "one: conv, two: conv"}
    expected = "r.yaml:7:3: loss.branches: branches needs a branch of each modality; stack has none of two"
    assert told("branches: 0.5", fusion="stack", **twins) == expected


def test_stages_and_penalties_that_the_fusion_does_not_have(told: Callable[..., str]) -> None:
    assert told("stages: 0.5") == (
        "r.yaml:7:3: loss.stages: stages needs the intermediate stages of the fusion; cat names none"
    )
    assert told("penalty: 0.5") == (
        "r.yaml:7:3: loss.penalty: penalty needs a fusion with the penalty 'size'; cat has none"
    )
    assert fitted(fusion="staged", loss={"entropy": 1, "stages": 1, "penalty": 1}).keys() == {
        *("entropy", "stages", "penalty")
    }


def test_a_term_that_does_not_fit_the_model(told: Callable[..., str]) -> None:
    expected = "r.yaml:7:3: loss.adapted: there is no modality lidar"
    assert told("adapted: {modality: lidar}") == expected


def test_a_term_that_cannot_be_made(told: Callable[..., str]) -> None:
    assert told("picky: 1") == "r.yaml:7:3: loss.picky: this loss needs four classes"


def test_a_batch_of_which_samples_are_compared_cannot_be_cut(told: Callable[..., str]) -> None:
    expected = (
        "r.yaml:4:9: train.accumulate: contrast compares the samples of a batch with each other, so a batch cannot be "
        "cut"
    )
    assert told("contrast: 1", more="train: {accumulate: 2}") == expected
    assert fitted(loss={"entropy": 1, "contrast": 1}, train={"accumulate": 1}).keys() == {"entropy", "contrast"}


def test_samples_of_one_class_are_not_mixed(told: Callable[..., str]) -> None:
    expected = "r.yaml:4:11: augment.0: contrast cannot be asked of mixed samples; leave mix or contrast out"
    assert told("contrast: 1", more="augment: [mix]") == expected
    assert fitted(augment=["mix"]).keys() == {"entropy"}


def test_a_run_refuses_it_before_it_makes_a_folder(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="stages needs the intermediate stages"):
        ran(tmp_path / "runs", loss={"entropy": 1, "stages": 1})
    assert not (tmp_path / "runs").exists()


# What fits


def test_every_term_has_its_options_and_its_weight() -> None:
    found = fitted(loss={"entropy": {"poison": 9}, "adapted": {"weight": "dwa"}, "size": 0.25})
    assert {name: (type(loss), weight) for name, (loss, weight) in found.items()} == {
        "entropy": (Entropy, 1.0),
        "adapted": (Adapted, "dwa"),
        "size": (Size, 0.25),
    }
    assert found["entropy"][0].poison == 9
    assert found["size"][0].task is TASK


def test_a_term_is_fitted_once_and_for_real() -> None:
    (adapted, _) = fitted(loss={"entropy": 1, "adapted": 1})["adapted"]
    assert isinstance(adapted, Adapted)
    assert adapted.fitted == 1
    assert (adapted.layer.in_features, adapted.layer.out_features) == (4, 6)
    assert adapted.layer.weight.device.type == "cpu"


def test_what_is_fitted_depends_on_the_seed_and_not_on_other_terms() -> None:
    def weight(**changes: Any) -> Tensor:
        torch.rand(3)
        (loss, _) = fitted(**changes)["adapted"]
        return loss.layer.weight  # type: ignore[union-attr, return-value]

    first = weight(loss={"adapted": 1})
    assert torch.equal(first, weight(loss={"entropy": 1, "size": 1, "adapted": 2}))
    assert not torch.equal(first, weight(loss={"adapted": 1}, seed=1))


def test_a_baseline_is_not_asked_for_what_it_does_not_have() -> None:
    held = loaded(loss={"entropy": 1, "adapted": 1, "branches": 1})
    for modality, terms in {"vector": ["entropy", "adapted", "branches"], "image": ["entropy", "branches"]}.items():
        plan = blueprint(held, INPUTS, TASK, modalities=[modality])
        assert list(fit_losses_of_baseline(held, plan)) == terms


def test_a_baseline_of_which_nothing_can_be_asked_is_refused() -> None:
    held = loaded(loss={"adapted": 1}, baselines=True)
    plan = blueprint(held, INPUTS, TASK, modalities=["image"])
    with pytest.raises(RecipeError) as told:
        fit_losses_of_baseline(held, plan)
    expected = "no term of the loss can be asked of the baseline image: there is no modality vector"
    assert str(told.value) == f"recipe: baselines: {expected}"


def test_the_options_of_a_term_are_proven_with_its_line() -> None:
    held = loaded(loss=["entropy", "picky"])
    with pytest.raises(RecipeError, match=r"recipe: loss\.1: this loss needs four classes"):
        make_loss(held, held.losses[1], TASK)


# In training


def test_what_is_fitted_is_trained_kept_and_called_after_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fit_to, after_step = Adapted.fit_to, Adapted.after_step
    monkeypatch.setattr(Adapted, "fit_to", lambda self, output: (calls.append("fit"), fit_to(self, output))[1])
    monkeypatch.setattr(Adapted, "after_step", lambda self: (calls.append("step"), after_step(self))[1])
    changes: dict[str, Any] = {"loss": {"entropy": 1, "adapted": 0.5}, "train": {"epochs": 2, "lr": 0.01}}
    made = ran(tmp_path, **changes)
    begun = len(calls) - calls[::-1].index("fit") - 1
    steps = 2 * 5  # 36 samples in batches of at most 8
    assert calls[begun:] == ["fit", *["step"] * steps]
    assert "step" not in calls[:begun]
    first = fitted(**changes)["adapted"][0].layer  # type: ignore[union-attr]
    held = torch.load(made.path / "checkpoints" / "fusion" / "last.ckpt", weights_only=True)["objective"]
    assert not torch.equal(held["losses.adapted.layer.weight"], first.weight)
    assert not torch.equal(held["losses.adapted.layer.bias"], first.bias)
    assert (held["losses.adapted.layer.bias"] >= 0).all()  # clamped, and not moved since
    best = torch.load(made.path / "checkpoints" / "fusion" / "best.ckpt", weights_only=True)["model"]
    assert not any("adapted" in name or "layer" in name for name in best)


def test_a_run_trains_baselines_by_the_terms_that_fit(tmp_path: Path) -> None:
    made = ran(tmp_path, loss={"entropy": 1, "adapted": 0.5}, train={"epochs": 1}, baselines=True)
    with (made.path / "metrics.csv").open(newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert {model: bool(row["train/adapted"]) for model, row in rows.items()} == {
        "baseline-image": False,
        "baseline-vector": True,
        "fusion": True,
    }
    assert all(row["train/entropy"] for row in rows.values())


def test_branches_of_a_single_modality_are_its_own(tmp_path: Path) -> None:
    """A baseline too has a branch for each modality that it reads, and the term is asked of it."""
    held = loaded(loss={"entropy": 1, "branches": 1})
    plan = blueprint(held, INPUTS, TASK, modalities=["image"])
    (branches, _) = fit_losses_of_baseline(held, plan)["branches"]
    assert isinstance(branches, Branches)
