"""Bilinear Tucker fusion."""

from dataclasses import replace

import pytest
import torch
from fusionkit_fusions.mutan import MUTAN

from fusionkit.errors import ShapeError


def test_the_formula(shapes, features):
    inputs, given = shapes(2), features(shapes(2))
    fusion = MUTAN(inputs, dim=3, width=4, rank=2).eval()
    expected = torch.zeros(5, 3)
    for r in range(2):
        sides = []
        for name in inputs:
            enter, _, _, core = fusion.project[name]
            hidden = torch.tanh(given[name].pooled @ enter.weight.T + enter.bias)
            sides.append(hidden @ core.weight[3 * r : 3 * r + 3].T + core.bias[3 * r : 3 * r + 3])
        expected = expected + sides[0] * sides[1]
    torch.testing.assert_close(fusion(given), expected)


def test_without_one_the_other_decides(shapes, features):
    inputs, given = shapes(2), features(shapes(2))
    fusion = MUTAN(inputs, dim=3, width=4, rank=2).eval()
    given["hsi"] = replace(given["hsi"], present=torch.zeros(5, dtype=torch.bool))
    ranks = fusion.project["lidar"](given["lidar"].pooled)
    torch.testing.assert_close(fusion(given), ranks[:, :3] + ranks[:, 3:])


@pytest.mark.parametrize("count", [1, 3])
def test_two_modalities_only(shapes, count):
    with pytest.raises(ShapeError, match="two modalities"):
        MUTAN(shapes(count))
