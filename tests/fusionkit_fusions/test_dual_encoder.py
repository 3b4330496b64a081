"""Two encoders whose embeddings are compared."""

from dataclasses import replace

import pytest
import torch
from fusionkit_fusions.dual_encoder import DualEncoder
from torch import nn
from torch.nn import functional as F

from fusionkit.errors import ShapeError


@pytest.mark.parametrize("project", ["linear", "mlp"])
def test_keeps_the_contract(check_fusion, project):
    check_fusion(lambda inputs: DualEncoder(inputs, dim=16, project=project), 2)


def test_the_vector_is_two_unit_embeddings(shapes, features):
    """By hand, from the layers' weights."""
    inputs, given = shapes(2), features(shapes(2))
    fusion = DualEncoder(inputs, dim=6)
    found = fusion(given)
    for number, name in enumerate(inputs):
        x = given[name].tokens.mean(1)
        x = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        weight = fusion.project[name][1].weight
        torch.testing.assert_close(found.branches[name], x @ weight.T)
        part = found.vector[:, 6 * number : 6 * number + 6]
        torch.testing.assert_close(part, F.normalize(x @ weight.T, dim=1))


def test_nothing_of_one_modality_reaches_the_other(shapes, features):
    inputs, given = shapes(2), features(shapes(2))
    fusion = DualEncoder(inputs, dim=6)
    first, second = inputs
    other = given | {second: replace(given[second], tokens=given[second].tokens + 1000)}
    assert torch.equal(fusion(given).vector[:, :6], fusion(other).vector[:, :6])
    assert not torch.equal(fusion(given).vector[:, 6:], fusion(other).vector[:, 6:])
    nobody = torch.zeros(5, dtype=torch.bool)
    lacking = fusion(given | {first: replace(given[first], present=nobody)}).vector
    assert torch.equal(lacking[:, :6], torch.zeros(5, 6))


def test_the_projection_may_have_two_layers(shapes):
    fusion = DualEncoder(shapes(2), dim=6, project="mlp")
    for name, spec in shapes(2).items():
        norm, first, activation, second = fusion.project[name]
        assert isinstance(norm, nn.LayerNorm)
        assert isinstance(activation, nn.GELU)
        assert (first.in_features, first.out_features, second.in_features, second.out_features) == (spec.dim, 6, 6, 6)


@pytest.mark.parametrize("count", [1, 3])
def test_two_modalities(shapes, count):
    with pytest.raises(ShapeError, match=f"two modalities, not {count}"):
        DualEncoder(shapes(count))
