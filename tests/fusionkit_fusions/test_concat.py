"""Concatenation."""

from dataclasses import replace

import pytest
import torch
from fusionkit_fusions.concat import Concat


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_keeps_the_contract(check_fusion, count):
    check_fusion(lambda inputs: Concat(inputs, dim=16), count)


def test_the_parts_stand_side_by_side(shapes, features):
    """Each modality has its own columns of the mixing layer, in the order of the recipe; absent ones are zero."""
    inputs, given = shapes(3), features(shapes(3))
    fusion = Concat(inputs, dim=4).eval()
    seen = []
    fusion.mix[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    fusion(given)
    nobody = torch.zeros(5, dtype=torch.bool)
    fusion(given | {"lidar": replace(given["lidar"], present=nobody)})
    whole, without = seen
    assert whole.shape == (5, 12)
    assert torch.equal(without[:, 4:8], torch.zeros(5, 4))
    assert torch.equal(without[:, :4], whole[:, :4])
    assert torch.equal(without[:, 8:], whole[:, 8:])


def test_width_of_the_result(shapes, features):
    assert Concat(shapes(2))(features(shapes(2))).shape == (5, 256)
