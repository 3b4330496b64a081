"""Late fusion."""

from __future__ import annotations

import pytest
import torch
from fusionkit_fakes import Conv, Linear
from fusionkit_fusions.late import Late

from fusionkit.flow import Batch, Features, FeatureSpec, InputSpec, Task
from fusionkit.model import Blueprint
from fusionkit.testing import FusionSuite

RULES = ("mean", "product", "confidence")


class TestProduct(FusionSuite):
    component, options, counts = Late, {"rule": "product"}, (3,)


class TestConfidence(FusionSuite):
    component, options, counts = Late, {"rule": "confidence"}, (3,)


def late(rule: str) -> Late:
    return Late(dict.fromkeys("abc", FeatureSpec(2, 1)), rule=rule)


def held(present: dict[str, list[bool]]) -> dict[str, Features]:
    return {name: Features(torch.zeros(len(p), 1, 2), present=torch.tensor(p)) for name, p in present.items()}


# Three predictions of two classes whose results can be worked out by hand.
PREDICTED = {"a": [0.5, 0.5], "b": [0.8, 0.2], "c": [0.9, 0.1]}
LOGITS = {name: torch.tensor([p, p, p]).log() + 3 for name, p in PREDICTED.items()}
HELD = held({"a": [True, True, False], "b": [True, True, False], "c": [True, False, False]})


def entropy(p: float) -> float:
    q = torch.tensor([p, 1 - p], dtype=torch.float64)
    return torch.distributions.Categorical(q).entropy().item()


WEIGHTS = [1 / entropy(0.5), 1 / entropy(0.8), 1 / entropy(0.9)]
EXPECTED = {  # of the first class: with all three; without c; with none
    "mean": [(0.5 + 0.8 + 0.9) / 3, 0.65, 0.5],
    "product": [0.5 * 0.8 * 0.9 / (0.5 * 0.8 * 0.9 + 0.5 * 0.2 * 0.1), 0.8, 0.5],
    "confidence": [
        (0.5 * WEIGHTS[0] + 0.8 * WEIGHTS[1] + 0.9 * WEIGHTS[2]) / sum(WEIGHTS),
        (0.5 * WEIGHTS[0] + 0.8 * WEIGHTS[1]) / sum(WEIGHTS[:2]),
        0.5,
    ],
}


@pytest.mark.parametrize("rule", RULES)
def test_by_hand(rule):
    decided = late(rule).decide(None, LOGITS, HELD)
    torch.testing.assert_close(decided.exp()[:, 0], torch.tensor(EXPECTED[rule]))
    torch.testing.assert_close(decided.exp().sum(1), torch.ones(3))


@pytest.mark.parametrize("rule", RULES)
def test_extreme_predictions_stay_numbers(rule):
    """One branch is certain beyond what floats hold, another as certain of the opposite, with a gradient for both."""
    logits = {n: torch.tensor([[s, -s]], requires_grad=True) for n, s in [("a", 500.0), ("b", -500.0), ("c", 0.0)]}
    decided = late(rule).decide(None, logits, held({name: [True] for name in "abc"}))
    torch.nn.functional.cross_entropy(decided, torch.tensor([0])).backward()
    assert decided.isfinite().all()
    assert all(branch.grad.isfinite().all() for branch in logits.values())


@pytest.mark.parametrize("rule", RULES)
def test_absent_branches_learn_nothing(rule):
    logits = {name: value.clone().requires_grad_() for name, value in LOGITS.items()}
    late(rule).decide(None, logits, HELD)[:, 0].sum().backward()
    assert not logits["c"].grad[1:].any()
    assert not logits["a"].grad[2].any()
    assert logits["c"].grad[0].any()


def test_confidence_hands_no_gradient_through_its_weights():
    """The gradient is that of a mixture with fixed weights."""
    logits = torch.randn(3, 1, 4, requires_grad=True)
    fusion, present = late("confidence"), held({name: [True] for name in "abc"})
    fusion.decide(None, dict(zip("abc", logits, strict=True)), present)[0, 0].backward()
    p = logits.detach().clone().requires_grad_()
    probabilities = p.softmax(-1)
    weights = 1 / torch.distributions.Categorical(probabilities.detach()).entropy()
    (weights[..., None] / weights.sum() * probabilities).sum(0)[0, 0].log().backward()
    torch.testing.assert_close(logits.grad, p.grad)


def test_a_model_decides_by_its_branches_alone():
    """No main head, no weights of its own; each sample by the modalities that it has."""
    inputs = {"image": InputSpec((2, 6, 6)), "vector": InputSpec((5,))}
    task = Task("classification", ("x", "y", "z"), (1, 1, 1))
    model = Blueprint(inputs, {"image": Conv, "vector": Linear}, Late, Late, task).build({}).eval()
    assert model.head is None
    assert not list(model.fusion.parameters())
    present = {"image": torch.tensor([True, True, False]), "vector": torch.tensor([True, False, False])}
    values = {"image": torch.randn(3, 2, 6, 6), "vector": torch.randn(3, 5)}
    output = model(Batch(values, present, torch.zeros(3, dtype=torch.int64), torch.arange(3)))
    image, vector = (output.branch_logits[name].softmax(1) for name in inputs)
    expected = torch.stack([(image[0] + vector[0]) / 2, image[1], torch.full((3,), 1 / 3)])
    torch.testing.assert_close(output.logits.softmax(1), expected)
    assert torch.equal(output.fused, torch.cat(list(output.embeddings.values()), 1))
