"""Figures of a multi-label classifier, their 95 % intervals, and paired comparison of two such classifiers.

A sample is given a label where its probability is above 0.5; average precision needs no threshold. Letters in shapes:
n samples, K labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array, csr_array

from fusionkit.estimates import Comparison, Estimate, bootstrap
from fusionkit.headlines import HEADLINES
from fusionkit.signflip import sign_flip_test

NAMES = HEADLINES["multilabel"]
THRESHOLD = 0.5


@dataclass(frozen=True)
class LabelFigures:
    """One label.

    Args:
        name: of the label.
        n: samples that have it in the reference.
        predicted: samples to which the classifier gives it.
        pa: producer's accuracy (recall); None where n is 0.
        ua: user's accuracy (precision); None where predicted is 0.
        f1: None where both are 0.
        ap: average precision; None where n is 0.
        tn, fp, fn, tp: samples rightly without it, wrongly with it, wrongly without it, rightly with it.
    """

    name: str
    n: int
    predicted: int
    pa: float | None
    ua: float | None
    f1: float | None
    ap: float | None
    tn: int
    fp: int
    fn: int
    tp: int


def decide(probabilities: ArrayLike) -> np.ndarray:
    """Which labels are given: True where the probability is above 0.5."""
    return np.asarray(probabilities) > THRESHOLD


def figures(target: ArrayLike, probabilities: ArrayLike) -> dict[str, float]:
    """The headline figures, all between 0 and 1; NaN where undefined.

    mAP is the mean average precision over the labels that a sample has; macro F1 the mean over the labels that are in
    the reference or predicted; micro F1 counts all labels as one; subset accuracy is the share of samples with every
    label right.

    Args:
        target: 0 or 1, `[n, K]`.
        probabilities: `[n, K]`.

    Raises:
        ValueError: there are no samples, the shapes differ, or a value is not 0 or 1, or no probability.
    """
    weigh = _Weighed(*_checked(target, probabilities))
    found = weigh(np.ones((1, weigh.n), np.int64))[0]
    return dict(zip(NAMES, found.tolist(), strict=True))


def estimate(
    target: ArrayLike, probabilities: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0
) -> dict[str, Estimate]:
    """The headline figures with 95 % percentile bootstrap intervals.

    Args:
        target: 0 or 1, `[n, K]`.
        probabilities: `[n, K]`.
        groups: a value a sample `[n]`; whole groups are then resampled, since samples of one plot or video are alike.
        seed: of the resampling.

    Raises:
        ValueError: as for `figures`, or the groups are not n.
    """
    weigh = _Weighed(*_checked(target, probabilities))
    return bootstrap(np.arange(weigh.n), NAMES, weigh, groups=groups, seed=seed)


def compare(
    target: ArrayLike, first: ArrayLike, second: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0
) -> Comparison:
    """Compare two predictions of the same samples: first minus second, with paired bootstrap intervals.

    The test flips signs of the difference in labels right, of samples or of whole groups.

    Args:
        target: 0 or 1, `[n, K]`.
        first, second: probabilities `[n, K]`.
        groups, seed: as for `estimate`.

    Raises:
        ValueError: as for `estimate`.
    """
    reference, one = _checked(target, first)
    _, other = _checked(target, second)
    weigh = _Weighed(reference, one), _Weighed(reference, other)
    n = len(reference)
    differences = bootstrap(np.arange(n), NAMES, lambda c: weigh[0](c) - weigh[1](c), groups=groups, seed=seed)
    right = [(decide(part) == reference).sum(1) for part in (one, other)]
    p_value = sign_flip_test(right[0] - right[1], groups=groups, seed=seed)
    number = None if groups is None else len(np.unique(np.asarray(groups)))
    test = "sign-flip test of labels right"
    return Comparison(n, differences, None, None, p_value, number, test, by_group=groups is not None)


def weighed(target: ArrayLike, probabilities: ArrayLike) -> Callable[[np.ndarray], np.ndarray]:
    """What turns whole weights of the samples `[r, n]` into the headline figures `[r, len(NAMES)]`.

    Arguments and errors as for `figures`.
    """
    return _Weighed(*_checked(target, probabilities))


def per_label(target: ArrayLike, probabilities: ArrayLike, names: Sequence[str]) -> tuple[LabelFigures, ...]:
    """PA, UA, F1, average precision and counts of every label; errors as for `figures`, or not as many names."""
    reference, scores = _checked(target, probabilities)
    counts = _confusions(reference, decide(scores)).reshape(-1, 4).tolist()
    once = np.ones((1, len(reference)), np.int64)

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    return tuple(
        LabelFigures(
            name,
            n=fn + tp,
            predicted=fp + tp,
            pa=share(tp, fn + tp),
            ua=share(tp, fp + tp),
            f1=share(2 * tp, fn + tp + fp + tp),
            ap=_Ranking(has, score)(once).item() if fn + tp else None,
            tn=tn,
            fp=fp,
            fn=fn,
            tp=tp,
        )
        for name, (tn, fp, fn, tp), has, score in zip(names, counts, reference.T, scores.T, strict=True)
    )


def confusions(target: ArrayLike, probabilities: ArrayLike) -> np.ndarray:
    """Count samples by label, reference (absent, there) and prediction (absent, there): `[K, 2, 2]`, int64.

    Raises:
        ValueError: as for `figures`.
    """
    reference, scores = _checked(target, probabilities)
    return _confusions(reference, decide(scores))


class _Ranking:
    """Average precision of one label under weights of the samples.

    The samples are ranked once. Those down to an occurrence of the label share its precision, so that a resample costs
    two sums over blocks of the ranking: a block ends with the samples that have the score of an occurrence.
    """

    def __init__(self, has: np.ndarray, score: np.ndarray):
        levels, level = np.unique(-score, return_inverse=True)  # from the highest score down
        occurs = np.bincount(level, weights=has, minlength=len(levels)) > 0
        block: np.ndarray = (np.cumsum(occurs) - occurs)[level]
        blocks = int(occurs.sum())
        counted = np.flatnonzero(block < blocks)  # what ranks below the last occurrence matters to none
        self.whole = _sums(block[counted], counted, (blocks, len(has)))
        there = np.flatnonzero(has)
        self.hits = _sums(block[there], there, (blocks, len(has)))

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """`[r]` of whole weights `[r, n]`; NaN where no sample of positive weight has the label."""
        hits, ranked = self.hits @ counts.T, (self.whole @ counts.T).cumsum(0)
        precision = hits.cumsum(0) / np.maximum(ranked, 1)
        with np.errstate(invalid="ignore"):
            return (hits * precision).sum(0) / hits.sum(0)


class _Weighed:
    """From weights of the samples to the headline figures."""

    def __init__(self, reference: np.ndarray, scores: np.ndarray):
        given = decide(scores)
        self.n, self.labels = reference.shape
        self.rankings = [_Ranking(has, score) for has, score in zip(reference.T, scores.T, strict=True)]
        exact = (given == reference).all(1, keepdims=True)
        self.table = np.hstack([reference & given, reference, given, exact]).astype(np.float64)

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Figures `[r, len(NAMES)]` of whole weights `[r, n]`."""
        counts = np.asfortranarray(counts, np.float64)  # every ranking multiplies by the transposed counts
        sums = counts @ self.table
        hits, there, given = np.split(sums[:, :-1], 3, axis=1)
        both = there + given
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.stack([ranking(counts) for ranking in self.rankings], axis=1)
            has = there > 0
            found = (
                np.where(has, precision, 0).sum(1) / has.sum(1),
                np.where(both > 0, 2 * hits / both, 0).sum(1) / (both > 0).sum(1),
                2 * hits.sum(1) / both.sum(1),
                sums[:, -1] / counts.sum(1),
            )
        return np.stack(found, axis=1)


def _sums(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csr_array:
    return csr_array(coo_array((np.ones(len(rows)), (rows, columns)), shape))


def _confusions(reference: np.ndarray, given: np.ndarray) -> np.ndarray:
    labels = reference.shape[1]
    cells = 4 * np.arange(labels) + 2 * reference + given
    return np.bincount(cells.ravel(), minlength=4 * labels).reshape(labels, 2, 2)


def _checked(target: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The reference as booleans and the probabilities as float64."""
    reference, scores = np.asarray(target), np.asarray(probabilities, np.float64)
    if reference.ndim != 2 or reference.shape != scores.shape or not reference.shape[1]:
        raise ValueError(f"target and probabilities are both [n, K], not {reference.shape} and {scores.shape}")
    if not len(reference):
        raise ValueError("there are no samples")
    if not np.isin(reference, (0, 1)).all():
        raise ValueError("the target is 0 or 1")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("probabilities are numbers from 0 to 1")
    return reference.astype(bool), scores
