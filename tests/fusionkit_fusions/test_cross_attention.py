"""Cross-attention; the rules that every fusion keeps are in `test_conformance`."""

from dataclasses import replace

import pytest
import torch
from fusionkit_fusions.cross_attention import CrossAttention

from fusionkit.errors import RequestError, ShapeError
from fusionkit.testing import FusionSuite


class TestDeep(FusionSuite):
    component = CrossAttention
    options = {"depth": 2, "keep_attention": True, "dim": 16}
    counts = (3,)


class TestOneQuery(FusionSuite):
    component = CrossAttention
    options = {"query": "height", "dim": 16}
    counts = (2,)


def test_every_ordered_pair_or_one_query(shapes):
    assert len(CrossAttention(shapes(3)).pairs) == 6
    assert CrossAttention(shapes(3), query="lidar").pairs == [("lidar", "hsi"), ("lidar", "text")]


def test_weights_are_kept_when_asked_for(shapes, features):
    given = features(shapes(3))
    torch.manual_seed(0)
    fusion = CrossAttention(shapes(3), keep_attention=True, heads=2, dim=16).eval()
    fused = fusion(given)
    assert fused.attention["text<-hsi"].shape == (5, 2, 7, 9)
    assert fused.attention.keys() == {f"{a}<-{b}" for a, b in fusion.pairs}
    torch.testing.assert_close(fused.attention["hsi<-text"].sum(3), torch.ones(5, 2, 9))
    lengths = given["text"].mask.sum(1)
    assert not fused.attention["hsi<-text"][0, :, :, lengths[0] :].any()
    torch.manual_seed(0)
    plain = CrossAttention(shapes(3), heads=2, dim=16).eval()
    torch.testing.assert_close(plain(given), fused.vector)


def test_without_the_other_a_stream_reads_nothing(shapes, features):
    """Where b is absent, Z is X_a through the feed-forward layers: equations of the docstring, attention left out."""
    given = features(shapes(2))
    fusion = CrossAttention(shapes(2), query="hsi", dim=8, heads=2).eval()
    nobody = torch.zeros(5, dtype=torch.bool)
    (layer,) = fusion.streams[0]
    tokens = fusion.tokens(given)["hsi"].value
    expected = fusion.mix((tokens + layer.feed_forward(tokens)).mean(1))
    torch.testing.assert_close(fusion(given | {"lidar": replace(given["lidar"], present=nobody)}), expected)


def test_refusals(shapes):
    with pytest.raises(ShapeError, match="cross_attention reads one modality from another; there is only hsi"):
        CrossAttention(shapes(1))
    with pytest.raises(RequestError, match="query: there is no modality 'lider'; did you mean 'lidar'"):
        CrossAttention(shapes(2), query="lider")
