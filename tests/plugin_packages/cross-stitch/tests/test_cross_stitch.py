"""Cross-stitch units, against sums by hand and the rules of fusionkit."""

import pytest
import torch
from fusionkit_cross_stitch.cross_stitch import CrossStitch

from fusionkit import Features, FeatureSpec, ShapeError
from fusionkit.testing import FusionSuite, PluginSuite


class TestPlugin(PluginSuite):
    module = "fusionkit_cross_stitch.plugin"


class TestSuite(FusionSuite):
    component = "fusion:cross_stitch"
    counts = (1, 2, 3, 4)


def spec(width: int, *, stages: int = 2) -> FeatureSpec:
    return FeatureSpec(width, 1, None, tuple(FeatureSpec(width, 1) for _ in range(stages)))


def test_a_unit_mixes_as_the_paper_says():
    fusion = CrossStitch({"optical": spec(2), "radar": spec(2)})
    [unit] = fusion.units
    with torch.no_grad():  # channel 0 and channel 1 of what each takes of (optical, radar)
        unit.alpha.copy_(torch.tensor([[[0.9, 0.5], [0.1, 0.5]], [[0.2, 0.0], [0.8, -1.0]]]))
    features = {
        "optical": Features(torch.tensor([[[10.0, 2.0]]])),
        "radar": Features(torch.tensor([[[20.0, 6.0]]])),
    }
    after = fusion.exchange(0, features)
    # 0.9 * 10 + 0.1 * 20, 0.5 * 2 + 0.5 * 6;  0.2 * 10 + 0.8 * 20, 0 * 2 - 1 * 6
    torch.testing.assert_close(after["optical"].tokens, torch.tensor([[[11.0, 4.0]]]))
    torch.testing.assert_close(after["radar"].tokens, torch.tensor([[[18.0, -6.0]]]))
    torch.testing.assert_close(fusion(after), torch.tensor([[11.0, 4.0, 18.0, -6.0]]))


def test_an_absent_modality_and_tokens_that_are_not_real_add_nothing():
    fusion = CrossStitch({"optical": spec(1), "radar": spec(1)})
    nan = torch.nan
    features = {
        "optical": Features(torch.tensor([[[10.0], [nan]], [[10.0], [30.0]]]), mask=torch.tensor([[1, 0], [1, 1]]) > 0),
        "radar": Features(torch.tensor([[[20.0], [40.0]], [[nan], [nan]]]), present=torch.tensor([True, False])),
    }
    after = fusion.exchange(0, features)
    torch.testing.assert_close(after["optical"].pooled, torch.tensor([[0.9 * 10 + 0.1 * 20], [0.9 * (10 + 30) / 2]]))
    torch.testing.assert_close(after["radar"].pooled, torch.tensor([[(0.9 * 20 + 0.1 * 10 + 0.9 * 40) / 2], [0.0]]))


def test_the_shares_in_the_beginning():
    [unit, _] = CrossStitch(dict.fromkeys("abc", spec(4, stages=3)), own=0.7).units
    expected = torch.tensor([[0.7, 0.15, 0.15], [0.15, 0.7, 0.15], [0.15, 0.15, 0.7]])
    torch.testing.assert_close(unit.alpha.detach(), expected.unsqueeze(2).expand(3, 3, 4))


def test_what_it_keeps_of_its_own_is_logged():
    fusion = CrossStitch(dict.fromkeys("ab", spec(4)), own=0.7)
    assert fusion.figures() == {"own": pytest.approx(0.7)}
    assert CrossStitch({"a": spec(4)}).figures() == {}


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"a": spec(4), "b": spec(8)}, "after stage 1 their widths and grids are a 4 of 1, b 8 of 1"),
        (dict.fromkeys("ab", spec(4, stages=1)), "no encoder has more than one"),
    ],
)
def test_what_cannot_be_stitched_is_told(inputs, told):
    with pytest.raises(ShapeError, match=told):
        CrossStitch(inputs)
