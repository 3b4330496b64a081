"""Gated multimodal unit."""

from dataclasses import replace

import torch
from fusionkit_fusions.gmu import GMU


def test_two_modalities_share_one_gate(shapes, features):
    """h = z * h_1 + (1 - z) * h_2, sample by sample."""
    inputs, given = shapes(2), features(shapes(2))
    fusion = GMU(inputs, dim=4)
    got = fusion(given)
    for row in range(5):
        x, y = (given[name].tokens[row].mean(0) for name in inputs)
        z = torch.sigmoid(fusion.gate.weight @ torch.cat([x, y]))
        h1, h2 = torch.tanh(fusion.project["hsi"].weight @ x), torch.tanh(fusion.project["lidar"].weight @ y)
        torch.testing.assert_close(got[row], z * h1 + (1 - z) * h2)


def test_three_modalities_have_a_gate_each(shapes, features):
    inputs, given = shapes(3), features(shapes(3))
    fusion = GMU(inputs, dim=4)
    xs = {name: given[name].pooled for name in inputs}
    expected = 0
    for place, (name, x) in enumerate(xs.items()):
        z = torch.sigmoid(torch.cat(list(xs.values()), dim=1) @ fusion.gate.weight[4 * place : 4 * place + 4].T)
        expected = expected + z * torch.tanh(x @ fusion.project[name].weight.T)
    torch.testing.assert_close(fusion(given), expected)


def test_of_two_the_one_left_goes_through_whole(shapes, features):
    inputs, given = shapes(2), features(shapes(2))
    fusion = GMU(inputs, dim=4)
    given["hsi"] = replace(given["hsi"], present=torch.zeros(5, dtype=torch.bool))
    torch.testing.assert_close(fusion(given), fusion.project["lidar"](given["lidar"].pooled).tanh())
