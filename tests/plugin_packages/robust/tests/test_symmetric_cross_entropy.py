"""Symmetric cross-entropy, against sums by hand and the rules of fusionkit."""

from math import log

import pytest
import torch
from fusionkit_robust.symmetric_cross_entropy import SymmetricCrossEntropy

from fusionkit import Batch, Output, Task
from fusionkit.testing import LossSuite, PluginSuite

TASK = Task("classification", ("oak", "pine"), (3, 1), 4)


class TestPlugin(PluginSuite):
    module = "fusionkit_robust.plugin"


class TestSuite(LossSuite):
    component = "loss:symmetric_cross_entropy"


def value(target, **options):
    """Of two samples, which the model takes for oak with p = 0.8 and p = 0.25."""
    logits = torch.tensor([[log(0.8), log(0.2)], [log(0.25), log(0.75)]])
    batch = Batch({}, {}, target, torch.arange(2))
    return float(SymmetricCrossEntropy(TASK, **options)(Output(logits, torch.zeros(2, 1)), batch))


def test_cross_entropy_alone():
    assert value(torch.tensor([0, 0]), alpha=1.0, beta=0.0) == pytest.approx((-log(0.8) - log(0.25)) / 2)


def test_reverse_cross_entropy_alone():
    """Of a certain label, what the model gives to the other classes, times -log_zero."""
    assert value(torch.tensor([0, 0]), alpha=0.0) == pytest.approx((4 * 0.2 + 4 * 0.75) / 2)
    assert value(torch.tensor([0, 0]), alpha=0.0, beta=2.0, log_zero=-6.0) == pytest.approx(6 * 0.2 + 6 * 0.75)


def test_both_of_mixed_samples():
    shares = torch.tensor([[0.7, 0.3], [1.0, 0.0]])
    forward = -0.7 * log(0.8) - 0.3 * log(0.2) - log(0.25)
    reverse = -0.8 * log(0.7) - 0.2 * log(0.3) + 0.75 * 4
    assert value(shares, alpha=0.5, beta=3.0) == pytest.approx((0.5 * forward + 3 * reverse) / 2)
