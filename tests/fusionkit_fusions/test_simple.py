"""The fusions that combine projected features without weights of their own: sum, mean, max, product, difference."""

from __future__ import annotations

import pytest
import torch
from fusionkit_fusions.difference import Difference
from fusionkit_fusions.max import Max
from fusionkit_fusions.mean import Mean
from fusionkit_fusions.product import Product
from fusionkit_fusions.sum import Sum
from torch.nn import functional as F

from fusionkit.errors import ShapeError
from fusionkit.flow import Features, FeatureSpec

ANY_NUMBER = {"sum": Sum, "mean": Mean, "max": Max, "product": Product}


def test_difference_keeps_the_contract(check_fusion):
    check_fusion(lambda inputs: Difference(inputs, dim=16), 2)


@pytest.mark.parametrize("count", [1, 3])
def test_difference_is_of_two(shapes, count):
    with pytest.raises(ShapeError, match=rf"compares two modalities, not {count} \(hsi"):
        Difference(shapes(count))


A = torch.tensor([[1.0, -2.0, 4.0], [3.0, 0.5, -1.0]])
B = torch.tensor([[-1.0, 5.0, 2.0], [2.0, 2.0, -3.0]])
C = torch.tensor([[0.0, 1.0, -2.0], [7.0, -1.0, 0.5]])
EXPECTED = {  # all present; then `b` missing in the first sample, and everything but `b` in the second
    "sum": ([[0.0, 4.0, 4.0], [12.0, 1.5, -3.5]], [[1.0, -1.0, 2.0], [2.0, 2.0, -3.0]]),
    "mean": ([[0.0, 4 / 3, 4 / 3], [4.0, 0.5, -3.5 / 3]], [[0.5, -0.5, 1.0], [2.0, 2.0, -3.0]]),
    "max": ([[1.0, 5.0, 4.0], [7.0, 2.0, 0.5]], [[1.0, 1.0, 4.0], [2.0, 2.0, -3.0]]),
    "product": ([[0.0, -10.0, -16.0], [42.0, -1.0, 1.5]], [[0.0, -2.0, -8.0], [2.0, 2.0, -3.0]]),
}


def plain(fusion):
    """Make every projection the identity, so that sums can be done by hand."""
    for layer in fusion.project.layers.values():
        layer[0] = torch.nn.Identity()
        torch.nn.init.eye_(layer[1].weight)
        torch.nn.init.zeros_(layer[1].bias)
    return fusion.eval()


def three(b_present: list[bool], rest_present: list[bool]) -> dict[str, Features]:
    rest = torch.tensor(rest_present)
    return {
        "a": Features.from_vector(A, rest),
        "b": Features.from_vector(B, torch.tensor(b_present)),
        "c": Features.from_vector(C, rest),
    }


@pytest.mark.parametrize("name", EXPECTED)
def test_by_hand(name):
    fusion = plain(ANY_NUMBER[name](dict.fromkeys("abc", FeatureSpec(3, 1)), dim=3))
    all_present, some = EXPECTED[name]
    torch.testing.assert_close(fusion(three([True, True], [True, True])), torch.tensor(all_present))
    torch.testing.assert_close(fusion(three([False, True], [True, False])), torch.tensor(some))


@pytest.mark.parametrize(("name", "nothing"), [("sum", 0.0), ("mean", 0.0), ("max", 0.0), ("product", 1.0)])
def test_a_sample_without_any_modality(name, nothing):
    fusion = ANY_NUMBER[name](dict.fromkeys("abc", FeatureSpec(3, 1)), dim=4).eval()
    fused = fusion(three([True, False], [True, False]))
    assert torch.equal(fused[1], torch.full((4,), nothing))


def test_difference_by_hand():
    fusion = plain(Difference(dict.fromkeys("ab", FeatureSpec(3, 1)), dim=3))
    given = {name: f for name, f in three([True, False], [True, True]).items() if name != "c"}
    torch.testing.assert_close(fusion(given), torch.tensor([[2.0, 7.0, 2.0], [3.0, 0.5, 1.0]]))


def test_projections_normalise_pool_and_map():
    """What the sum of one modality is, step by step."""
    fusion = Sum({"x": FeatureSpec(3, 4)}, dim=2).eval()
    tokens = torch.randn(2, 4, 3)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    linear = fusion.project.layers["x"][1]
    pooled = torch.stack([tokens[0, :2].mean(0), tokens[1].mean(0)])
    expected = F.layer_norm(pooled, (3,)) @ linear.weight.T + linear.bias
    torch.testing.assert_close(fusion({"x": Features(tokens, mask=mask)}), expected)


@pytest.mark.parametrize("fusion", [Sum, Mean, Max, Product])
def test_dropout_is_on_the_result(fusion, shapes, features):
    fused = fusion(shapes(2), dropout=0.5).train()(features(shapes(2)))
    assert 0.3 < (fused == 0).float().mean() < 0.7
