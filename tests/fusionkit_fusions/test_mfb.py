"""Factorised bilinear pooling."""

import pytest
import torch
from fusionkit_fusions.mfb import MFB

from fusionkit.errors import ShapeError
from fusionkit.flow import Features


def test_the_formula(shapes, features):
    inputs, given = shapes(2), features(shapes(2))
    fusion = MFB(inputs, dim=3, factors=2).eval()
    got = fusion(given)
    u, v = (fusion.project[name](given[name].pooled) for name in inputs)
    for row in range(5):
        z = torch.stack([sum(u[row, 2 * o + k] * v[row, 2 * o + k] for k in range(2)) for o in range(3)])
        z = z.sign() * z.abs().sqrt()
        torch.testing.assert_close(got[row], z / z.square().sum().sqrt(), rtol=1e-4, atol=1e-5)


def test_the_gradient_at_zero_is_a_number(shapes):
    inputs = shapes(2)
    fusion = MFB(inputs, dim=3, dropout=0.0)
    for layer in fusion.project.values():
        torch.nn.init.zeros_(layer.bias)
    vectors = {name: torch.zeros(2, spec.dim, requires_grad=True) for name, spec in inputs.items()}
    fusion({name: Features.from_vector(vector) for name, vector in vectors.items()}).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in fusion.parameters())


@pytest.mark.parametrize("count", [1, 3])
def test_two_modalities_only(shapes, count):
    with pytest.raises(ShapeError, match="two modalities"):
        MFB(shapes(count))
