"""Regions of an image: where they lie, what they hold, and who sees them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fusionkit_fusions.region_attention import RegionAttention, Regions, tiled

from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import Features, FeatureSpec
from fusionkit.testing import FusionSuite

MAP = FeatureSpec(6, 16, (4, 4))
WORDS = FeatureSpec(5, 3)


class TestRegionAttention(FusionSuite):
    component = RegionAttention
    options = {"dim": 16, "heads": 2, "dropout": 0.0}


class TestCellsAlone(FusionSuite):
    component = RegionAttention
    options = {"dim": 16, "heads": 2, "scales": ()}


def a_map(seed: int = 0) -> Features:
    return Features.from_map(torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(seed)))


def test_windows_lie_all_over_the_image() -> None:
    expected = [[x, y, x + 0.5, y + 0.5] for y in (0, 0.25, 0.5) for x in (0, 0.25, 0.5)]
    torch.testing.assert_close(tiled(0.5, 0.5), torch.tensor(expected))
    assert tiled(1.0, 1.0).tolist() == [[0, 0, 1, 1]]
    assert len(tiled(0.25, 0.25)) == 7 * 7
    for side in (0.3, 0.7):
        left = tiled(side, side)[:, 0].unique()
        assert left.diff().max() <= side / 2 + 1e-6
        assert left[-1] + side == pytest.approx(1)
    cells = tiled(1 / 2, 1 / 3, overlap=False)
    torch.testing.assert_close(cells[4], torch.tensor([1 / 3, 0.5, 2 / 3, 1]))


def test_a_window_holds_the_mean_of_its_cells() -> None:
    """Of a grid of 4 x 4, a window of half the side that begins at a cell holds 2 x 2."""
    regions = Regions(MAP, [0.5, 1.0], 8)
    assert regions.boxes.shape == (16 + 9 + 1, 4)
    map = a_map().map
    held = (regions.pooling @ a_map().tokens).transpose(1, 2)
    torch.testing.assert_close(held[:, :, :16], map.flatten(2))
    torch.testing.assert_close(held[:, :, 16:25].unflatten(2, (3, 3)), torch.nn.functional.avg_pool2d(map, 2, 1))
    torch.testing.assert_close(held[:, :, 25], map.mean((2, 3)))


def test_what_was_not_measured_is_in_no_region() -> None:
    regions = Regions(MAP, [0.5], 8)
    features = a_map()
    mask = torch.ones(2, 16, dtype=torch.bool)
    mask[0, [0, 1, 4, 5]] = False  # the upper left window
    mask[1, 0] = False
    holes = replace(features, mask=mask, tokens=features.tokens.masked_fill(~mask.unsqueeze(2), torch.nan))
    found = regions(holes)
    assert found.mask is not None
    assert found.value.isfinite().all()
    assert (~found.mask).nonzero().tolist() == [[0, 0], [0, 1], [0, 4], [0, 5], [0, 16], [1, 0]]
    rest = features.tokens[1, [1, 4, 5]].mean(0)
    torch.testing.assert_close(found.value[1, 16], regions.content(rest) + regions._prompts()[16])
    whole = regions(features).value
    torch.testing.assert_close(found.value[1, 20], whole[1, 20])  # the window in the middle has all its cells but one


def test_prompts_are_fourier_features_of_both_corners() -> None:
    regions = Regions(MAP, [0.5], 8)
    x1, y1, x2, y2 = regions.boxes[20]
    made = []
    for x, y in ((x1, y1), (x2, y2)):
        turns = 2 * torch.pi * ((2 * x - 1) * regions.frequencies[0] + (2 * y - 1) * regions.frequencies[1])
        made += [turns.sin(), turns.cos()]
    torch.testing.assert_close(regions._prompts()[20], regions.prompt(torch.cat(made)))


def test_attention_to_windows_is_shared_among_their_cells() -> None:
    torch.manual_seed(0)
    fusion = RegionAttention({"image": MAP, "text": WORDS}, dim=8, heads=2, keep_attention=True).eval()
    words = Features(torch.randn(2, 3, 5), mask=torch.tensor([[True, True, False], [True, True, True]]))
    given = {"image": a_map(), "text": words}
    told = fusion(given)
    assert {name: tuple(weights.shape) for name, weights in told.attention.items()} == {
        "[REG]<-image": (2, 2, 1, 16),
        "text<-image": (2, 2, 3, 16),
    }
    for weights in told.attention.values():
        torch.testing.assert_close(weights.sum(3), torch.ones(weights.shape[:3]))
    fusion.keep_attention = False
    torch.testing.assert_close(fusion(given), told.vector)


@pytest.mark.parametrize(
    ("inputs", "options", "error", "problem"),
    [
        ({"text": WORDS, "other": WORDS}, {}, ShapeError, "text and other have no grid"),
        ({"image": MAP}, {"dim": 10, "heads": 2}, RequestError, "no multiple of 4"),
    ],
)
def test_what_it_refuses(inputs, options, error, problem) -> None:
    with pytest.raises(error, match=problem):
        RegionAttention(inputs, **options)
