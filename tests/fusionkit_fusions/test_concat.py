"""Concatenation."""

from dataclasses import replace

import pytest
import torch
from fusionkit_fusions.concat import Concat


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


@pytest.mark.parametrize("norm", ["layer", "batch", "l2", "none"])
@pytest.mark.parametrize("project", [True, False])
def test_keeps_the_contract_with_other_options(check_fusion, project, norm):
    check_fusion(lambda inputs: Concat(inputs, dim=16, project=project, norm=norm), 3)


@pytest.mark.parametrize("norm", ["layer", "batch", "l2", "none"])
def test_without_projections_each_keeps_its_width(shapes, features, norm):
    inputs, given = shapes(2), features(shapes(2))
    fusion = Concat(inputs, dim=4, project=False, norm=norm)
    seen = []
    fusion.mix.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    fusion(given)
    parts = [given[name].tokens.mean(1) for name in inputs]
    if norm == "l2":
        parts = [part / part.square().sum(1, keepdim=True).sqrt() for part in parts]
    elif norm != "none":
        axis = 1 if norm == "layer" else 0
        parts = [
            (x - x.mean(axis, keepdim=True)) / (x.var(axis, correction=0, keepdim=True) + 1e-5).sqrt() for x in parts
        ]
    torch.testing.assert_close(seen[0], torch.cat(parts, dim=1))
