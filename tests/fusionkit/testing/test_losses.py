"""The suite of losses names the defect of each faulty loss, and no other."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fusionkit.contract import Loss
from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import Task
from fusionkit.testing import Fault, LossSuite
from fusionkit.testing.fault import hold
from fusionkit.testing.losses import CHECKS, TASKS, LossSubject, it_is_a_number, subjects


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
    compares_samples = True

    def forward(self, output, batch):
        ramp = torch.arange(1.0, len(batch) + 1)
        return (F.cross_entropy(output.logits, batch.target, reduction="none") * ramp).mean() / ramp.mean()


class Spread(Loss):
    """The deviation over the batch, which one sample has not."""

    compares_samples = True

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


class Between(Loss):
    """The distance of the embeddings of two modalities, where a sample has both."""

    dim: int | None = 4

    def __init__(self, task):
        super().__init__(task)
        self.projections = nn.ModuleDict()

    def fit_to(self, output):
        widths = {name: value.shape[1] for name, value in output.embeddings.items()}
        if self.dim:
            self.projections.update({name: nn.Linear(width, self.dim) for name, width in widths.items()})
        elif len(set(widths.values())) > 1:
            raise ShapeError("embeddings of different width cannot be compared")

    def both(self, batch):
        return torch.stack(list(batch.present.values())).all(0)

    def values(self, output, batch):
        here = self.both(batch).unsqueeze(1)
        values = {name: value.float().masked_fill(~here, 0) for name, value in output.embeddings.items()}
        return [self.projections[name](value) if self.dim else value for name, value in values.items()]

    def forward(self, output, batch):
        one, other = self.values(output, batch)
        return (one - other).square().mean(1)[self.both(batch)].sum() / self.count(batch).clamp(min=1)

    def count(self, batch):
        return self.both(batch).sum()


class BetweenAsTheyAre(Between):
    dim = None


class CountsAll(Between):
    def count(self, batch):
        return torch.tensor(float(len(batch)))

    def forward(self, output, batch):
        return super().forward(output, batch) * len(batch) / self.both(batch).sum().clamp(min=1)


class Unmasked(Between):
    def values(self, output, batch):
        return [self.projections[name](value.float()) for name, value in output.embeddings.items()]


class MaskedTooLate(Between):
    """Filled by `where` after the root, whose gradient there is infinite."""

    def forward(self, output, batch):
        total = 0
        for name, value in output.embeddings.items():
            here, value = batch.present[name], value.float()
            each = torch.where(here, (value.square().sum(1) + 1e-6).sqrt(), 0)
            total = total + each.sum() / len(batch)
        return total

    def count(self, batch):
        return float(len(batch))


class MeanOfNothing(Between):
    def forward(self, output, batch):
        one, other = self.values(output, batch)
        return (one - other).square().mean(1)[self.both(batch)].mean()


class WithoutGraph(Between):
    def forward(self, output, batch):
        return super().forward(output, batch) if self.both(batch).any() else torch.zeros(())


class ReadsUnaskedBranches(Loss):
    def forward(self, output, batch):
        values = [output.logits, *output.stage_logits.values()]
        return sum(F.cross_entropy(logits, batch.target) for logits in values)


class ReadsMoreThanLogits(Right):
    def forward(self, output, batch):
        return super().forward(output, batch) + output.fused.square().mean()


class Refitted(Between):
    """Draws in `fit_to` what no state holds."""

    def fit_to(self, output):
        super().fit_to(output)
        self.scale = float(torch.rand(()) + 0.5)

    def forward(self, output, batch):
        return super().forward(output, batch) * self.scale


class WritesToTarget(Right):
    def forward(self, output, batch):
        batch.target.clamp_(min=0)
        return super().forward(output, batch)


class FromTeacher(Loss):
    teacher = "runs/teacher"

    def forward(self, output, batch):
        return (output.logits - output.teachers[self.teacher].logits).square().mean()


class HardTargets(Right):
    """Weighs by the class of each sample, which a mixed one has not."""

    def forward(self, output, batch):
        return F.nll_loss(output.logits.float().log_softmax(1), batch.target)


class OneClassEach(HardTargets):
    takes_mixed = False


class ForLabels(Right):
    tasks = ("multilabel",)

    def forward(self, output, batch):
        return F.binary_cross_entropy_with_logits(output.logits.float(), batch.target)


class ForQuantities(Right):
    tasks = ("regression",)

    def forward(self, output, batch):
        return F.mse_loss(output.logits.float(), batch.target)


class Picky(Right):
    tasks = ("classification", "multilabel")

    def __init__(self, task):
        super().__init__(task)
        if task.kind == "multilabel":
            raise RequestError("one label a sample is enough")


class RefusesAll(Right):
    def __init__(self, task):
        raise RequestError("never")


class Unmakeable(Right):
    def __init__(self, task):
        raise KeyError("oak")


class Penalty(Loss):
    needs_penalty = "sparsity"

    def forward(self, output, batch):
        return output.penalties["sparsity"]


class OverflowsInHalf(Right):
    def forward(self, output, batch):
        logits = output.logits
        return F.cross_entropy(logits if logits.dtype is torch.float32 else logits * 1e38 * 1e38, batch.target)


def faults(kind: type[Loss], task: Task = TASKS["classification"]) -> set[str]:
    subject, found = LossSubject.of(kind, task), set()
    for check in CHECKS:
        try:
            hold(check, subject)
        except Fault as fault:
            found.add(fault.check)
    return found


@pytest.mark.parametrize("right", [Right, Penalty, Between, BetweenAsTheyAre, FromTeacher])
def test_a_right_loss_passes(right):
    assert faults(right) == set()


@pytest.mark.parametrize("right", [ForLabels, ForQuantities])
def test_losses_are_held_against_the_tasks_that_they_name(right):
    (kind,) = right.tasks
    taken, refused = subjects(right)
    assert (set(taken), refused) == ({kind}, {})
    assert taken[kind].task.kind == kind
    assert faults(right, TASKS[kind]) == set()


def test_those_that_take_mixed_samples_are_held_against_them_too():
    taken, _ = subjects(HardTargets)
    mixed = taken.pop("classification of mixed samples")
    assert torch.allclose(mixed.batch().target.sum(1), torch.ones(12))
    hold(it_is_a_number, taken["classification"])
    with pytest.raises(Fault, match="it_is_a_number"):
        hold(it_is_a_number, mixed)
    assert "classification of mixed samples" not in subjects(OneClassEach)[0]


def test_a_task_may_be_refused_but_not_all():
    taken, refused = subjects(Picky)
    assert "classification" in taken
    assert refused == {"multilabel": "one label a sample is enough"}

    class Suite(LossSuite):
        component = RefusesAll

    with pytest.raises(Fault, match="some_task_is_taken: it refuses every kind of task: classification: never"):
        Suite.subjects()


def test_a_loss_that_cannot_be_made_is_told():
    with pytest.raises(Fault, match="it_can_be_made: classification: it fails with KeyError"):
        subjects(Unmakeable)


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
        (CountsAll, "parts_add_up"),
        (Unmasked, "absent_modalities_mean_nothing"),
        (MaskedTooLate, "absent_modalities_mean_nothing"),
        (MeanOfNothing, "nothing_gives_zero"),
        (WithoutGraph, "nothing_gives_zero"),
        (ReadsUnaskedBranches, "it_asks_for_what_it_reads"),
        (ReadsMoreThanLogits, "logits_alone_are_read"),
        (Refitted, "weights_travel"),
        (WritesToTarget, "the_prediction_is_left_alone"),
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
