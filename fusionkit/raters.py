"""Soft accuracy: how far an answer agrees with those of several people, as VQA measures it.

Antol et al., VQA: Visual Question Answering, ICCV 2015: an answer is worth min(how many people gave it / 3, 1), and
this is the mean over all ways to leave one of the people out, so that it can be compared with what a person is worth.

Letters in shapes: n samples, each with the answers of A people.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from fusionkit.estimates import Comparison, Estimate, bootstrap
from fusionkit.signflip import sign_flip_test

NAME = "soft_accuracy"
NO_CLASS, NOBODY = -1, -2
"""Of people who gave an answer that is no class, and of people who are not there: some samples may have fewer."""
_ENOUGH = 3


def soft_accuracy(raters: ArrayLike, prediction: ArrayLike) -> np.ndarray:
    """What each prediction is worth, `[n]`, 0 to 1; NaN where nobody was asked.

    Args:
        raters: `[n, A]` the class that each person named, `NO_CLASS` or `NOBODY`.
        prediction: class indices `[n]`.

    Raises:
        ValueError: the shapes do not fit.
    """
    given, said = np.asarray(raters), np.asarray(prediction)
    if given.ndim != 2 or said.shape != given.shape[:1]:
        raise ValueError(f"people's answers are [n, A] and predictions [n], not {given.shape} and {said.shape}")
    people = (given != NOBODY).sum(1)
    agreeing = (given == said[:, np.newaxis]).sum(1)
    among_them, among_others = (np.minimum(1, left / _ENOUGH) for left in (agreeing - 1, agreeing))
    total = agreeing * among_them + (people - agreeing) * among_others
    return np.divide(total, people, out=np.full(len(given), np.nan), where=people > 0)


def estimate(soft: np.ndarray, *, groups: ArrayLike | None = None, seed: int = 0) -> Estimate:
    """The mean over samples, with its 95 % percentile bootstrap interval over samples or whole groups.

    Args:
        soft: as from `soft_accuracy`, `[n]`.
        groups: a value a sample.
        seed: of the resampling.
    """
    known = np.isfinite(soft)
    table = np.stack([np.where(known, soft, 0), known], axis=1)

    def mean(counts: np.ndarray) -> np.ndarray:
        total, number = (counts @ table).T
        return np.divide(total, number, out=np.full(len(counts), np.nan), where=number > 0)[:, np.newaxis]

    return bootstrap(np.arange(len(soft)), (NAME,), mean, groups=groups, seed=seed)[NAME]


def decide(
    found: Comparison, first: np.ndarray, second: np.ndarray, *, groups: ArrayLike | None = None, seed: int = 0
) -> Comparison:
    """A comparison of two models' classes, decided by their soft accuracies instead.

    Args:
        found: of the classes.
        first, second: as from `soft_accuracy`, `[n]`.
        groups, seed: as for `estimate`.
    """
    apart = first - second
    return replace(
        found,
        differences={NAME: estimate(apart, groups=groups, seed=seed), **found.differences},
        p_value=sign_flip_test(np.nan_to_num(apart), groups=groups, seed=seed),
        test="sign-flip test of soft accuracy",
        by_group=groups is not None,
    )
