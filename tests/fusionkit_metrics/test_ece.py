"""Expected calibration error, against TorchMetrics and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fusionkit_metrics.ece import ECE
from torchmetrics.functional.classification import multiclass_calibration_error

from fusionkit.flow import Task
from fusionkit.made_up import made_up
from fusionkit.testing import MetricSuite

TASK = Task("classification", tuple("abcdef"), (1,) * 6, 6)


class TestSuite(MetricSuite):
    component = ECE


class TestSuiteOfOneBin(MetricSuite):
    component = ECE
    options = {"bins": 1}


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("samples", [1, 7, 500])
def test_against_torchmetrics(bins: int, samples: int) -> None:
    target, answers = made_up(TASK, samples)
    expected = multiclass_calibration_error(
        torch.tensor(answers), torch.tensor(target), num_classes=6, n_bins=bins, norm="l1"
    )
    assert ECE(TASK, bins=bins).compute(target, answers) == pytest.approx(float(expected), rel=1e-5)


def test_by_hand() -> None:
    """Two bins: 0.5 belongs to the lower, as the paper has it; the others are 0.85 sure; half are right."""
    answers = np.array([[0.5, 0.3, 0.2, 0, 0, 0], [0.9, 0.1, 0, 0, 0, 0], [0.8, 0.2, 0, 0, 0, 0]])
    found = ECE(TASK, bins=2).compute(np.array([0, 0, 1]), answers)
    assert found == pytest.approx(1 / 3 * abs(0.5 - 1) + 2 / 3 * abs(0.85 - 0.5))


def test_who_is_as_sure_as_right_has_none() -> None:
    answers = np.tile([0.75, 0.25, 0, 0, 0, 0], (4, 1))
    assert ECE(TASK).compute(np.array([0, 0, 0, 1]), answers) == pytest.approx(0)
    assert ECE(TASK).compute(np.array([0, 0, 1, 1]), answers) == pytest.approx(0.25)
