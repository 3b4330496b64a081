"""Multi-scale fusion."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fusionkit_fusions.multi_scale import FeaturePyramid, MultiScale, PyramidPooling
from torch.nn import functional as F

from fusionkit.errors import ShapeError
from fusionkit.flow import Features, FeatureSpec
from fusionkit.testing import FusionSuite


class TestPyramidPooling(FusionSuite):
    component, options, counts = MultiScale, {"kind": "ppm", "dim": 16}, (1, 2, 4)


SPEC = FeatureSpec(7, 4, (2, 2), (FeatureSpec(3, 64, (8, 8)), FeatureSpec(5, 16, (4, 4)), FeatureSpec(7, 4, (2, 2))))


def staged(size: int = 3) -> Features:
    maps = [torch.randn(size, s.dim, *s.grid) for s in SPEC.stages]
    stages = tuple(Features.from_map(map) for map in maps)
    # What the encoder hands over is not what its last stage made: a final norm lies between.
    return replace(Features.from_map(F.layer_norm(maps[-1], (2, 2))), stages=stages)


def test_feature_pyramid_is_the_papers():
    """M_l = conv1x1(C_l) + upsampled M_(l+1), P_l = conv3x3(M_l), from plain convolutions."""
    pyramid = FeaturePyramid(SPEC, 6)
    features = staged()
    levels = [features.stages[0].map, features.stages[1].map, features.map]
    inner, layers = pyramid.pyramid.inner_blocks, pyramid.pyramid.layer_blocks
    merged, pooled = None, []
    for level in (2, 1, 0):
        lateral = F.conv2d(levels[level], inner[level][0].weight, inner[level][0].bias)
        if merged is not None:
            lateral = lateral + merged.repeat_interleave(2, 2).repeat_interleave(2, 3)
        merged = lateral
        smooth = F.conv2d(merged, layers[level][0].weight, layers[level][0].bias, padding=1)
        pooled.insert(0, smooth.mean((2, 3)))
    torch.testing.assert_close(pyramid(features), torch.cat(pooled, 1))
    assert pyramid.dim == 18


def test_pyramid_pooling_is_the_papers():
    """On a 6 x 6 map, where every bin is a whole block of cells."""
    spec = FeatureSpec(8, 36, (6, 6))
    pyramid = PyramidPooling(spec, 5)
    assert pyramid.bins == (1, 2, 3, 6)
    features = Features(torch.randn(2, 36, 8), (6, 6))
    map = F.layer_norm(features.tokens, (8,)).transpose(1, 2).unflatten(2, (6, 6))
    stacked = [map]
    for bins, reduce in zip((1, 2, 3, 6), pyramid.reduce, strict=True):
        side = 6 // bins
        blocks = map.unflatten(3, (bins, side)).unflatten(2, (bins, side)).mean((3, 5))
        reduced = F.relu(F.conv2d(blocks, reduce.weight, reduce.bias))
        assert reduced.shape[1] == 2  # a quarter of the channels
        stacked.append(torch.nn.UpsamplingBilinear2d(size=(6, 6))(reduced))
    merged = F.relu(F.conv2d(torch.cat(stacked, 1), pyramid.merge.weight, pyramid.merge.bias, padding=1))
    torch.testing.assert_close(pyramid(features), merged.mean((2, 3)))


@pytest.mark.parametrize(("grid", "bins"), [((1, 1), (1,)), ((2, 5), (1, 2)), ((4, 4), (1, 2, 3))])
def test_bins_finer_than_the_map_are_left_out(grid, bins):
    pyramid = PyramidPooling(FeatureSpec(12, grid[0] * grid[1], grid), 4)
    assert pyramid.bins == bins
    assert {reduce.out_channels for reduce in pyramid.reduce} == {12 // len(bins)}
    assert pyramid(Features(torch.randn(2, grid[0] * grid[1], 12), grid)).shape == (2, 4)


@pytest.mark.parametrize("kind", ["fpn", "ppm"])
def test_cells_that_are_not_real_are_not_read(kind):
    """Whatever stands in the lower half of a map that is masked there, in every stage."""
    fusion = MultiScale({"image": SPEC}, kind=kind, dim=8).eval()
    features = staged()

    def masked(content: float) -> Features:
        def lower(f: Features) -> Features:
            mask = (torch.arange(f.tokens.shape[1]) < f.tokens.shape[1] // 2).expand(3, -1)
            return replace(f, tokens=f.tokens.masked_fill(~mask.unsqueeze(-1), content), mask=mask)

        return replace(lower(features), stages=tuple(map(lower, features.stages)))

    fused = fusion({"image": masked(torch.nan)})
    assert torch.equal(fused, fusion({"image": masked(3.0)}))
    assert not torch.allclose(fused, fusion({"image": features}))
    fused.sum().backward()
    assert all(p.grad.isfinite().all() for p in fusion.parameters())


def test_an_average_over_bins_is_one_of_real_cells():
    """A bin that is half real has the mean of that half, and one without a real cell is zero."""
    pyramid = PyramidPooling(FeatureSpec(4, 16, (4, 4)), 4)
    seen = []
    for reduce in pyramid.reduce:
        reduce.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, 0] = True
    features = Features(torch.randn(1, 16, 4), (4, 4), mask.flatten(1))
    pyramid(features)
    map = F.layer_norm(features.tokens, (4,)).transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(seen[0][..., 0, 0], map[:, :, 0].mean(-1))
    torch.testing.assert_close(seen[1][..., 0, 1], map[:, :, 0, 2:].mean(-1))
    assert not seen[1][..., 1, :].any()


@pytest.mark.parametrize(("kind", "moves"), [("fpn", True), ("ppm", False)])
def test_stages_are_read_by_the_feature_pyramid_alone(kind, moves):
    fusion = MultiScale({"image": SPEC}, kind=kind, dim=8).eval()
    assert fusion.reads_stages == moves
    features = staged()
    other = replace(features, stages=staged().stages)
    assert torch.equal(fusion({"image": other}), fusion({"image": features})) != moves


def test_descriptions_stand_side_by_side():
    """A vector joins by its pooled features; what is absent is zero and keeps its place."""
    fusion = MultiScale({"vector": FeatureSpec(4, 1), "image": SPEC}, dim=8).eval()
    seen = []
    fusion.mix[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    vector, image = Features.from_vector(torch.randn(3, 4)), staged()
    fusion({"image": image, "vector": vector})
    gone = torch.tensor([False, True, True])
    fusion({"vector": vector, "image": replace(image, present=gone)})
    whole, without = seen
    assert whole.shape == (3, 4 + 3 * 8)
    torch.testing.assert_close(whole[:, :4], F.layer_norm(vector.pooled, (4,)))
    torch.testing.assert_close(whole[:, 4:], F.layer_norm(fusion.pyramids["image"](image), (24,)))
    assert not without[0, 4:].any()
    assert torch.equal(without[0, :4], whole[0, :4])


def test_a_map_is_needed():
    with pytest.raises(ShapeError, match="needs a map, and there is none among text, vector"):
        MultiScale({"text": FeatureSpec(4, 7), "vector": FeatureSpec(3, 1)})
