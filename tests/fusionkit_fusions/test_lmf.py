"""Low-rank multimodal fusion."""

from dataclasses import replace
from pathlib import Path

import torch
from fusionkit_fusions.lmf import LMF

from fusionkit.flow import Features, FeatureSpec

ORACLE = Path(__file__).parents[1] / "oracles" / "losses_and_fusion.pt"


def test_agrees_with_the_original():
    oracle = torch.load(ORACLE, weights_only=True)["lmf"]
    names = ["audio", "video", "text"]
    fusion = LMF({name: FeatureSpec(4, 1) for name in names}, dim=3, rank=2)
    state = {f"factors.{name}": factor for name, factor in zip(names, oracle["factors"], strict=True)}
    fusion.load_state_dict(state | {"weights": oracle["weights"], "bias": oracle["bias"]})
    given = {name: Features.from_vector(vector) for name, vector in zip(names, oracle["h"], strict=True)}
    torch.testing.assert_close(fusion(given), oracle["y"], rtol=0, atol=1e-6)


def test_an_absent_modality_is_the_constant_alone(shapes, features):
    inputs, given = shapes(2), features(shapes(2))
    fusion = LMF(inputs, dim=3, rank=2)
    given["hsi"] = replace(given["hsi"], present=torch.zeros(5, dtype=torch.bool))
    y = torch.cat([torch.ones(5, 1), given["lidar"].pooled], dim=1)
    expected = fusion.bias.detach().expand(5, 3)
    for r in range(2):
        expected = expected + fusion.weights[0, r] * fusion.factors["hsi"][r, 0] * (y @ fusion.factors["lidar"][r])
    torch.testing.assert_close(fusion(given), expected)
