"""Losses of quantities, against scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fusionkit_losses.huber import Huber
from fusionkit_losses.l1 import L1
from fusionkit_losses.mse import MSE
from scipy.special import huber
from sklearn.metrics import mean_absolute_error, mean_squared_error

from fusionkit.flow import Batch, Output, Task
from fusionkit.options import options_model
from fusionkit.testing import LossSuite

TASK = Task("regression", ("height", "biomass"), samples=9, mean=(10.0, 200.0), std=(2.0, 50.0))


class TestMSE(LossSuite):
    component = MSE


class TestL1(LossSuite):
    component = L1


class TestHuber(LossSuite):
    component = Huber


def random(seed: int) -> torch.Tensor:
    return 2 * torch.randn(9, 2, generator=torch.Generator().manual_seed(seed))


TRUTH, PREDICTED = random(0), random(1)
BATCH = Batch({}, {}, TRUTH, torch.arange(9))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (MSE(TASK), mean_squared_error(TRUTH, PREDICTED)),
        (L1(TASK), mean_absolute_error(TRUTH, PREDICTED)),
        (Huber(TASK), huber(1.0, (TRUTH - PREDICTED).numpy()).mean()),
        (Huber(TASK, delta=0.3), huber(0.3, (TRUTH - PREDICTED).numpy()).mean()),
    ],
    ids=["mse", "l1", "huber", "huber of 0.3"],
)
def test_agrees_with_another_library(loss, expected):
    assert loss(Output(PREDICTED, torch.zeros(9, 1)), BATCH).item() == pytest.approx(float(expected), rel=1e-6)


def test_hubers_gradient_is_cut_off_at_delta():
    predicted = PREDICTED.clone().requires_grad_()
    value = Huber(TASK, delta=0.5)(Output(predicted, torch.zeros(9, 1)), BATCH)
    expected = np.clip((PREDICTED - TRUTH).numpy(), -0.5, 0.5) / 18
    np.testing.assert_allclose(torch.autograd.grad(value, predicted)[0].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("delta", [0.0, -1.0])
def test_delta_is_above_zero(delta):
    with pytest.raises(ValueError, match="delta"):
        options_model(Huber)(delta=delta)
