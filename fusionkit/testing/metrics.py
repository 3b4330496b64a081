"""What every metric has to keep, rule by rule. Each check takes a `MetricSubject` and raises a `Fault`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Real
from typing import Any

import numpy as np

from fusionkit.contract import Metric
from fusionkit.errors import RequestError
from fusionkit.flow import Task
from fusionkit.made_up import made_up
from fusionkit.testing.fault import Fault

SIZE = 48
NAMES = tuple("abcdefgh")
TASKS = {
    "classification": Task("classification", NAMES, (6,) * len(NAMES), SIZE),
    "multilabel": Task("multilabel", NAMES, (24,) * len(NAMES), SIZE),
    "regression": Task("regression", ("height", "moisture"), (), SIZE, (10.0, -3.0), (1.0, 5.0)),
    "grounding": Task("grounding", ("x1", "y1", "x2", "y2"), (), SIZE),
}
TASKS["retrieval"] = replace(TASKS["classification"], kind="retrieval")


@dataclass
class MetricSubject:
    """A metric and what it is asked of.

    Args:
        make: makes the metric for a task.
        task: what is predicted.
        metric: one of them.
        target, answers: made up, with a row a sample.
    """

    make: Callable[[Task], Metric]
    task: Task
    metric: Metric = field(init=False)
    target: np.ndarray = field(init=False)
    answers: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.metric = self.make(self.task)
        self.target, self.answers = made_up(self.task, SIZE, seed=1)

    def value(self, target: np.ndarray, answers: np.ndarray) -> float:
        """The figure, of copies."""
        return self.metric.compute(target.copy(), answers.copy())


def subjects(
    kind: type[Metric], options: Mapping[str, Any] | None = None
) -> tuple[dict[str, MetricSubject], dict[str, str]]:
    """The metric with each kind of task that it names, and why it refuses others of them.

    Raises:
        Fault: it names none, or one that there is not, or can neither be made nor refuses.
    """
    taken: dict[str, MetricSubject] = {}
    refused: dict[str, str] = {}
    if not kind.tasks or (unknown := [name for name in kind.tasks if name not in TASKS]):
        told = f"{unknown[0]!r} is no kind of task" if kind.tasks else "`tasks` is empty"
        raise Fault("tasks_are_known", f"{told}; there are {', '.join(TASKS)}")
    for name in kind.tasks:
        try:
            taken[name] = MetricSubject(partial(kind, **(options or {})), TASKS[name])
        except RequestError as error:
            refused[name] = str(error)
        except Exception as error:  # a stranger's class may raise anything
            line = next(iter(str(error).strip().splitlines()), "")
            raise Fault("it_can_be_made", f"{name}: it fails with {type(error).__name__}: {line}") from error
    return taken, refused


def it_is_a_float(subject: MetricSubject) -> None:
    """The figure is a float, finite or, where it is undefined, NaN; and it is not always undefined."""
    values = [subject.value(target, answers) for target, answers in _each(subject)]
    for value in values:
        if not isinstance(value, float):
            raise Fault("it_is_a_float", f"it returns {value!r}, of the type {type(value).__name__}; use float(...)")
        if np.isinf(value):
            raise Fault("it_is_a_float", "it returns an infinite figure; say NaN where it is undefined")
    if np.isnan(values).all():
        raise Fault("it_is_a_float", "it is NaN of random, right and wrong answers alike")


def order_does_not_matter(subject: MetricSubject) -> None:
    """The figure does not depend on the order of the samples."""
    turned = np.random.default_rng(2).permutation(SIZE)
    one = subject.value(subject.target, subject.answers)
    other = subject.value(subject.target[turned], subject.answers[turned])
    if not np.allclose(one, other, rtol=1e-6, atol=1e-9, equal_nan=True):
        raise Fault("order_does_not_matter", f"the same samples in another order give {other:g}, not {one:g}")


def what_is_given_is_left_alone(subject: MetricSubject) -> None:
    """Neither targets nor answers are changed."""
    target, answers = subject.target.copy(), subject.answers.copy()
    subject.metric.compute(target, answers)
    for name, now, before in (("target", target, subject.target), ("answers", answers, subject.answers)):
        if now.shape != before.shape or not np.array_equal(now, before):
            raise Fault("what_is_given_is_left_alone", f"it changes the {name} that it is given; work on a copy")


def right_answers_are_not_worse(subject: MetricSubject) -> None:
    """Answers that are right are not worse than wrong ones, in the direction that `higher_is_better` says."""
    right, wrong = (subject.value(subject.target, answers) for answers in _right_and_wrong(subject))
    if (right < wrong) if subject.metric.higher_is_better else (right > wrong):
        more = "more" if subject.metric.higher_is_better else "less"
        raise Fault(
            "right_answers_are_not_worse",
            f"right answers give {right:g} and wrong ones {wrong:g}, and it says that {more} is better; "
            "see Metric.higher_is_better",
        )


def the_same_again_gives_the_same(subject: MetricSubject) -> None:
    """The figure depends on targets and answers alone: not on chance, nor on what the metric was asked before."""
    metrics = [subject.metric, subject.make(subject.task)]
    values = []
    for metric in metrics:
        values.append(metric.compute(subject.target.copy(), subject.answers.copy()))
        metric.compute(subject.target[: SIZE // 2].copy(), subject.answers[: SIZE // 2].copy())
        values.append(metric.compute(subject.target.copy(), subject.answers.copy()))
    if not all(np.array_equal(value, values[0], equal_nan=True) for value in values):
        told = ", ".join(f"{value:g}" for value in values)
        raise Fault("the_same_again_gives_the_same", f"the same samples, asked of again, give {told}")


def one_sample_is_enough(subject: MetricSubject) -> None:
    """A single sample gives a figure or NaN: resamples, and folds, may be of any samples."""
    for target, answers in _each(subject):
        for row in range(4):
            value = subject.value(target[[row]], answers[[row]])
            if not isinstance(value, Real):  # whether a float is told by its own check
                raise Fault(
                    "one_sample_is_enough", f"of one sample it returns {value!r}; use NaN where it is undefined"
                )


CHECKS: tuple[Callable[[MetricSubject], None], ...] = (
    it_is_a_float,
    order_does_not_matter,
    what_is_given_is_left_alone,
    right_answers_are_not_worse,
    the_same_again_gives_the_same,
    one_sample_is_enough,
)


def _each(subject: MetricSubject) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random answers, right ones and wrong ones."""
    yield subject.target, subject.answers
    for answers in _right_and_wrong(subject):
        yield subject.target, answers


def _right_and_wrong(subject: MetricSubject) -> tuple[np.ndarray, np.ndarray]:
    """Answers that are all right and sure of it, and such that are all wrong."""
    target, kind, like = subject.target, subject.task.kind, subject.answers
    if kind == "classification":
        classes = np.eye(len(NAMES), dtype=like.dtype)
        return classes[target], classes[(target + 1) % len(NAMES)]
    if kind == "multilabel":
        return target.astype(like.dtype), (1 - target).astype(like.dtype)
    if kind == "regression":
        return target.copy(), target[::-1] + 3 * np.array(subject.task.std)
    if kind == "grounding":
        return target.copy(), np.roll(target, 1, axis=0)
    # Nearest is what shows the same thing, then what is of the same class; or these are farthest.
    shown = np.concatenate([np.eye(SIZE)[target[:, 0]], np.eye(len(NAMES))[target[:, 1]]], axis=1).astype(like.dtype)
    return np.concatenate([shown, shown], axis=1), np.concatenate([shown, -shown], axis=1)
