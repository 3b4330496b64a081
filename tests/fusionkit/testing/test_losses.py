"""The suite of losses names the defect of each faulty loss, and no other."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fusionkit.contract import Loss
from fusionkit.testing import Fault, LossSuite
from fusionkit.testing.fault import hold
from fusionkit.testing.losses import CHECKS, LossSubject


class Right(Loss):
    reads_logits_alone = True

    def forward(self, output, batch):
        return F.cross_entropy(output.logits, batch.target)


class Summed(Right):
    def forward(self, output, batch):
        return F.cross_entropy(output.logits, batch.target, reduction="sum")


class WeightedWithoutCount(Right):
    def forward(self, output, batch):
        return F.cross_entropy(output.logits, batch.target, output.logits.new_tensor([0.2, 1.0, 5.0]))


class PerSample(Right):
    def forward(self, output, batch):
        return F.cross_entropy(output.logits, batch.target, reduction="none")


class Detached(Right):
    def forward(self, output, batch):
        return super().forward(output, batch).detach() + 0 * output.logits.sum()


class LogOfSoftmax(Right):
    def forward(self, output, batch):
        return F.nll_loss(output.logits.float().softmax(1).log(), batch.target)


class InPlace(Right):
    def forward(self, output, batch):
        with torch.no_grad():
            output.embeddings["image"].clamp_(max=1)
        return super().forward(output, batch)


class InOrder(Loss):
    def forward(self, output, batch):
        ramp = torch.arange(1.0, len(batch) + 1)
        return (F.cross_entropy(output.logits, batch.target, reduction="none") * ramp).mean() / ramp.mean()


class Spread(Loss):
    """The deviation over the batch, which one sample has not."""

    def forward(self, output, batch):
        each = F.cross_entropy(output.logits, batch.target, reduction="none")
        return ((each - each.mean()).square().sum() / (len(each) - 1)).sqrt()


class Hidden(Right):
    def __init__(self, task):
        super().__init__(task)
        self.weight = torch.ones(task.outputs)


class Unmoved(Right):
    def __init__(self, task):
        super().__init__(task)
        self.register_buffer("scale", torch.rand(()) + 0.5, persistent=False)

    def forward(self, output, batch):
        return super().forward(output, batch) * self.scale


class IgnoresPenalty(Right):
    needs_penalty = "sparsity"


class Penalty(Loss):
    needs_penalty = "sparsity"

    def forward(self, output, batch):
        return output.penalties["sparsity"]


class OverflowsInHalf(Right):
    def forward(self, output, batch):
        logits = output.logits
        return F.cross_entropy(logits if logits.dtype is torch.float32 else logits * 1e38 * 1e38, batch.target)


def faults(kind: type[Loss]) -> set[str]:
    subject, found = LossSubject.of(kind), set()
    for check in CHECKS:
        try:
            hold(check, subject)
        except Fault as fault:
            found.add(fault.check)
    return found


@pytest.mark.parametrize("right", [Right, Penalty])
def test_a_right_loss_passes(right):
    assert faults(right) == set()


@pytest.mark.parametrize(
    ("faulty", "rule"),
    [
        (Summed, "parts_add_up"),
        (WeightedWithoutCount, "parts_add_up"),
        (Detached, "a_gradient_comes_back"),
        (LogOfSoftmax, "great_logits_are_survived"),
        (InPlace, "the_prediction_is_left_alone"),
        (InOrder, "order_does_not_matter"),
        (Spread, "a_batch_of_one_is_enough"),
        (Hidden, "every_tensor_is_registered"),
        (Unmoved, "weights_travel"),
        (IgnoresPenalty, "the_penalty_is_read"),
        (OverflowsInHalf, "sixteen_bits_are_enough"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_defect_is_named_and_no_other(faulty, rule):
    assert faults(faulty) == {rule}


def test_a_value_for_each_sample_is_no_loss():
    assert "it_is_a_number" in faults(PerSample)


class TestCrossEntropy(LossSuite):
    component = "loss:cross_entropy"
    options = {"class_weights": "balanced"}
