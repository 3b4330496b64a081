"""Tensor fusion."""

import pytest
import torch
from fusionkit_fusions.tensor import TensorFusion

from fusionkit.errors import ShapeError


def test_every_product_of_features(shapes, features):
    inputs, given = shapes(3), features(shapes(3))
    fusion = TensorFusion(inputs, dim=4, width=2).eval().requires_grad_(False)
    seen = []
    fusion.mix.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    fusion(given)
    for row in range(5):
        a, b, c = ([*layer(given[name].pooled)[row].clamp(min=0), 1.0] for name, layer in fusion.project.layers.items())
        torch.testing.assert_close(seen[0][row], torch.tensor([float(i * j * k) for i in a for j in b for k in c]))


def test_a_product_too_large_is_refused(shapes):
    with pytest.raises(ShapeError, match="smaller"):
        TensorFusion(shapes(4), width=16)
