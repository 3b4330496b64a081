"""Learning rates of parts and steps."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
from fusionkit_fakes import Cat, Conv, Linear
from torch import nn

from fusionkit.errors import RequestError
from fusionkit.flow import InputSpec, Task
from fusionkit.model import Blueprint, FusionModel
from fusionkit.optimization import hold_frozen, make_optimizer, part_factor, prove_optimizer, rate
from fusionkit.sections import Train


class Objective(nn.Module):
    def __init__(self, model: FusionModel):
        super().__init__()
        self.model = model
        self.temperature = nn.Parameter(model.head.weight.new_zeros(()))


@pytest.fixture
def model() -> FusionModel:
    inputs = {"image": InputSpec((2, 6, 6)), "vector": InputSpec((5,))}
    encoders = {"image": partial(Conv, norm=True), "vector": partial(Linear, dropout=0.5)}
    task = Task("classification", ("a", "b"), (1, 1))
    return Blueprint(inputs, encoders, Cat, Cat, task, branches=True).build({})


@pytest.mark.parametrize(
    ("step", "schedule", "expected"),
    [
        (0, "cosine", 0.25),  # four steps of warm-up, of twelve
        (3, "cosine", 1),
        (4, "cosine", 1),
        (6, "cosine", (1 + math.cos(math.pi / 4)) / 2),
        (8, "cosine", 0.5),
        (11, "cosine", (1 + math.cos(math.pi * 7 / 8)) / 2),
        (1, "linear", 0.5),
        (4, "linear", 1),
        (6, "linear", 0.75),
        (11, "linear", 0.125),
        (2, "constant", 0.75),
        (11, "constant", 1),
    ],
)
def test_the_rate_of_a_step(step: int, schedule: str, expected: float) -> None:
    assert rate(step, 12, 4, schedule) == pytest.approx(expected)


def test_a_warm_up_longer_than_the_training_is_all_there_is() -> None:
    assert [rate(step, 3, 6, "cosine") for step in range(3)] == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert rate(0, 1, 0, "cosine") == 1


def test_the_narrowest_part_counts() -> None:
    scales = {"encoder": 0.5, "encoder.image": 0.1, "head": 2.0}
    wanted = {"encoder.image": 0.1, "encoder.vector": 0.5, "head": 2, "fusion": 1, "branches": 1}
    assert {part: part_factor(part, scales) for part in wanted} == wanted


def groups_of(model: FusionModel, **settings: Any) -> dict[str, tuple[float, float]]:
    """Learning rate and decay of every parameter that is trained."""
    objective = Objective(model)
    optimizer = make_optimizer(objective, Train(**settings))
    names = {parameter: name for name, parameter in objective.named_parameters()}
    return {
        names[parameter]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_every_part_has_its_rate_and_no_bias_or_norm_decays(model: FusionModel) -> None:
    scales = {"encoder": 0.5, "encoder.image": 0.1, "branches": 3.0}
    groups = groups_of(model, lr=0.1, weight_decay=0.3, lr_scale=scales)
    assert groups.keys() == {name for name, _ in Objective(model).named_parameters()}
    for name, (lr, decay) in groups.items():
        part = ".".join(name.split(".")[1:3])
        factor = {"encoders.image": 0.1, "encoders.vector": 0.5}.get(part, 3 if "branches" in name else 1)
        assert lr == pytest.approx(0.1 * factor), name
        plain = name.endswith("bias") or (".1.weight" in name and "image" in name) or name == "temperature"
        assert decay == (0 if plain else 0.3), name


def test_a_factor_of_zero_freezes(model: FusionModel) -> None:
    groups = groups_of(model, lr_scale={"encoder": 0.0, "encoder.vector": 1.0})
    assert not any("image" in name for name in groups if "branches" not in name)
    assert not any(parameter.requires_grad for parameter in model.encoders["image"].parameters())
    assert all(parameter.requires_grad for parameter in model.encoders["vector"].parameters())
    model.train()
    hold_frozen(model, {"encoder": 0.0, "encoder.vector": 1.0})
    assert {module.training for module in model.encoders["image"].modules()} == {False}
    assert {module.training for module in model.encoders["vector"].modules()} == {True}
    assert model.fusion.training
    assert model.head.training


def test_nothing_left_to_train_is_refused(model: FusionModel) -> None:
    objective = nn.Module()
    objective.model = model
    scales = dict.fromkeys(("encoder", "fusion", "head", "branches"), 0.0)
    with pytest.raises(RequestError, match="freezes every part"):
        make_optimizer(objective, Train(lr_scale=scales))


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb", "lion", "adam"])
def test_optimisers_by_name(model: FusionModel, name: str) -> None:
    prove_optimizer(Train(optimizer=name))
    assert make_optimizer(Objective(model), Train(optimizer=name, momentum=0.7)).param_groups


def test_an_unknown_optimiser_is_named_with_the_nearest() -> None:
    with pytest.raises(RequestError, match="no optimiser is named 'adamm'; did you mean 'adam"):
        prove_optimizer(Train(optimizer="adamm"))
