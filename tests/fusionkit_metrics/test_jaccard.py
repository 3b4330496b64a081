"""The Jaccard index of the classes, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from fusionkit_metrics.jaccard import Jaccard
from sklearn.metrics import jaccard_score

from fusionkit.flow import Task
from fusionkit.made_up import made_up
from fusionkit.testing import MetricSuite

TASK = Task("classification", tuple("abcdef"), (1,) * 6, 6)


class TestSuite(MetricSuite):
    component = Jaccard


@pytest.mark.parametrize("samples", [1, 4, 200])  # of few, most classes are neither there nor predicted
def test_against_scikit_learn(samples: int) -> None:
    target, answers = made_up(TASK, samples)
    expected = jaccard_score(target, answers.argmax(1), average="macro")  # over the classes that occur
    assert Jaccard(TASK).compute(target, answers) == pytest.approx(expected)


def test_a_class_that_is_predicted_and_has_no_sample_counts() -> None:
    target, answers = np.array([0, 0, 1]), np.eye(6)[[0, 5, 1]]
    assert Jaccard(TASK).compute(target, answers) == pytest.approx((1 / 2 + 1 + 0) / 3)
