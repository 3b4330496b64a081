"""Feature-wise linear modulation."""

from dataclasses import replace

import pytest
import torch
from fusionkit_fusions.film import FiLM
from torch.nn import functional as F

from fusionkit.errors import RequestError


@pytest.mark.parametrize("absent", [[], ["lidar"], ["lidar", "text"]])
def test_the_block_on_a_map(shapes, features, absent):
    """The convolutional block on the target's map, with gamma 1 and beta 0 but for what those present add."""
    inputs, given = shapes(3), features(shapes(3))
    fusion = FiLM(inputs, dim=4)
    for name in absent:
        given[name] = replace(given[name], present=torch.zeros(5, dtype=torch.bool))
    x = given["hsi"].tokens.transpose(1, 2).reshape(5, 6, 3, 3)
    u = F.relu(F.conv2d(x, fusion.entry.weight[:, :, None, None], fusion.entry.bias))
    v = F.conv2d(u, fusion.middle.weight, fusion.middle.bias, padding=1)
    v = (v - v.mean(1, keepdim=True)) / (v.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    gamma, beta = torch.ones(5, 4), torch.zeros(5, 4)
    for name in ("lidar", "text"):
        if name not in absent:
            both = fusion.modulate[name](given[name].pooled)
            gamma, beta = gamma + both[:, :4], beta + both[:, 4:]
    h = u + F.relu(gamma[:, :, None, None] * v + beta[:, :, None, None])
    torch.testing.assert_close(fusion(given), h.mean((2, 3)))


def test_another_target(shapes, features):
    fusion = FiLM(shapes(3), dim=4, target="text")
    assert set(fusion.modulate) == {"hsi", "lidar"}
    assert fusion(features(shapes(3))).shape == (5, 4)


def test_an_unknown_target(shapes):
    with pytest.raises(RequestError, match="'sar'"):
        FiLM(shapes(2), target="sar")
