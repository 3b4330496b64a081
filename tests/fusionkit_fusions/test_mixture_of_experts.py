"""Mixture of experts."""

from dataclasses import replace

import pytest
import torch
from fusionkit_fusions.mixture_of_experts import MixtureOfExperts, squared_variation

from fusionkit.errors import RequestError


def read(fusion, given):
    return torch.cat([layer(given[name].pooled) for name, layer in fusion.project.layers.items()], dim=1)


@pytest.mark.parametrize("top_k", [None, 1, 2])
def test_the_best_experts_weighted(shapes, features, top_k):
    inputs, given = shapes(2), features(shapes(2))
    fusion = MixtureOfExperts(inputs, dim=4, experts=3, top_k=top_k).eval()
    got, importance = fusion(given), torch.zeros(3)
    for row, x in enumerate(read(fusion, given)):
        scores = (fusion.gate.weight @ x + fusion.gate.bias).tolist()
        best = sorted(range(3), key=lambda i: -scores[i])[: top_k or 3]
        odds = {i: torch.tensor(scores[i]).exp() for i in best}
        expected = 0
        for i, odd in odds.items():
            expected = expected + odd / sum(odds.values()) * fusion.experts[i](x)
            importance[i] += odd / sum(odds.values())
        torch.testing.assert_close(got.vector[row], expected)
    penalty = importance.var(correction=0) / importance.mean() ** 2
    torch.testing.assert_close(got.penalties["moe_balance"], penalty)


def test_the_load_is_how_often_an_expert_would_be_chosen(shapes, features):
    """Against a count: the noise of one expert drawn again many times, that of the others held."""
    inputs, given = shapes(2), features(shapes(2), size=1)
    fusion = MixtureOfExperts(inputs, dim=4, experts=4, top_k=2, dropout=0.0)
    x = read(fusion, given)
    torch.manual_seed(3)
    got = fusion(given).penalties["moe_balance"]
    torch.manual_seed(3)
    clean, spread = fusion.gate(x)[0], torch.nn.functional.softplus(fusion.noise(x))[0]
    noisy = clean + torch.randn(1, 4)[0] * spread
    importance, load = torch.zeros(4), torch.zeros(4)
    best = noisy.topk(2)
    importance[best.indices] = best.values.softmax(0).detach()
    for i in range(4):
        others = torch.cat([noisy[:i], noisy[i + 1 :]])
        again = clean[i] + torch.randn(200_000) * spread[i]
        load[i] = (again > others.topk(2).values[1]).float().mean()
    expected = squared_variation(importance) + squared_variation(load)
    torch.testing.assert_close(got, expected, rtol=0.02, atol=0.005)


def test_noise_is_each_samples_own(shapes, features):
    given = {
        name: replace(f, tokens=f.tokens[:1].expand_as(f.tokens), mask=None) for name, f in features(shapes(2)).items()
    }
    vectors = MixtureOfExperts(shapes(2), dim=4, top_k=2, dropout=0.0)(given).vector
    assert not torch.allclose(vectors, vectors[:1].expand_as(vectors))


def test_more_than_there_are(shapes):
    with pytest.raises(RequestError, match="leave it out"):
        MixtureOfExperts(shapes(2), experts=2, top_k=2)
