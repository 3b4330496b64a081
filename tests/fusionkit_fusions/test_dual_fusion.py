"""Dual fusion."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from fusionkit_fakes import Conv, Linear
from fusionkit_fusions.concat import Concat
from fusionkit_fusions.dual_fusion import DualFusion
from torch.nn import functional as F

from fusionkit.flow import Batch, Features, FeatureSpec, InputSpec, Task
from fusionkit.model import Blueprint, FusionModel
from fusionkit.testing import FusionSuite


class TestWithoutVotes(FusionSuite):
    component, options, counts = DualFusion, {"branch_votes": False}, (3,)


class TestWithoutFeedback(FusionSuite):
    component, options, counts = DualFusion, {"feedback": False}, (3,)


SHAPES = {"a": FeatureSpec(3, 1), "b": FeatureSpec(5, 1)}


def held(present: list[bool] | None = None) -> dict[str, Features]:
    """Vectors; `b` may be missing, with NaN in its slot."""
    b = torch.randn(2, 5)
    if present is None:
        return {"a": Features.from_vector(torch.randn(2, 3)), "b": Features.from_vector(b)}
    kept = torch.tensor(present)
    b = b.masked_fill(~kept[:, None], torch.nan)
    return {"a": Features.from_vector(torch.randn(2, 3)), "b": Features.from_vector(b, kept)}


def dense(layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return x @ layer.weight.T + layer.bias


def mlp(mix: torch.nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    y = dense(mix[1], x)
    return F.gelu(F.layer_norm(y, y.shape[1:], mix[2].weight, mix[2].bias))


def test_two_fusions_in_sequence():
    """The equations of the docstring, one by one; the second sample has no `b`."""
    fusion = DualFusion(SHAPES, dim=4).eval()
    features = held([True, False])
    own = {}
    for name, feature in features.items():
        norm, linear = fusion.project.layers[name]
        x = feature.tokens[:, 0]
        own[name] = F.gelu(dense(linear, F.layer_norm(x, x.shape[1:], norm.weight, norm.bias)))
    own["b"][1] = 0
    f = mlp(fusion.first, torch.cat([own["a"], own["b"]], 1))
    branches = {}
    for name, hand in fusion.feedback.items():
        gate = 1 / (1 + torch.exp(-dense(hand.gate, torch.cat([own[name], f], 1))))
        branches[name] = own[name] + gate * dense(hand.value, f)
    branches["b"][1] = 0
    fused = fusion(features)
    torch.testing.assert_close(fused.branches, branches)
    torch.testing.assert_close(fused.vector, mlp(fusion.second, torch.cat([branches["a"], branches["b"]], 1)))


def test_the_decision_is_a_convex_sum_of_those_present():
    fusion = DualFusion(SHAPES)
    with torch.no_grad():
        fusion.votes.copy_(torch.tensor([1.0, 2.0, 5.0]).log())
    main = torch.tensor([[8.0, 0.0], [8.0, 0.0]])
    branches = {"a": torch.tensor([[0.0, 4.0]] * 2), "b": torch.tensor([[16.0, 8.0]] * 2)}
    decided = fusion.decide(main, branches, held([True, False]))
    torch.testing.assert_close(decided, torch.tensor([[11.0, 6.0], [8 / 3, 8 / 3]]))
    assert fusion.figures() == pytest.approx({"weight_main": 1 / 8, "weight_a": 2 / 8, "weight_b": 5 / 8})


def test_gradients_share_the_weights_of_the_decision():
    """What the docstring says of them: each prediction's is that of the sum times its weight, equal at first."""
    fusion = DualFusion(SHAPES)
    main, a, b = (torch.randn(2, 3, requires_grad=True) for _ in range(3))
    decided = fusion.decide(main, {"a": a, "b": b}, held())
    decided.retain_grad()
    F.cross_entropy(decided, torch.tensor([0, 2])).backward()
    for prediction in (main, a, b):
        torch.testing.assert_close(prediction.grad, decided.grad / 3)
    assert fusion.votes.grad.any()


def test_with_both_off_it_is_plain_concatenation():
    fusion = DualFusion(SHAPES, dim=4, feedback=False, branch_votes=False).eval()
    concat = Concat(SHAPES, dim=4).eval()
    concat.load_state_dict({name.replace("first", "mix"): value for name, value in fusion.state_dict().items()})
    features = held([True, False])
    assert torch.equal(fusion(features), concat(features))
    main = torch.randn(2, 3)
    assert fusion.decide(main, {}, features) is main
    assert fusion.figures() == {}


def built(**options: bool) -> FusionModel:
    inputs = {"image": InputSpec((2, 6, 6)), "vector": InputSpec((5,))}
    make = partial(DualFusion, dim=4, **options)
    task = Task("classification", ("x", "y", "z"), (1, 1, 1))
    return Blueprint(inputs, {"image": Conv, "vector": partial(Linear, dim=7)}, DualFusion, make, task).build({}).eval()


def batch() -> Batch:
    present = {"image": torch.ones(3, dtype=torch.bool), "vector": torch.tensor([True, False, True])}
    values = {"image": torch.randn(3, 2, 6, 6), "vector": torch.randn(3, 5)}
    return Batch(values, present, torch.zeros(3, dtype=torch.int64), torch.arange(3))


@pytest.mark.parametrize(
    ("options", "widths"),
    [
        ({}, {"image": 4, "vector": 4}),
        ({"feedback": False}, {"image": 4, "vector": 7}),
        ({"branch_votes": False}, {}),
        ({"feedback": False, "branch_votes": False}, {}),
    ],
)
def test_heads_are_those_that_the_decision_reads(options, widths):
    """Branch heads read the updated representations, or the encoders' own where nothing is handed back."""
    model = built(**options)
    assert {name: head.in_features for name, head in model.branches.items()} == widths
    output = model(batch())
    main = model.head(output.fused)
    assert torch.equal(output.logits, main) == (not widths)
    if widths:
        third = (main[0] + output.branch_logits["image"][0] + output.branch_logits["vector"][0]) / 3
        torch.testing.assert_close(output.logits[0], third)
        torch.testing.assert_close(output.logits[1], (main[1] + output.branch_logits["image"][1]) / 2)


def test_the_first_fusion_is_a_stage():
    inputs = {"x": FeatureSpec(4, 3), "y": FeatureSpec(5, 1)}
    features = {"x": Features(torch.randn(2, 3, 4)), "y": Features(torch.randn(2, 1, 5))}
    fusion = DualFusion(inputs, dim=8).eval()
    own = torch.nn.functional.gelu(fusion.project(features))
    torch.testing.assert_close(fusion(features).stages["first"], fusion.first(torch.cat([*own], 1)))
