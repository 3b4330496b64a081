"""What resampling and tests need of a model's answers, whatever the task. Letters in shapes: n samples, r resamples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.stats import binomtest

from fusionkit import metrics, multilabel, regression, retrieval
from fusionkit.estimates import RESAMPLES, group_numbers
from fusionkit.kinds import KINDS
from fusionkit.signflip import sign_flip_test

_MOST_NUMBERS = 2**22
"""Weights are drawn in chunks of at most so many, which bounds the memory."""


def weighed(task: str, target: np.ndarray, answers: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What turns whole weights of the samples `[r, n]` into the headline figures of the task `[r, figures]`."""
    if task == "classification":
        return metrics.weighed(target, answers.argmax(1), answers.shape[1])
    of_kind = {"multilabel": multilabel.weighed, "regression": regression.weighed, "retrieval": retrieval.weighed}
    if task in of_kind:
        return of_kind[task](target, answers)
    table = _by_sample(task, target, answers)
    return lambda counts: counts @ table / counts.sum(1, keepdims=True)


def merits(task: str, target: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """How well each sample was answered, `[n]`, the more the better: right or not, labels right, squared error
    (negative), share of the mean recall, or box found."""
    if task == "classification":
        return np.asarray(answers.argmax(1) == target, np.float64)
    if task == "multilabel":
        return np.asarray((multilabel.decide(answers) == target).sum(1), np.float64)
    if task == "regression":
        return -regression.squared_errors(target, answers)
    return retrieval.shares(target, answers) if task == "retrieval" else _by_sample(task, target, answers)[:, 0]


def _by_sample(task: str, target: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """The headline figures of each sample alone, `[n, figures]`, for tasks whose figures are their means."""
    rows = (KINDS[task].figures(target[[k]], answers[[k]]) for k in range(len(target)))
    return np.array([list(row.values()) for row in rows], np.float64)


def over_samples(task: str, differences: np.ndarray, groups: np.ndarray | None, seed: int) -> tuple[float, str]:
    """The two-sided p-value of paired differences of merits over samples or groups, and the name of the test.

    Right against wrong of independent samples is exact McNemar; all else, such as means over seeds, flips signs.
    """
    if task == "classification" and groups is None and np.isin(differences, (-1, 0, 1)).all():
        first, second = int((differences > 0).sum()), int((differences < 0).sum())
        return float(binomtest(first, first + second).pvalue) if first + second else 1.0, "exact McNemar"
    name = "sign-flip test over groups" if groups is not None else "sign-flip test over samples"
    return sign_flip_test(differences, groups=groups, seed=seed), name


class Resamples:
    """Bootstrap resamples of the test samples, the same ones for every model.

    Args:
        n: samples.
        groups: a value a sample; whole groups are then resampled.
        seed: of the resampling.

    Raises:
        ValueError: there are no samples, or not as many groups.
    """

    def __init__(self, n: int, groups: np.ndarray | None, seed: int):
        if not n:
            raise ValueError("there are no samples")
        self.n, self.seed = n, seed
        self._number = np.arange(n) if groups is None else group_numbers(groups, n)
        self.units = int(self._number.max()) + 1

    def figures(self, models: Sequence[Callable[[np.ndarray], np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        """Figures of several models, each told by what turns weights into figures: of the samples as they are
        `[models, f]`, and of every resample `[r, models, f]`."""
        drawn = [np.stack([model(held) for model in models], axis=1) for held in self._weights()]
        whole = np.ones((1, self.n), np.int64)
        return np.concatenate([model(whole) for model in models]), np.concatenate(drawn)

    def _weights(self) -> Iterator[np.ndarray]:
        random = np.random.default_rng(self.seed)
        chunk = max(1, _MOST_NUMBERS // self.n)
        for start in range(0, RESAMPLES, chunk):
            size = min(chunk, RESAMPLES - start)
            drawn = random.multinomial(self.units, np.full(self.units, 1 / self.units), size=size)
            yield drawn[:, self._number]
