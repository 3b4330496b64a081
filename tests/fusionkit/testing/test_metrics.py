"""The suite of metrics names the defect of each faulty metric, and no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk
from torch import Tensor, tensor

from fusionkit import grounding
from fusionkit.contract import Metric
from fusionkit.errors import RequestError
from fusionkit.metrics import confusion, headline
from fusionkit.testing import Fault, MetricSuite
from fusionkit.testing.fault import hold
from fusionkit.testing.metrics import CHECKS, MetricSubject, subjects


class Right(Metric):
    """Overall accuracy."""

    def compute(self, target, answers):
        return float((answers.argmax(1) == target).mean())


class Undefined(Right):
    """Kappa, which has no value of one class."""

    def compute(self, target, answers):
        return float(headline(confusion(target, answers.argmax(1), answers.shape[1]))["kappa"])


class OfLabels(Metric):
    tasks = ("multilabel",)
    higher_is_better = False

    def compute(self, target, answers):
        return float(sk.hamming_loss(target, answers > 0.5))


class OfQuantities(Metric):
    tasks = ("regression",)
    higher_is_better = False

    def compute(self, target, answers):
        return float(sk.mean_absolute_error(target, answers))


class OfBoxes(Metric):
    tasks = ("grounding",)

    def compute(self, target, answers):
        return float(grounding.iou(target, answers).mean())


class OfPairs(Metric):
    """R@1 among the samples, either of the same thing."""

    tasks = ("retrieval",)

    def compute(self, target, answers):
        first, second = np.split(answers, 2, axis=1)
        nearest = (first @ second.T).argmax(1)
        return float((target[nearest, 0] == target[:, 0]).mean())


class OfClasses(OfPairs):
    """The same, of the same class."""

    def compute(self, target, answers):
        return super().compute(target[:, ::-1], answers)


class Count(Right):
    def compute(self, target, answers):
        return int((answers.argmax(1) == target).sum())


class Single(Right):
    def compute(self, target, answers):
        return np.float32(super().compute(target, answers))


class OfTorch(Right):
    def compute(self, target, answers) -> Tensor:
        return tensor(super().compute(target, answers))


class Each(Right):
    def compute(self, target, answers):
        return (answers.argmax(1) == target).astype(float)


class Never(Right):
    def compute(self, target, answers):
        return float("nan")


class Infinite(Right):
    """The logarithm of a probability that may be zero."""

    def compute(self, target, answers):
        with np.errstate(divide="ignore"):
            return float(np.log(answers[np.arange(len(target)), target]).mean())


class InOrder(Right):
    def compute(self, target, answers):
        return float(np.average(answers.argmax(1) == target, weights=1.0 + np.arange(len(target))))


class Sorts(Right):
    def compute(self, target, answers):
        right = super().compute(target, answers)
        answers.sort(axis=1)
        return right


class Relabels(Right):
    def compute(self, target, answers):
        target[answers.argmax(1) == target] = 0
        return float((target == 0).mean())


class Backwards(Right):
    higher_is_better = False


class Error(Right):
    """Forgets to say that less is better."""

    def compute(self, target, answers):
        return 1 - super().compute(target, answers)


class Sampled(Right):
    def compute(self, target, answers):
        some = np.random.default_rng().random(len(target)) < 0.5
        return float((answers.argmax(1) == target)[some].mean()) if some.any() else float("nan")


class Running(Right):
    """A mean over all that it was ever asked of."""

    def __init__(self, task):
        super().__init__(task)
        self.values: list[float] = []

    def compute(self, target, answers):
        self.values.append(super().compute(target, answers))
        return float(np.mean(self.values))


class NeedsTwo(Right):
    def compute(self, target, answers):
        if len(np.unique(target)) < 2:
            raise ValueError("Only one class present in y_true")
        return super().compute(target, answers)


class NothingOfOne(Right):
    def compute(self, target, answers):
        return super().compute(target, answers) if len(target) > 1 else None


class Loose(Right):
    def __init__(self, task, **options: Any):
        super().__init__(task)


class Misspelt(Right):
    tasks = ("classifcation",)


class ForNothing(Right):
    tasks = ()


class Picky(Right):
    tasks = ("classification", "retrieval")

    def __init__(self, task):
        super().__init__(task)
        if task.kind == "retrieval":
            raise RequestError("classes alone")


class RefusesAll(Right):
    def __init__(self, task):
        raise RequestError("never")


class Unmakeable(Right):
    def __init__(self, task):
        raise KeyError("oak")


def faults(subject: MetricSubject) -> set[str]:
    found = set()
    for check in CHECKS:
        try:
            hold(check, subject)
        except Fault as fault:
            found.add(fault.check)
    return found


@pytest.mark.parametrize("right", [Right, Undefined, OfLabels, OfQuantities, OfBoxes, OfPairs, OfClasses])
def test_a_right_metric_passes_with_the_task_that_it_names(right: type[Metric]) -> None:
    taken, refused = subjects(right)
    assert (tuple(taken), refused) == (right.tasks, {})
    (subject,) = taken.values()
    assert faults(subject) == set()


@pytest.mark.parametrize("right", [OfLabels, OfQuantities, OfBoxes, OfPairs, OfClasses])
def test_a_wrong_direction_is_seen_in_each_kind_of_task(right: type[Metric]) -> None:
    turned = type("Turned", (right,), {"higher_is_better": not right.higher_is_better})
    (subject,) = subjects(turned)[0].values()
    assert faults(subject) == {"right_answers_are_not_worse"}


@pytest.mark.parametrize(
    ("faulty", "rule"),
    [
        (Count, "it_is_a_float"),
        (Single, "it_is_a_float"),
        (Never, "it_is_a_float"),
        (Infinite, "it_is_a_float"),
        (InOrder, "order_does_not_matter"),
        (Sorts, "what_is_given_is_left_alone"),
        (Relabels, "what_is_given_is_left_alone"),
        (Backwards, "right_answers_are_not_worse"),
        (Error, "right_answers_are_not_worse"),
        (NeedsTwo, "one_sample_is_enough"),
        (NothingOfOne, "one_sample_is_enough"),
    ],
)
def test_a_fault_is_found_and_named(faulty: type[Metric], rule: str) -> None:
    assert faults(subjects(faulty)[0]["classification"]) == {rule}


@pytest.mark.parametrize(
    ("faulty", "rule"),
    [
        (OfTorch, "it_is_a_float"),  # nor is it a number for other rules
        (Each, "it_is_a_float"),
        (Sampled, "the_same_again_gives_the_same"),  # so it does in another order
        (Running, "the_same_again_gives_the_same"),
    ],
)
def test_a_fault_may_break_other_rules_too(faulty: type[Metric], rule: str) -> None:
    assert rule in faults(subjects(faulty)[0]["classification"])


def test_options_have_to_be_a_schema() -> None:
    class Suite(MetricSuite):
        component = Loose

    with pytest.raises(Fault, match=r"options_are_a_schema: Loose.__init__ takes \*\*options"):
        Suite().test_options_are_a_schema()


def test_a_task_may_be_refused_but_not_all() -> None:
    taken, refused = subjects(Picky)
    assert (set(taken), refused) == ({"classification"}, {"retrieval": "classes alone"})

    class Suite(MetricSuite):
        component = RefusesAll

    with pytest.raises(Fault, match="some_task_is_taken: it refuses every kind of task: classification: never"):
        Suite.subjects()


@pytest.mark.parametrize(
    ("faulty", "told"),
    [
        (Misspelt, "tasks_are_known: 'classifcation' is no kind of task; there are classification, multilabel"),
        (ForNothing, "tasks_are_known: `tasks` is empty"),
        (Unmakeable, "it_can_be_made: classification: it fails with KeyError"),
    ],
)
def test_a_metric_that_cannot_be_tried_is_told(faulty: type[Metric], told: str) -> None:
    with pytest.raises(Fault, match=told):
        subjects(faulty)


class TestSuite(MetricSuite):
    """As a stranger writes it, of a metric with each kind of task."""

    component = Right


def test_a_suite_says_with_what() -> None:
    class Suite(MetricSuite):
        component = Backwards

    with pytest.raises(Fault, match=r"right_answers_are_not_worse: classification: right answers give 1 and wrong"):
        Suite().test_right_answers_are_not_worse()
