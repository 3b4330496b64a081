"""The Brier score, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from fusionkit_metrics.brier import Brier
from sklearn.metrics import brier_score_loss

from fusionkit.flow import Task
from fusionkit.made_up import made_up
from fusionkit.testing import MetricSuite

TASK = Task("classification", tuple("abcdef"), (1,) * 6, 6)
TWO = Task("classification", ("no", "yes"), (1, 1), 2)


class TestSuite(MetricSuite):
    component = Brier


@pytest.mark.parametrize("classes", [6, 3])  # three of six: the others have no sample, and still some probability
def test_against_scikit_learn(classes: int) -> None:
    target, answers = made_up(TASK, 200)
    kept = target < classes
    answers = answers / answers.sum(1, keepdims=True)
    expected = brier_score_loss(target[kept], answers[kept], labels=list(range(6)), scale_by_half=False)
    assert Brier(TASK).compute(target[kept], answers[kept]) == pytest.approx(expected, rel=1e-6)


def test_of_two_classes_it_is_twice_the_score_of_one_probability() -> None:
    target, answers = made_up(TWO, 50)
    expected = 2 * brier_score_loss(target, answers[:, 1])
    assert Brier(TWO).compute(target, answers) == pytest.approx(expected, rel=1e-6)


def test_its_bounds() -> None:
    target = np.arange(6)
    assert Brier(TASK).compute(target, np.eye(6)) == 0
    assert Brier(TASK).compute(target, np.eye(6)[::-1]) == 2
    assert not Brier.higher_is_better
