"""Gradient balance: the paper's coefficients, scores of modalities by themselves, and which gradients change."""

from __future__ import annotations

import math
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fusionkit_fakes import Cat, Conv, Entropy, Linear, Share, Stack, Toy, Twins, recipe, registry
from lightning.fabric import Fabric
from rich.console import Console
from torch import nn

from fusionkit.balance import GradientBalance, alone, coefficients, encoder_weights
from fusionkit.check import check
from fusionkit.contract import Fusion
from fusionkit.errors import RecipeError
from fusionkit.flow import Batch, Features, Input, Task
from fusionkit.loading import Batches, Samples
from fusionkit.model import Blueprint, FusionModel
from fusionkit.progress import Progress
from fusionkit.recipe import load_recipe
from fusionkit.sections import Balance, Train
from fusionkit.trainer import PRECISION, Fit, fit

TASK = Task("classification", ("a", "b", "c"), (1, 1, 1))
INPUTS = {name: spec for name, spec in Toy().inputs().items() if name != "steps"}
ORACLES = Path(__file__).parents[1] / "oracles"


def a_model(fusion: Any = Cat, *, norm: bool = False, seed: int = 0) -> FusionModel:
    encoders = {"image": partial(Conv, norm=norm), "vector": Linear}
    return Blueprint(INPUTS, encoders, fusion, fusion, TASK, seed=seed).build({})


def a_batch(*, absent: bool = False) -> Batch:
    samples = Samples(Toy(), Toy().index().targets, INPUTS)
    batch = samples.__getitems__([(-1, i) for i in range(12)])
    if absent:
        batch.present["image"][[1, 4]] = False
        batch.present["vector"][[4, 5, 6]] = False
    return batch


def on_cpu(precision: str = "32") -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision=PRECISION[precision])


def a_balance(model: FusionModel, **settings: Any) -> GradientBalance:
    balance = GradientBalance(model, Balance(**settings), on_cpu(), seed=0)
    balance.begin(1)
    return balance


def scores_by_hand(model: FusionModel, batch: Batch) -> dict[str, float]:
    """As the paper has it: the linear head over the concatenation, one modality's columns alone, and the bias."""
    model = model.eval()
    with torch.no_grad():
        prepared = model.prepare(batch)
        scores, start = {}, 0
        for name, encoder in model.encoders.items():
            pooled = encoder(prepared[name].value).tokens.mean(1)
            columns = model.fusion.mix.weight[:, start : start + pooled.shape[1]]
            start += pooled.shape[1]
            logits = model.head(pooled @ columns.T + model.fusion.mix.bias)
            right = logits.softmax(1)[torch.arange(len(batch)), batch.target]
            scores[name] = float(right[batch.present[name]].mean())
    return scores


# Coefficients


def test_coefficients_are_those_of_the_original() -> None:
    held = torch.load(ORACLES / "losses_and_fusion.pt", weights_only=True)["ogm_coeff"]
    scores = {
        name: float(held[f"logits_{name}"].softmax(1)[torch.arange(6), held["target"]].sum()) for name in ("a", "v")
    }
    found = coefficients(scores, held["alpha"])
    assert found == pytest.approx({"a": float(held["coeff_a"]), "v": float(held["coeff_v"])}, abs=1e-6)


def test_of_several_modalities_each_is_held_against_the_mean_of_the_others() -> None:
    found = coefficients({"a": 0.6, "b": 0.3, "c": 0.1}, 0.7)
    assert found == pytest.approx({"a": 1 - math.tanh(0.7 * 0.6 / 0.2), "b": 1, "c": 1})
    found = coefficients({"a": 0.6, "b": 0.5, "c": 0.1}, 0.7)
    assert found["b"] == pytest.approx(1 - math.tanh(0.7 * 0.5 / 0.35))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"a": 0.5}, {"a": 1}),
        ({}, {}),
        ({"a": 0.0, "b": 0.0}, {"a": 1, "b": 1}),
        ({"a": 0.2, "b": 0.0}, {"a": 0, "b": 1}),
    ],
)
def test_coefficients_at_the_edges(scores: dict[str, float], expected: dict[str, float]) -> None:
    assert coefficients(scores, 0.5) == expected


# Scores


@pytest.mark.parametrize("absent", [False, True])
def test_a_score_is_the_heads_share_of_one_modality(absent: bool) -> None:
    model, batch = a_model(), a_batch(absent=absent)
    balance = a_balance(model)
    with balance.watched(batch):
        model.train()(batch)
    sums, counts = balance.totals
    assert counts.tolist() == [int(held.sum()) for held in batch.present.values()]
    assert (sums / counts).tolist() == pytest.approx(list(scores_by_hand(model, batch).values()), abs=1e-6)


class Fickle(Cat):
    """With dropout and a batch norm, and a part that stays in evaluation mode."""

    def __init__(self, inputs: Any):
        super().__init__(inputs)
        self.drop, self.norm, self.frozen = nn.Dropout(0.5), nn.BatchNorm1d(6), nn.Dropout(0.5)

    def train(self, mode: bool = True) -> Fickle:
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, features: dict[str, Features]) -> torch.Tensor:
        return self.frozen(self.norm(self.drop(super().forward(features))))


def test_scores_leave_the_fusion_as_it_was() -> None:
    model, batch = a_model(Fickle, norm=True).train(), a_batch()
    torch.manual_seed(0)
    expected = model(batch).logits
    after_one = {name: value.clone() for name, value in model.state_dict().items()}
    other = a_model(Fickle, norm=True).train()
    balance = a_balance(other)
    torch.manual_seed(0)
    with balance.watched(batch):
        found = other(batch).logits
    assert torch.equal(found, expected)
    assert all(torch.equal(value, after_one[name]) for name, value in other.state_dict().items())
    modes = {name: part.training for name, part in other.named_modules()}
    assert modes == {name: part.training for name, part in model.named_modules()}
    assert (modes["fusion.drop"], modes["fusion.frozen"]) == (True, False)
    assert not other.fusion._forward_pre_hooks
    first = balance.totals.clone()
    balance.clear()
    with torch.no_grad():
        other.eval()
        before = balance._scores(other.fusion.encode(other.encoders, other.prepare(batch)), batch.target)
    again = balance._scores(other.fusion.encode(other.encoders, other.prepare(batch)), batch.target)
    assert torch.equal(before, again)  # nothing is drawn
    assert not torch.equal(first, before)  # the encoders' batch norms, which training saw, differ


def test_the_others_are_absent_in_every_stage() -> None:
    stage = Features(torch.ones(2, 3, 4))
    given = {name: Features(torch.ones(2, 3, 4), stages=(stage, stage)) for name in "ab"}
    found = alone(given, "a")
    assert found["a"] is given["a"]
    assert not found["b"].present.any()
    assert found["b"].pooled.abs().sum() == 0
    assert [held.pooled.abs().sum() for held in found["b"].stages] == [0, 0]


def test_a_modality_in_no_sample_has_no_score() -> None:
    model, batch = a_model().train(), a_batch()
    batch.present["vector"][:] = False
    balance = a_balance(model)
    with balance.watched(batch):
        model(batch).logits.sum().backward()
    balance.modulate(0)
    assert balance.figures() == {"balance/image": 1, "balance/vector": 1}


# Gradients


def with_gradients(**settings: Any) -> tuple[FusionModel, GradientBalance, dict[str, torch.Tensor]]:
    """A model after a backward, and copies of its gradients."""
    model, batch = a_model().train(), a_batch()
    with torch.no_grad():
        model.fusion.mix.weight.mul_(4)
        model.head.weight.mul_(4)
    balance = a_balance(model, **settings)
    with balance.watched(batch):
        output = model(batch)
    nn.functional.cross_entropy(output.logits, batch.target).backward()
    return model, balance, {name: weight.grad.clone() for name, weight in model.named_parameters()}


def test_the_weights_of_the_stronger_encoder_are_held_back_and_nothing_else() -> None:
    model, balance, before = with_gradients(noise=False)
    scores = scores_by_hand(model, a_batch())
    (strong, high), (weak, low) = sorted(scores.items(), key=lambda item: -item[1])
    assert high > 1.01 * low
    balance.modulate(0)
    factor = 1 - math.tanh(0.5 * high / low)
    assert balance.figures() == pytest.approx({f"balance/{strong}": factor, f"balance/{weak}": 1.0}, abs=1e-6)
    for name, weight in model.named_parameters():
        held_back = name.startswith(f"encoders.{strong}.") and weight.dim() > 1
        torch.testing.assert_close(weight.grad, before[name] * (factor if held_back else 1), atol=1e-7, rtol=1e-6)


def test_noise_has_each_gradients_own_deviation_and_is_counted() -> None:
    def noise(step: int) -> dict[str, torch.Tensor]:
        model, quiet, _ = with_gradients(noise=False)
        quiet.modulate(step)
        plain = {name: weight.grad for name, weight in model.named_parameters()}
        noisy, balance, before = with_gradients()
        balance.modulate(step)
        return {
            name: (weight.grad - plain[name]) / before[name].std(correction=0)
            for name, weight in noisy.named_parameters()
        }

    one, same, other = noise(3), noise(3), noise(4)
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    touched = {name for name, value in one.items() if value.abs().max() > 0}
    assert touched == {name for name, value in one.items() if name.startswith("encoders.") and value.dim() > 1}
    assert not any(torch.equal(one[name], other[name]) for name in touched)
    drawn = torch.cat([held[name].flatten() for held in (one, other) for name in touched])
    assert len(drawn) > 700
    assert float(drawn.mean()) == pytest.approx(0, abs=0.15)
    assert float(drawn.std()) == pytest.approx(1, abs=0.12)


def test_weights_that_two_encoders_share_are_left_alone() -> None:
    twins = Twins().inputs()
    model = Blueprint(twins, dict.fromkeys(twins, Conv), Share, Share, TASK).build({})
    shared = model.encoders["one"].enter.weight
    assert shared is model.encoders["two"].enter.weight
    found = encoder_weights(model)
    assert all(weight is not shared for weights in found.values() for weight in weights)
    assert [len(weights) for weights in found.values()] == [2, 2]  # two stages each


# In training


def a_fit(folder: Path, **options: Any) -> Fit:
    toy, modalities = Toy(), options.pop("modalities", list(INPUTS))
    inputs = {name: INPUTS[name] for name in modalities}
    index = toy.index()
    settings = {"epochs": 3, "lr": 0.05, "optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0} | options
    encoders = {"image": Conv, "vector": partial(Linear, dropout=0.2 if "dropout" in settings else 0.0)}
    settings.pop("dropout", None)
    return Fit(
        name="toy",
        model=Blueprint(inputs, {name: encoders[name] for name in inputs}, Cat, Cat, TASK).build({}),
        losses={"entropy": (Entropy(TASK), 1.0)},
        samples=Samples(toy, index.targets, inputs),
        train=np.flatnonzero(index.split == "train"),
        val=np.flatnonzero(index.split == "val"),
        ids=index.ids,
        settings=Train(**settings),
        batch_size=8,
        workers=0,
        seed=0,
        folder=folder,
    )


def trained(job: Fit, *callbacks: Any) -> Fit:
    fit(job, on_cpu(job.settings.precision), Progress(Console(file=StringIO())), callbacks)
    return job


class Stop(Exception):  # noqa: N818
    pass


class After:
    """Ends the training after so many steps, or epochs."""

    def __init__(self, *, steps: int = 0, epochs: int = 0):
        self.steps, self.epochs = steps, epochs

    def on_step_end(self, job: Fit, terms: dict[str, float]) -> None:
        if job.step == self.steps:
            raise Stop

    def on_epoch_end(self, job: Fit) -> None:
        if job.epoch == self.epochs:
            raise Stop


@pytest.mark.parametrize("parts", [1, 3])
def test_a_step_is_that_of_the_formula_however_the_batch_is_cut(tmp_path: Path, parts: int) -> None:
    job = a_fit(tmp_path, balance=Balance(noise=False, alpha=0.9), accumulate=parts, lr=1.0, schedule="constant")
    order = Batches(job.train, job.batch_size, seed=0)
    batch = job.samples.__getitems__(next(iter(order)))
    twin = a_fit(tmp_path).model
    nn.functional.cross_entropy(twin(batch).logits, batch.target).backward()
    scores = scores_by_hand(twin, batch)
    high, low = max(scores, key=scores.__getitem__), min(scores, key=scores.__getitem__)
    factor = 1 - math.tanh(0.9 * scores[high] / scores[low])
    before = {name: value.detach().clone() for name, value in job.model.named_parameters()}
    with pytest.raises(Stop):
        trained(job, After(steps=1))
    for name, weight in job.model.named_parameters():
        changes = name.startswith(f"encoders.{high}.") and weight.dim() > 1
        due = dict(twin.named_parameters())[name].grad * (factor if changes else 1)
        torch.testing.assert_close(before[name] - weight, due, atol=2e-6, rtol=1e-5)


def test_balance_is_logged_within_its_epochs_alone(tmp_path: Path) -> None:
    job = trained(a_fit(tmp_path, epochs=4, balance=Balance(first_epoch=2, last_epoch=3)))
    told = [{key: value for key, value in row.items() if key.startswith("balance/")} for row in job.history]
    assert [set(row) for row in told] == [
        set(),
        {"balance/image", "balance/vector"},
        {"balance/image", "balance/vector"},
        set(),
    ]
    assert all(0 < value <= 1 for row in told for value in row.values())
    assert any(value < 1 for row in told for value in row.values())
    plain = trained(a_fit(tmp_path / "plain", epochs=4))
    assert plain.history[0]["train/loss"] == job.history[0]["train/loss"]
    assert plain.history[2]["train/loss"] != job.history[2]["train/loss"]


def test_a_mean_over_the_steps_is_logged() -> None:
    balance = a_balance(a_model())
    balance.told = [{"image": 1.0, "vector": 0.5}, {"image": 0.4, "vector": 1.0}]
    assert balance.figures() == pytest.approx({"balance/image": 0.7, "balance/vector": 0.75})
    balance.begin(2)
    assert balance.figures() == {}


@pytest.mark.parametrize("after", [{"epochs": 2}, {"steps": 7}])
def test_a_killed_fit_goes_on_exactly(tmp_path: Path, after: dict[str, int]) -> None:
    options: dict[str, Any] = {"balance": Balance(), "dropout": True}
    whole = trained(a_fit(tmp_path / "whole", **options))
    with pytest.raises(Stop):
        trained(a_fit(tmp_path / "killed", **options), After(**after))
    resumed = trained(a_fit(tmp_path / "killed", **options))
    for one, other in zip(whole.history, resumed.history, strict=True):
        assert {key: one[key] for key in one if key != "seconds"} == {
            key: other[key] for key in one if key != "seconds"
        }
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])


@pytest.mark.parametrize("precision", ["bf16", "64"])
def test_other_precisions_balance_alike(tmp_path: Path, precision: str) -> None:
    one = trained(a_fit(tmp_path / "32", epochs=1, balance=Balance(noise=False)))
    other = trained(a_fit(tmp_path / precision, epochs=1, balance=Balance(noise=False), precision=precision))
    for name in INPUTS:
        assert other.history[0][f"balance/{name}"] == pytest.approx(one.history[0][f"balance/{name}"], rel=0.05)


def test_a_baseline_of_one_modality_is_not_balanced(tmp_path: Path) -> None:
    job = trained(a_fit(tmp_path, epochs=1, balance=Balance(), modalities=["image"]))
    assert not any(key.startswith("balance/") for key in job.history[0])


# Refused


class Joined(Cat):
    """Makes one encoder of all."""

    def join(self, encoders: nn.ModuleDict) -> nn.ModuleDict:
        return nn.ModuleDict({"joined": nn.ModuleDict(dict(encoders.items()))})

    def encode(self, encoders: nn.ModuleDict, inputs: dict[str, Input]) -> dict[str, Features]:
        return super().encode(encoders["joined"], inputs)


def with_fusion(fusion: type[Fusion], **changes: Any) -> Any:
    known = registry()
    resolve = known.resolve
    known.resolve = lambda kind, name: fusion if (kind, name) == ("fusion", "cat") else resolve(kind, name)  # type: ignore
    return load_recipe(recipe(data={"source": "twins"}, **changes), registry=known)


@pytest.mark.parametrize(
    ("fusion", "modalities", "message"),
    [
        (Joined, ["one", "two"], "of two modalities or more; cat makes one encoder of all"),
        (Stack, ["one", "two"], "of two modalities or more; cat makes one encoder of all"),
        (Cat, ["one"], "of two modalities or more; here is one alone"),
    ],
)
def test_without_encoders_to_balance_it_is_refused(fusion: type[Fusion], modalities: list[str], message: str) -> None:
    chosen = with_fusion(fusion, modalities=dict.fromkeys(modalities, "conv"), train={"balance": {"alpha": 0.3}})
    with pytest.raises(RecipeError, match=f"train.balance: .*{message}"):
        check(chosen)
    check(with_fusion(Cat, modalities={"one": "conv", "two": "conv"}, train={"balance": {}}))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"balance": {"alpha": 0}}, "train.balance.alpha: should be greater than 0"),
        ({"balance": {"first_epoch": 5, "last_epoch": 4}}, "train.balance.last_epoch: 4 comes before first_epoch, 5"),
        ({"balance": {"first_epoch": 5}, "epochs": 4}, "train.balance: there is no epoch 5; the last one is 4"),
        ({"balance": {"start": 5}}, "train.balance.start: unknown key"),
    ],
)
def test_settings_that_make_no_sense_are_told(train: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe(train=train), registry=registry())


def test_defaults_of_the_recipe() -> None:
    assert load_recipe(recipe(), registry=registry()).train.balance is None
    chosen = load_recipe(recipe(train={"balance": {}}), registry=registry())
    assert chosen.train.balance == Balance(alpha=0.5, noise=True, first_epoch=1, last_epoch=None)
    assert load_recipe(chosen.resolved(), registry=registry()).train == chosen.train


def test_a_factor_for_an_encoder_that_was_joined_is_refused() -> None:
    """It would be without effect: the encoder goes by another name."""
    loaded = with_fusion(Joined, modalities={"one": "conv", "two": "conv"}, train={"lr_scale": {"encoder.one": 0.5}})
    with pytest.raises(RecipeError) as told:
        check(loaded)
    assert "train.lr_scale.encoder.one: cat makes one encoder of all; give `encoder` a factor" in str(told.value)
