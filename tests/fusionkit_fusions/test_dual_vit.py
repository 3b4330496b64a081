"""Dual-ViT blocks as a fusion."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fusionkit_encoders.dual_vit_blocks import SemanticTokens
from fusionkit_fusions.dual_vit import DualViT

from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import Features, FeatureSpec


def perturbed(module):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


def test_keeps_the_contract_with_a_single_token_beside_the_map(check_fusion, shapes):
    given = shapes(4)
    for names in (["hsi", "vector"], ["hsi", "vector", "lidar"]):
        kept = {name: given[name] for name in names}
        torch.manual_seed(0)
        fusion = perturbed(DualViT(kept, dim=12, heads=3))
        tokens = {name: torch.randn(4, spec.tokens, spec.dim) for name, spec in kept.items()}
        fusion({n: Features(t, kept[n].grid) for n, t in tokens.items()}).square().sum().backward()
        largest = max(p.grad.abs().max() for p in fusion.parameters())
        assert all(p.grad.abs().max() > 1e-6 * largest for n, p in fusion.named_parameters() if p.dim() > 1)


@pytest.mark.parametrize("pixel", [None, "lidar"])
@torch.no_grad()
def test_paths(shapes, features, pixel):
    """The first block reads the map of one modality and the embedded tokens of the others, in their order."""
    fusion = perturbed(DualViT(shapes(3), dim=12, heads=3, pixel=pixel))
    given, seen = features(shapes(3)), []
    fusion.dual[0].register_forward_pre_hook(lambda _, args: seen.append(args))
    fusion(given)
    (x, s, grid, x_mask, s_mask), *_ = seen
    name = pixel or "hsi"
    others = [other for other in given if other != name]
    assert grid == given[name].grid
    assert x_mask.all()
    torch.testing.assert_close(x, fusion.embed[name](given[name].tokens))
    start = 0
    for other in others:
        count = given[other].tokens.shape[1]
        mask = given[other].token_mask
        assert torch.equal(s_mask[:, start : start + count], mask)
        expected = fusion.embed[other](given[other].tokens)
        torch.testing.assert_close(s[:, start : start + count][mask], expected[mask])
        start += count
    assert s.shape[1] == start


@torch.no_grad()
def test_absent_tokens_could_as_well_not_be_there(shapes):
    """A sample without a modality, with masked cells at the map's edge, and with padding, is predicted as one that
    was never given any of that: the same weights on a smaller map, without that modality."""
    whole = {
        "map": FeatureSpec(6, 12, (4, 3)),
        "text": FeatureSpec(5, 7),
        "other": FeatureSpec(4, 4, (2, 2)),
    }
    fusion = perturbed(DualViT(whole, dim=12, heads=3))
    less = {"map": FeatureSpec(6, 9, (3, 3)), "text": FeatureSpec(5, 4)}
    smaller = DualViT(less, dim=12, heads=3).eval()
    smaller.load_state_dict({n: w for n, w in fusion.state_dict().items() if not n.startswith("embed.other")})
    image, text = torch.randn(2, 12, 6), torch.randn(2, 7, 5)
    cells = torch.arange(12).expand(2, -1) < 9  # the last row is masked: the convolution pads there with zeros
    steps = torch.arange(7).expand(2, -1) < 4
    found = fusion(
        {
            "map": Features(image.masked_fill(~cells.unsqueeze(2), torch.nan), (4, 3), cells),
            "text": Features(text.masked_fill(~steps.unsqueeze(2), torch.inf), mask=steps),
            "other": Features(torch.full((2, 4, 4), torch.nan), (2, 2), present=torch.zeros(2, dtype=torch.bool)),
        }
    )
    expected = smaller({"map": Features(image[:, :9], (3, 3)), "text": Features(text[:, :4])})
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_one_modality_has_its_own_semantic_tokens():
    """A map of the paper's 56 x 56 cells is pooled to 8 x 8 semantic tokens; small ones are not pooled."""
    for grid, pooled in (((56, 56), (8, 8)), ((14, 14), (7, 7)), ((3, 3), (3, 3)), ((1, 20), (1, 20))):
        fusion = DualViT({"map": FeatureSpec(4, grid[0] * grid[1], grid)}, dim=8, heads=2)
        assert fusion.semantics.grid == pooled
        seen = []
        fusion.dual[0].register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[1]))
        fusion({"map": Features(torch.randn(2, grid[0] * grid[1], 4), grid)})
        assert seen[0].shape == (2, pooled[0] * pooled[1], 8)


@torch.no_grad()
def test_semantic_tokens_of_a_masked_map():
    """Masked cells do not count in the pooled mean; a window without a real cell makes no semantic token."""
    tokens = perturbed(SemanticTokens(6, 2, (2, 2)))
    x = torch.randn(1, 4, 4, 6)
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    mask[:, :, 2:] = False  # the right half is gone
    mask[:, 0, 0] = False
    left = x.masked_fill(~mask.unsqueeze(3), 0).flatten(1, 2)
    found, kept = tokens(left, (4, 4), mask.flatten(1)), tokens.pooled_mask(mask.flatten(1), (4, 4))
    assert kept.tolist() == [[True, False, True, False]]
    pooled = torch.stack([torch.stack([x[0, 0, 1], x[0, 1, 0], x[0, 1, 1]]).mean(0), x[0, 2:, :2].mean((0, 1))])
    query = tokens.query(tokens.queries[[0, 2]])
    key, value = tokens.kv(pooled).chunk(2, 1)
    read = (query @ key.t() / 6**0.5).softmax(1) @ value
    gate = tokens.gate((read + pooled).mean(0)).view(2, 6).softmax(0)
    expected = tokens.norm(gate[0] * read + gate[1] * pooled)
    torch.testing.assert_close(found[0, [0, 2]], expected)


def test_what_it_refuses(shapes):
    with pytest.raises(ShapeError, match="none of text, vector has one"):
        DualViT({name: shapes(4)[name] for name in ("text", "vector")})
    with pytest.raises(ShapeError, match="none of map has one"):
        DualViT({"map": FeatureSpec(4, 1, (1, 1))})
    with pytest.raises(ShapeError, match="and text has none"):
        DualViT(shapes(3), pixel="text")
    with pytest.raises(RequestError, match="no modality 'sar' for its pixel path, but hsi, lidar"):
        DualViT(shapes(2), pixel="sar")
    with pytest.raises(RequestError, match="256 is no multiple of 7"):
        DualViT(shapes(2), heads=7)


@torch.no_grad()
def test_nobody_is_there(shapes, features):
    fusion = perturbed(DualViT(shapes(3), dim=12, heads=3))
    given = features(shapes(3))
    nobody = torch.zeros(5, dtype=torch.bool)
    fused = fusion({name: replace(f, present=nobody) for name, f in given.items()})
    assert fused.isfinite().all()
    torch.testing.assert_close(fused, fused[:1].expand_as(fused))
