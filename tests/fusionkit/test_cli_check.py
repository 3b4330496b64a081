"""`fusionkit check KIND:NAME`: what it prints of right components, of faulty ones, and of wrong requests."""

from __future__ import annotations

from typing import Any

import pytest

PLUGIN = """
from fusionkit import Component, hookimpl

@hookimpl
def fusionkit_components():
    yield Component("fusion", "leaky", "acme.parts:Leaky")
    yield Component("fusion", "pair", "acme.parts:Pair")
    yield Component("fusion", "sized", "acme.parts:Sized")
    yield Component("loss", "summed", "acme.parts:Summed")
    yield Component("loss", "gone", "acme.parts:Gone")
    yield Component("encoder", "untyped", "acme.parts:Untyped")
    yield Component("encoder", "flat", "acme.parts:Flat")
    yield Component("metric", "miss", "acme.parts:Miss")
"""

PARTS = """
import torch
from torch import nn
from torch.nn import functional as F

from fusionkit import Encoder, Fusion, Loss, Metric
from fusionkit.errors import ShapeError
from fusionkit.flow import Features


class Pair(Fusion):
    def __init__(self, inputs):
        if len(inputs) != 2:
            raise ShapeError("pair compares two modalities")
        super().__init__(inputs)
        self.project = nn.ModuleDict({name: nn.Linear(spec.dim, 4) for name, spec in inputs.items()})

    def forward(self, features):
        return torch.stack([
            torch.tanh(self.project[name](feature.pooled)) for name, feature in features.items()
        ]).sum(0)


class Leaky(Pair):
    def forward(self, features):
        return super().forward(features) - super().forward(features).mean(0)


class Sized(Pair):
    def __init__(self, inputs, *, width: int):
        super().__init__(inputs)


class Summed(Loss):
    reads_logits_alone = True

    def forward(self, output, batch):
        return F.cross_entropy(output.logits, batch.target, reduction="sum")


class Miss(Metric):
    def compute(self, target, answers):
        return float((answers.argmax(1) != target).mean())


class Flat(Encoder):
    def __init__(self, spec):
        super().__init__(spec)
        if len(spec.shape) != 1:
            raise ShapeError("flat reads vectors")
        self.stages.append(nn.Linear(spec.shape[0], 4))

    def embed(self, value, valid):
        return Features.from_vector(value)


class Untyped(Flat):
    def __init__(self, spec, *, dim):
        super().__init__(spec)
"""


@pytest.fixture
def acme(packages: Any) -> None:
    packages.add("acme", plugin=PLUGIN, parts=PARTS)


@pytest.mark.usefixtures("acme")
def test_a_right_fusion_passes_and_its_refusals_are_told(fusionkit):
    answer = fusionkit("check", "fusion:pair")
    assert answer.code == 0
    assert "pair       2 modalities" in answer.out
    assert "3: pair compares two modalities" in answer.out
    assert "FAULT" not in answer.out


@pytest.mark.usefixtures("acme")
def test_a_fault_is_named_and_the_exit_code_says_so(fusionkit):
    answer = fusionkit("check", "fusion:leaky")
    assert answer.code == 1
    assert "FAULT samples_are_independent: 2 modalities: sample 1 changes sample 0's prediction" in answer.out
    assert answer.out.count("FAULT") == 1


@pytest.mark.usefixtures("acme")
def test_losses_and_encoders_are_checked_too(fusionkit):
    answer = fusionkit("check", "loss:summed")
    assert answer.code == 1
    assert "FAULT parts_add_up: classification: the parts of a batch do not add up" in answer.out
    answer = fusionkit("check", "encoder:flat")
    assert (answer.code, answer.out.split()[-2:]) == (0, ["flat", "6"])


@pytest.mark.usefixtures("acme")
def test_metrics_are_checked_with_each_kind_of_task_that_they_name(fusionkit):
    answer = fusionkit("check", "metric:miss")
    assert answer.code == 1
    assert "FAULT right_answers_are_not_worse: classification: right answers give 0 and wrong ones 1" in answer.out
    assert answer.out.count("FAULT") == 1
    answer = fusionkit("check", "metric:all")
    assert answer.code == 1
    lines = {line.split()[0]: line for line in answer.out.splitlines()}
    for name in ("top_k", "jaccard", "brier", "ece"):
        assert lines[name].split() == [name, "classification"]


@pytest.mark.usefixtures("acme")
def test_all_of_a_kind_are_checked(fusionkit):
    answer = fusionkit("check", "loss:all")
    assert answer.code == 1
    lines = {line.split()[0]: line for line in answer.out.splitlines()}
    assert "FAULT" in lines["summed"]
    assert "FAULT loss 'gone' of acme is broken: acme.parts has no 'Gone'" in lines["gone"]
    assert "FAULT" not in lines["cross_entropy"]


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["fusion:piar"], "no fusion is named 'piar'; did you mean 'pair'?"),
        (
            ["fusion:sized"],
            "has no defaults for width, and is checked with its defaults: inherit fusionkit.testing.Fus",
        ),
        (["encoder:untyped"], "encoder 'untyped' of acme is broken: option 'dim' of Untyped.__init__ has no type"),
        (["dataset:arrays"], "inherit fusionkit.testing.DatasetSuite"),
        (["metric:gone"], "no metric is named 'gone'"),
        (["fusion:pair", "fusion.dim=3"], "leave the overrides out"),
    ],
)
def test_a_wrong_request_is_told(fusionkit, words, told):
    answer = fusionkit("check", *words)
    assert answer.code == 2
    assert told in answer.err


def test_a_file_is_a_recipe_whatever_it_is_called(fusionkit):
    assert "fusions:x" in fusionkit("check", "fusions:x").err
