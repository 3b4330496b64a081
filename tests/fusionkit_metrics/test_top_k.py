"""Top-k accuracy, against scikit-learn, and against overall accuracy where k is one."""

from __future__ import annotations

import numpy as np
import pytest
from fusionkit_metrics.top_k import TopK
from sklearn.metrics import top_k_accuracy_score

from fusionkit.errors import RequestError
from fusionkit.flow import Task
from fusionkit.made_up import made_up
from fusionkit.testing import MetricSuite

TASK = Task("classification", tuple("abcdef"), (1,) * 6, 6)


class TestSuite(MetricSuite):
    component = TopK


class TestSuiteOfOne(MetricSuite):
    component = TopK
    options = {"k": 1}


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_against_scikit_learn(k: int) -> None:
    target, answers = made_up(TASK, 200)
    expected = top_k_accuracy_score(target, answers, k=k, labels=np.arange(6))
    assert TopK(TASK, k=k).compute(target, answers) == pytest.approx(expected)


def test_classes_that_no_sample_has_may_still_be_among_the_k() -> None:
    target, answers = made_up(TASK, 200)
    kept = target < 3
    expected = top_k_accuracy_score(target[kept], answers[kept], k=2, labels=np.arange(6))
    assert TopK(TASK, k=2).compute(target[kept], answers[kept]) == pytest.approx(expected)


def test_of_one_it_is_overall_accuracy_where_probabilities_are_equal_too() -> None:
    target = np.array([0, 1, 2, 3])
    answers = np.array([[0.5, 0.5, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0], np.full(6, 1 / 6), [0, 0, 0, 1, 0, 0]])
    assert TopK(TASK, k=1).compute(target, answers) == (answers.argmax(1) == target).mean() == 0.5
    assert TopK(TASK, k=2).compute(target, answers) == 0.75


def test_a_k_that_is_always_right_is_refused() -> None:
    with pytest.raises(RequestError, match="k is 6 of 6 classes, so every answer would be right"):
        TopK(TASK, k=6)
