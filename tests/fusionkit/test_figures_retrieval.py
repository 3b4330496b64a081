"""Figure of a retrieval."""

from __future__ import annotations

import numpy as np
import pytest

from fusionkit.figures import png
from fusionkit.figures_retrieval import recall_curves
from fusionkit.retrieval import figures


def test_the_curves_are_the_recalls() -> None:
    random = np.random.default_rng(0)
    shown = random.normal(size=(30, 5))
    target = np.stack([np.repeat(np.arange(30), 2), np.full(60, -1)], axis=1)
    answers = np.hstack([shown[target[:, 0]], shown[target[:, 0]] + random.normal(size=(60, 5))])
    figure = recall_curves(target, answers, ("图像", "text"), title="a $ in it", subtitle="of things")
    (axes,) = figure.axes
    forward, backward, chance = axes.lines
    found = figures(target, answers)
    for line, way in ((forward, "forward"), (backward, "backward")):
        cutoffs, recall = line.get_data()
        for k in (1, 5, 10):
            assert recall[list(cutoffs).index(k)] == pytest.approx(found[f"{way}_r{k}"])
    assert chance.get_ydata()[2] == pytest.approx(3 / 30)
    assert [text.get_text() for text in axes.get_legend().get_texts()][:2] == ["图像 → text", "text → 图像"]
    assert png(figure).startswith(b"\x89PNG")


def test_few_things() -> None:
    target = np.array([[0, -1], [1, -1]])
    figure = recall_curves(target, np.tile(np.eye(2), 2), ("a", "b"))
    assert figure.axes[0].get_xlim() == pytest.approx((1, 2))
