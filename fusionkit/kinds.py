"""What each kind of task means: how its targets are trained on, its logits read, and its answers measured.

Letters in shapes: n samples, K classes, labels or quantities.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from fusionkit import grounding, metrics, multilabel, regression, retrieval
from fusionkit.errors import DataError
from fusionkit.estimates import Comparison, Estimate
from fusionkit.flow import Task, TaskKind


class Measures(Protocol):
    """A module that measures answers; see the methods of `Kind`, whose arguments these are."""

    def figures(self, target: np.ndarray, answers: np.ndarray, /) -> dict[str, float]: ...

    def estimate(
        self, target: np.ndarray, answers: np.ndarray, /, *, groups: ArrayLike | None, seed: int
    ) -> dict[str, Estimate]: ...

    def compare(
        self, target: np.ndarray, first: np.ndarray, second: np.ndarray, /, *, groups: ArrayLike | None, seed: int
    ) -> Comparison: ...


class Kind(ABC):
    """One kind of task. `target` and `answers` are arrays with a row a sample; both in the task's own unit."""

    name: ClassVar[TaskKind]
    measures: Measures
    named: ClassVar[bool] = True
    """Whether each column of the answers has a name, that of a class, a label or a quantity."""
    one_by_one: ClassVar[bool] = True
    """Whether an answer is judged without the other samples, so that any of them may be drawn again."""

    @abstractmethod
    def task(self, names: Sequence[str], targets: np.ndarray) -> Task:
        """The task, with what is known of the targets of the training samples."""

    @abstractmethod
    def encode(self, task: Task, targets: np.ndarray) -> np.ndarray:
        """What `Batch.target` holds of these targets."""

    @abstractmethod
    def answer(self, task: Task, logits: Float[Tensor, "n K"]) -> Float[Tensor, "n K"]:
        """Probabilities, quantities in their own unit, boxes, or embeddings."""

    def figures(self, target: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        """The headline figures, NaN where undefined."""
        return self.measures.figures(target, answers)

    def estimate(
        self, target: np.ndarray, answers: np.ndarray, *, groups: ArrayLike | None = None, seed: int = 0
    ) -> dict[str, Estimate]:
        """The headline figures with their intervals."""
        return self.measures.estimate(target, answers, groups=groups, seed=seed)

    def compare(
        self,
        target: np.ndarray,
        first: np.ndarray,
        second: np.ndarray,
        *,
        groups: ArrayLike | None = None,
        seed: int = 0,
    ) -> Comparison:
        """Two models' answers to the same samples."""
        return self.measures.compare(target, first, second, groups=groups, seed=seed)

    def details(
        self,
        target: np.ndarray,
        answers: np.ndarray,
        names: Sequence[str],
        *,
        groups: ArrayLike | None = None,
        seed: int = 0,
    ) -> tuple[Any, ...]:
        """Figures of each class, label or quantity; none of boxes and embeddings."""
        return ()

    def resampled(self, target: np.ndarray, groups: np.ndarray | None) -> np.ndarray | None:
        """What intervals resample: groups, a value a sample, or the samples themselves where it is None."""
        return groups

    def counts(self, target: np.ndarray, answers: np.ndarray) -> np.ndarray | None:
        """The confusion matrix `[K, K]`, or one for each label `[K, 2, 2]`; rows are the reference."""
        return None


class Classification(Kind):
    """One class a sample: `target` class indices `[n]`, `answers` probabilities `[n, K]`."""

    name = "classification"

    def task(self, names: Sequence[str], targets: np.ndarray) -> Task:
        counts = np.bincount(targets, minlength=len(names))
        return Task(self.name, tuple(names), tuple(counts.tolist()), len(targets))

    def encode(self, task: Task, targets: np.ndarray) -> np.ndarray:
        return targets.astype(np.int64)

    def answer(self, task: Task, logits: Float[Tensor, "n K"]) -> Float[Tensor, "n K"]:
        return logits.float().softmax(1)

    def figures(self, target: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        return {name: float(value) for name, value in metrics.headline(self.counts(target, answers)).items()}

    def estimate(
        self, target: np.ndarray, answers: np.ndarray, *, groups: ArrayLike | None = None, seed: int = 0
    ) -> dict[str, Estimate]:
        return metrics.estimate(target, answers.argmax(1), answers.shape[1], groups=groups, seed=seed)

    def compare(
        self,
        target: np.ndarray,
        first: np.ndarray,
        second: np.ndarray,
        *,
        groups: ArrayLike | None = None,
        seed: int = 0,
    ) -> Comparison:
        one, other = first.argmax(1), second.argmax(1)
        return metrics.compare(target, one, other, first.shape[1], groups=groups, seed=seed)

    def details(
        self,
        target: np.ndarray,
        answers: np.ndarray,
        names: Sequence[str],
        *,
        groups: ArrayLike | None = None,
        seed: int = 0,
    ) -> tuple[Any, ...]:
        return metrics.per_class(self.counts(target, answers), names)

    def counts(self, target: np.ndarray, answers: np.ndarray) -> np.ndarray:
        return metrics.confusion(target, answers.argmax(1), answers.shape[1])


class MultiLabel(Kind):
    """Any number of labels: `target` 0 or 1 `[n, K]`, `answers` the probability of each label `[n, K]`."""

    name = "multilabel"
    measures = multilabel

    def task(self, names: Sequence[str], targets: np.ndarray) -> Task:
        return Task(self.name, tuple(names), tuple(targets.sum(0).tolist()), len(targets))

    def encode(self, task: Task, targets: np.ndarray) -> np.ndarray:
        return targets.astype(np.float32)

    def answer(self, task: Task, logits: Float[Tensor, "n K"]) -> Float[Tensor, "n K"]:
        return logits.float().sigmoid()

    def details(
        self,
        target: np.ndarray,
        answers: np.ndarray,
        names: Sequence[str],
        *,
        groups: ArrayLike | None = None,
        seed: int = 0,
    ) -> tuple[Any, ...]:
        return multilabel.per_label(target, answers, names)

    def counts(self, target: np.ndarray, answers: np.ndarray) -> np.ndarray:
        return multilabel.confusions(target, answers)


class Regression(Kind):
    """Quantities `[n, K]`, in their own unit; models learn them with zero mean and unit deviation."""

    name = "regression"
    measures = regression

    def task(self, names: Sequence[str], targets: np.ndarray) -> Task:
        constant = np.ptp(targets, 0) == 0  # the deviation of equal numbers may be above zero by rounding
        if constant.any():
            raise DataError(f"{names[constant.argmax()]} is the same in all training samples: nothing can be learned")
        mean, std = (tuple(found.tolist()) for found in (targets.mean(0), targets.std(0)))
        return Task(self.name, tuple(names), samples=len(targets), mean=mean, std=std)

    def encode(self, task: Task, targets: np.ndarray) -> np.ndarray:
        return ((targets - np.array(task.mean)) / np.array(task.std)).astype(np.float32)

    def answer(self, task: Task, logits: Float[Tensor, "n K"]) -> Float[Tensor, "n K"]:
        values = logits.double()
        return values * values.new_tensor(task.std) + values.new_tensor(task.mean)

    def details(
        self,
        target: np.ndarray,
        answers: np.ndarray,
        names: Sequence[str],
        *,
        groups: ArrayLike | None = None,
        seed: int = 0,
    ) -> tuple[Any, ...]:
        return regression.per_quantity(target, answers, names, groups=groups, seed=seed)


class Grounding(Kind):
    """Boxes `[n, 4]`: left, top, right, bottom, as shares of the image; models learn centre, width and height."""

    name = "grounding"
    measures = grounding

    def task(self, names: Sequence[str], targets: np.ndarray) -> Task:
        return Task(self.name, tuple(names), samples=len(targets))

    def encode(self, task: Task, targets: np.ndarray) -> np.ndarray:
        first, last = targets[:, :2], targets[:, 2:]
        return np.concatenate([(first + last) / 2, last - first], axis=1).astype(np.float32)

    def answer(self, task: Task, logits: Float[Tensor, "n K"]) -> Float[Tensor, "n K"]:
        centre, size = logits.double().chunk(2, dim=1)
        return torch.cat([centre - size / 2, centre + size / 2], dim=1).clamp(0, 1)


class Retrieval(Kind):
    """`target` which thing a sample shows and its class or -1 `[n, 2]`; `answers` two embeddings `[n, 2 E]`."""

    name = "retrieval"
    measures = retrieval
    named = False
    one_by_one = False

    def task(self, names: Sequence[str], targets: np.ndarray) -> Task:
        classes = targets[targets[:, 1] >= 0, 1]
        counts = np.bincount(classes, minlength=len(names))
        return Task(self.name, tuple(names), tuple(counts.tolist()), len(targets))

    def encode(self, task: Task, targets: np.ndarray) -> np.ndarray:
        return targets[:, 1].astype(np.int64)

    def answer(self, task: Task, logits: Float[Tensor, "n K"]) -> Float[Tensor, "n K"]:
        return logits.float()

    def resampled(self, target: np.ndarray, groups: np.ndarray | None) -> np.ndarray | None:
        return target[:, 0] if groups is None and len(np.unique(target[:, 0])) < len(target) else groups


KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (Classification(), MultiLabel(), Regression(), Grounding(), Retrieval())
}
