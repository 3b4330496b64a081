"""Early stacking."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from fusionkit_fusions.early_stack import EarlyStack

from fusionkit.contract import Encoder
from fusionkit.errors import ShapeError
from fusionkit.flow import Batch, Features, FeatureSpec, Input, InputSpec, Task
from fusionkit.model import Blueprint


def given(*shape: int, present: list[bool] | None = None, valid: torch.Tensor | None = None) -> Input:
    size = len(present) if present else 2
    return Input(torch.randn(size, *shape), torch.tensor(present or [True] * size), valid)


@pytest.mark.parametrize(
    ("shapes", "axis", "stacked"),
    [
        ([(3, 8, 8), (1, 8, 8), (5, 8, 8)], 1, (9, 8, 8)),
        ([(4,), (6,)], 1, (10,)),
        ([(9, 4), (9, 2)], 2, (9, 6)),
        ([(2, 5, 4, 4), (1, 5, 4, 4)], 1, (3, 5, 4, 4)),
        ([(3, 8, 8)], 1, (3, 8, 8)),
    ],
)
def test_channels_are_stacked_under_the_first_name(shapes, axis, stacked):
    inputs = {f"m{i}": given(*shape) for i, shape in enumerate(shapes)}
    arranged = EarlyStack.arrange(inputs)
    assert list(arranged) == ["m0"]
    assert arranged["m0"].value.shape[1:] == stacked
    assert torch.equal(arranged["m0"].value, torch.cat([i.value for i in inputs.values()], dim=axis))
    assert arranged["m0"].valid is None


@pytest.mark.parametrize(
    ("one", "other"), [((3, 8, 8), (1, 9, 8)), ((4,), (6, 4)), ((9, 4), (8, 4)), ((3, 8, 8), (3, 8))]
)
def test_other_axes_must_agree(one, other):
    told = f"hsi is {' x '.join(map(str, one))} and lidar is {' x '.join(map(str, other))}"
    with pytest.raises(ShapeError, match=told):
        EarlyStack.arrange({"hsi": given(*one), "lidar": given(*other)})


def test_present_if_any_is():
    arranged = EarlyStack.arrange(
        {"a": given(2, present=[True, False, False]), "b": given(2, present=[True, True, False])}
    )
    assert arranged["a"].present.tolist() == [True, True, False]


def test_valid_where_any_present_one_is():
    first = torch.tensor([[True, True, False], [True, False, False], [True, True, True], [True, True, True]])
    second = torch.tensor([[True, False, False], [True, True, False], [True, False, False], [True, True, True]])
    arranged = EarlyStack.arrange(
        {
            "a": given(3, 2, present=[True, True, False, False], valid=first),
            "b": given(3, 4, present=[True, True, True, False], valid=second),
        }
    )
    t, f = True, False
    # In the third sample only b is there; in the last nothing is, and an absent sequence counts as a whole one.
    assert arranged["a"].valid.tolist() == [[t, t, f], [t, t, f], [t, f, f], [t, t, t]]


def test_one_that_is_not_ragged_is_valid_throughout():
    valid = torch.tensor([[True, False, False], [True, False, False]])
    arranged = EarlyStack.arrange(
        {"a": given(3, 2, valid=valid), "b": given(3, 4, present=[True, False])},
    )
    assert arranged["a"].valid.tolist() == [[True] * 3, [True, False, False]]


class Flat(Encoder):
    """The input as it is: one token."""

    def embed(self, value, valid):
        return Features.from_vector(value.flatten(1))


def test_in_a_model_absent_channels_mean_nothing():
    """One encoder for all, and what stands in an absent slot changes nothing."""
    made = Counter()

    def encoder(spec):
        made[spec.shape] += 1
        return Flat(spec)

    plan = Blueprint(
        {"a": InputSpec((3,)), "b": InputSpec((2,))},
        {"a": encoder, "b": encoder},
        EarlyStack,
        EarlyStack,
        Task("classification", ("x", "y"), (1, 1)),
    )
    model = plan.build({}).eval()
    assert set(made) == {(5,)}
    a, b = torch.randn(2, 3), torch.randn(2, 2)
    present = {"a": torch.tensor([True, True]), "b": torch.tensor([True, False])}
    target = torch.zeros(2, dtype=torch.int64)

    def fused(b):
        return model(Batch({"a": a, "b": b}, present, target, target)).fused

    expected = torch.cat([a, b], 1)
    expected[1, 3:] = 0
    assert torch.equal(fused(b), expected)
    assert torch.equal(fused(b.masked_fill(torch.tensor([[False], [True]]), torch.nan)), expected)


def test_fuses_what_is_left():
    fusion = EarlyStack({"a": FeatureSpec(4, 3)})
    tokens = torch.randn(2, 3, 4)
    assert torch.equal(fusion({"a": Features(tokens)}), tokens.mean(1))
    assert not list(fusion.parameters())
