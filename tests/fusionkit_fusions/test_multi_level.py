"""Multi-level fusion by a central network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fusionkit_fusions.multi_level import MultiLevel
from torch.nn import functional as F

from fusionkit.errors import RequestError
from fusionkit.flow import Features, FeatureSpec
from fusionkit.testing import FusionSuite


class TestHighAlone(FusionSuite):
    component, options, counts = MultiLevel, {"low": False, "middle": False}, (3,)


DEPTHS = {"four": 4, "two": 2, "one": 1}
STAGE = {"low": {"four": 2, "two": 1, "one": 1}, "middle": {"four": 3, "two": 2, "one": 1}}
"""By hand: which of its stages, from one on, an encoder of this depth has finished after a third, and after two."""


def shapes() -> dict[str, FeatureSpec]:
    """Stage s of an encoder has width 2 + s; what it hands over has that of the last stage."""
    return {
        name: FeatureSpec(2 + depth, 3, None, tuple(FeatureSpec(2 + s, 3) for s in range(1, depth + 1)))
        for name, depth in DEPTHS.items()
    }


def staged(present: torch.Tensor | None = None) -> dict[str, Features]:
    made = {}
    for name, spec in shapes().items():
        stages = tuple(Features(torch.randn(4, 3, s.dim), present=present) for s in spec.stages)
        made[name] = Features(torch.randn(4, 3, spec.dim), present=present, stages=stages)
    return made


def reading(features: dict[str, Features], level: str, name: str) -> torch.Tensor:
    if level == "high" or STAGE[level][name] == DEPTHS[name]:
        return features[name].tokens
    return features[name].stages[STAGE[level][name] - 1].tokens


@pytest.mark.parametrize(
    "levels", [("low", "middle", "high"), ("low",), ("middle",), ("high",), ("low", "high")], ids="+".join
)
def test_levels_are_the_papers(levels):
    """c = ReLU(LN(W (a_c c + sum a_m h_m))), level by level."""
    fusion = MultiLevel(shapes(), dim=5, **{name: name in levels for name in ("low", "middle", "high")}).eval()
    for layer in fusion.levels.values():
        torch.nn.init.normal_(layer.scalars)
    features = staged()
    central = None
    assert list(fusion.levels) == list(levels)
    for level in levels:
        layer = fusion.levels[level]
        scalars = layer.scalars.tolist()
        total = 0 if central is None else scalars.pop(0) * central
        for scalar, name in zip(scalars, DEPTHS, strict=True):
            _, linear = layer.project.layers[name]
            pooled = reading(features, level, name).mean(1)
            total = total + scalar * (F.layer_norm(pooled, pooled.shape[1:]) @ linear.weight.T + linear.bias)
        central = F.relu(F.layer_norm(total @ layer.layer[0].weight.T + layer.layer[0].bias, (5,)))
    torch.testing.assert_close(fusion(features).vector, central)


@pytest.mark.parametrize("level", ["low", "middle", "high"])
def test_a_level_that_is_off_is_not_read(level):
    """Another low, middle or high of the deep encoder moves the result where that level is on, and only there."""
    features = staged()
    four = features["four"]
    if level == "high":
        other = replace(four, tokens=torch.randn_like(four.tokens))
    else:
        stages = list(four.stages)
        changed = STAGE[level]["four"] - 1
        stages[changed] = Features(torch.randn_like(stages[changed].tokens))
        other = replace(four, stages=tuple(stages))
    moved = features | {"four": other}
    for switches in ({}, {level: False}):
        fusion = MultiLevel(shapes(), dim=8, **switches).eval()
        assert torch.equal(fusion(moved).vector, fusion(features).vector) == bool(switches)


def test_encoders_without_stages_have_one_level():
    fusion = MultiLevel({"x": FeatureSpec(4, 3)}, dim=8).eval()
    assert fusion({"x": Features(torch.randn(2, 3, 4))}).vector.shape == (2, 8)


def test_absent_stages_are_not_read():
    torch.manual_seed(0)
    present = torch.tensor([True, False, True, False])
    fusion, features = MultiLevel(shapes(), dim=8).eval(), staged(present)
    spoiled = {}
    for name, feature in features.items():
        stages = tuple(replace(s, tokens=_spoil(s.tokens, present)) for s in feature.stages)
        spoiled[name] = replace(feature, tokens=_spoil(feature.tokens, present), stages=stages)
    fused = fusion(spoiled).vector
    assert torch.equal(fused, fusion(features).vector)
    fused.sum().backward()
    assert all(p.grad.isfinite().all() for p in fusion.parameters())


def _spoil(tokens: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    return tokens.masked_fill(~present[:, None, None], torch.nan)


def test_figures_name_every_scalar():
    fusion = MultiLevel(shapes(), middle=False)
    with torch.no_grad():
        fusion.levels["high"].scalars.copy_(torch.tensor([0.5, 2.0, 3.0, 4.0]))
    assert fusion.figures() == {
        "low_four": 1.0, "low_two": 1.0, "low_one": 1.0,
        "high_central": 0.5, "high_four": 2.0, "high_two": 3.0, "high_one": 4.0,
    }  # fmt: skip


def test_something_has_to_be_on():
    with pytest.raises(RequestError, match="turn on low, middle or high"):
        MultiLevel(shapes(), low=False, middle=False, high=False)


def test_levels_before_the_last_are_its_stages():
    features = {"x": Features(torch.randn(2, 3, 4))}
    inputs = {"x": FeatureSpec(4, 3)}
    assert list(MultiLevel(inputs, dim=8)(features).stages) == ["low", "middle"]
    assert not MultiLevel(inputs, dim=8, low=False, middle=False)(features).stages
