"""Overlaps: the curve, its area, and the bars."""

import numpy as np
import pytest

from fusionkit.figures import png
from fusionkit.figures_grounding import overlaps
from fusionkit.grounding import figures, iou


def some(n, seed=0):
    random = np.random.default_rng(seed)
    first = random.uniform(0, 0.5, (n, 2))
    target = np.concatenate([first, first + random.uniform(0.2, 0.5, (n, 2))], axis=1)
    return target, (target + random.uniform(-0.08, 0.08, (n, 4))).clip(0, 1)


@pytest.mark.parametrize("n", [1, 40])
def test_the_area_under_the_curve_is_the_mean_iou(n):
    target, answers = some(n)
    if n > 1:
        answers[:5], answers[5:10] = target[:5], [0.9, 0.9, 1, 1]  # exact, and far off
    curve, bars = overlaps(target, answers, title="phrases").axes
    x, y = curve.lines[0].get_data()
    assert (np.diff(x) >= 0).all()
    assert (x[0], x[-1], y[0]) == (0, 1, 1)
    # A step is drawn at its right end's height.
    assert np.sum(np.diff(x) * y[1:]) == pytest.approx(figures(target, answers)["mean_iou"])
    share = (iou(target, answers) >= 0.5).mean()
    assert curve.lines[2].get_ydata()[0] == pytest.approx(share)
    assert any(f"Acc@0.5 {share:.3f}" == text.get_text() for text in curve.texts)
    assert sum(bar.get_height() for bar in bars.patches) == n


def test_it_can_be_drawn():
    assert png(overlaps(*some(30), title="x", subtitle="y")).startswith(b"\x89PNG")


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="no samples"):
        overlaps(np.zeros((0, 4)), np.zeros((0, 4)))
