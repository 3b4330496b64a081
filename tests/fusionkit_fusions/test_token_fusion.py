"""TokenFusion: the exchange against the original's tensors, and around it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fusionkit_fusions.attention import Tokens
from fusionkit_fusions.token_fusion import SharedLayer, TokenFusion, exchange_tokens
from fusionkit_losses.token_l1 import TokenL1

from fusionkit.flow import Batch, FeatureSpec, Output, Task
from fusionkit.testing import FusionSuite

ORACLE = Path(__file__).parents[1] / "oracles" / "tokenfusion_exchange.pt"


class TestAllExchange(FusionSuite):
    """With a threshold in the midst of the scores."""

    component = TokenFusion
    options = {"threshold": 0.5, "dim": 16}
    counts = (3,)


def test_exchanges_as_the_original_does():
    held = torch.load(ORACLE, weights_only=True)
    x, scores = torch.stack(held["x"]), torch.stack(held["mask"])
    moved = exchange_tokens(x, scores, torch.ones_like(scores, dtype=torch.bool), held["threshold"])
    assert torch.equal(moved, torch.stack(held["y"]))
    assert not torch.equal(moved, x)


def test_of_three_modalities_the_mean_of_the_real_others():
    x = torch.randn(3, 1, 2, 4)
    scores = torch.tensor([[[0.0, 0.5]], [[0.5, 0.0]], [[0.5, 0.5]]])
    real = torch.tensor([[[True, True]], [[True, True]], [[True, False]]])
    moved = exchange_tokens(x, scores, real, 0.1)
    torch.testing.assert_close(moved[0, 0, 0], (x[1, 0, 0] + x[2, 0, 0]) / 2)
    torch.testing.assert_close(moved[1, 0, 1], x[0, 0, 1])  # the third has no real token there
    kept = torch.ones(3, 1, 2, dtype=torch.bool)
    kept[0, 0, 0] = kept[1, 0, 1] = False
    assert torch.equal(moved[kept], x[kept])


def test_without_anybody_else_nothing_is_exchanged():
    x = torch.randn(2, 1, 3, 4)
    real = torch.tensor([[[True] * 3], [[False] * 3]])
    assert torch.equal(exchange_tokens(x, torch.zeros(2, 1, 3), real, 0.5), x)


@pytest.mark.parametrize("grids", [((4, 4), (2, 2)), ((3, 3), (3, 3)), ((4, 2), (1, 1))])
def test_maps_are_brought_to_the_largest_grid(grids):
    inputs = {name: FeatureSpec(6, h * w, (h, w)) for name, (h, w) in zip("ab", grids, strict=True)}
    assert TokenFusion(inputs).place == grids[0]


def test_the_penalty_is_the_mean_score(shapes, features):
    """Summed over layers and modalities; absent ones count as zero."""
    given = features(shapes(2))
    given["lidar"] = replace(given["lidar"], present=torch.tensor([True, True, False, True, False]))
    fusion = TokenFusion(shapes(2), dim=8, heads=2, depth=1).eval()
    with torch.no_grad():
        for score in fusion.layers[0].scores.values():
            score[-1].weight.zero_()  # every score is the sigmoid of the bias
            score[-1].bias.fill_(1.0)
    penalty = fusion(given).penalties["token_l1"]
    torch.testing.assert_close(penalty, torch.tensor(1.0).sigmoid() * (1 + 3 / 5))
    output = Output(torch.zeros(5, 2), torch.zeros(5, 8), penalties={"token_l1": penalty})
    batch = Batch({}, {}, torch.zeros(5, dtype=torch.int64), torch.arange(5))
    assert TokenL1(Task("classification", ("x", "y"), (1, 1)))(output, batch) is penalty


def test_a_layer_scores_its_input_and_exchanges_updates():
    """The equations of the docstring, modality by modality, for two of one grid."""
    layer = SharedLayer(["a", "b"], 8, 2, 0.0, 0.5).eval()
    x = torch.randn(2, 3, 6, 8)
    everything = torch.ones(2, 3, 6, dtype=torch.bool)
    after, scores = layer(x, everything, everything[:, :, 0])
    updates = []
    for number, name in enumerate("ab"):
        torch.testing.assert_close(scores[number], layer.scores[name](x[number]).sigmoid().squeeze(2))
        normed = layer.norms[name](x[number])
        updates.append(layer.attention(normed, Tokens(normed)) * scores[number].unsqueeze(2))
    assert (scores < 0.5).any()
    assert (scores >= 0.5).any()
    for number, name in enumerate("ab"):
        low = (scores[number] < 0.5).unsqueeze(2)
        between = x[number] + torch.where(low, updates[1 - number], updates[number])
        torch.testing.assert_close(after[number], between + layer.mlp(layer.mlp_norms[name](between)))
