"""Features to fuse, and the suite's rules for a fusion made by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch

from fusionkit.contract import Fusion
from fusionkit.flow import Features, FeatureSpec, InputSpec
from fusionkit.testing.fault import hold
from fusionkit.testing.fusions import CHECKS
from fusionkit.testing.subjects import ALIGNED, MIXED, subject_of

Make = Callable[[Mapping[str, FeatureSpec]], Fusion]
SHAPES = {
    "hsi": FeatureSpec(dim=6, tokens=9, grid=(3, 3)),
    "lidar": FeatureSpec(dim=4, tokens=4, grid=(2, 2)),
    "text": FeatureSpec(dim=5, tokens=7),
    "vector": FeatureSpec(dim=3, tokens=1),
}


@pytest.fixture
def shapes() -> Callable[[int], dict[str, FeatureSpec]]:
    """The shapes of the first so many modalities."""
    return lambda count: dict(list(SHAPES.items())[:count])


@pytest.fixture
def features() -> Callable[..., dict[str, Features]]:
    """Random features of these shapes; text has padded tokens."""

    def make(shapes: Mapping[str, FeatureSpec], size: int = 5, seed: int = 0) -> dict[str, Features]:
        generator = torch.Generator().manual_seed(seed)
        made = {}
        for name, shape in shapes.items():
            tokens = torch.randn(size, shape.tokens, shape.dim, generator=generator)
            mask = None
            if name == "text":
                mask = torch.arange(shape.tokens) < torch.arange(size).unsqueeze(1) % shape.tokens + 1
            made[name] = Features(tokens, shape.grid, mask, torch.ones(size, dtype=torch.bool))
        return made

    return make


@pytest.fixture
def check_fusion(shapes) -> Callable[..., None]:
    """Hold a fusion of some modalities against every rule of the suite, with inputs by the names of `shapes`."""

    def check(make: Make, count: int) -> None:
        kind = type(make(shapes(count)))
        subject = subject_of(make, kind, count, (_named(MIXED), _named(ALIGNED)))
        for rule in CHECKS:
            hold(rule, subject)

    return check


def _named(offered: Mapping[str, InputSpec]) -> dict[str, InputSpec]:
    return dict(zip(SHAPES, offered.values(), strict=True))
