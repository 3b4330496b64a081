"""Adaptive weights."""

from dataclasses import replace

import torch
from fusionkit_fusions.adaptive import Adaptive


def test_a_softmax_over_those_present(shapes, features):
    inputs, given = shapes(3), features(shapes(3))
    given["text"] = replace(given["text"], present=torch.arange(5) > 1)
    fusion = Adaptive(inputs, dim=4).eval()
    got = fusion(given)
    for row in range(5):
        names = [name for name in inputs if name != "text" or row > 1]
        parts, scores = [], []
        for name in names:
            x = given[name].pooled[row : row + 1]
            parts.append(fusion.project.layers[name](x)[0])
            scores.append(fusion.score.weight[0] @ torch.tanh(fusion.hidden.layers[name](x)[0]))
        odds = torch.stack(scores).exp()
        expected = sum(o / odds.sum() * part for o, part in zip(odds, parts, strict=True))
        torch.testing.assert_close(got[row], expected)
