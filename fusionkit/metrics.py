"""Figures of a classifier from its confusion matrix, their 95 % intervals, and paired comparison of two classifiers.

Rows of a confusion matrix are the reference, columns the prediction. All figures are between 0 and 1 (kappa from -1).
Letters in shapes: n samples, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array, csr_array
from scipy.stats import binomtest

from fusionkit.estimates import Comparison, Estimate, bootstrap
from fusionkit.headlines import HEADLINES

NAMES = HEADLINES["classification"]


@dataclass(frozen=True)
class ClassFigures:
    """One class.

    Args:
        name: of the class.
        n: samples of the class in the reference.
        predicted: samples that the classifier calls so.
        pa: producer's accuracy (recall); None where n is 0.
        ua: user's accuracy (precision); None where predicted is 0.
        f1: None where both are 0.
    """

    name: str
    n: int
    predicted: int
    pa: float | None
    ua: float | None
    f1: float | None


def confusion(target: ArrayLike, prediction: ArrayLike, classes: int) -> np.ndarray:
    """Count samples by reference class (rows) and predicted class (columns).

    Args:
        target, prediction: class indices `[n]`.
        classes: K.

    Returns:
        counts `[K, K]`, int64.

    Raises:
        ValueError: the lengths differ, or an index is outside 0 to K - 1.
    """
    cells = _cells(classes, target, prediction)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def headline(counts: ArrayLike) -> dict[str, np.ndarray]:
    """OA, AA, kappa, macro and weighted F1 of confusion matrices.

    AA is the mean recall of the classes that have samples; macro F1 the mean over the classes that are in the
    reference or predicted; kappa is NaN where reference and prediction are one and the same single class.

    Args:
        counts: `[..., K, K]`.

    Returns:
        each figure `[...]`, NaN where undefined.
    """
    counts = np.asarray(counts)
    return _headline(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1), counts.sum(-2))


def per_class(counts: ArrayLike, class_names: Sequence[str]) -> tuple[ClassFigures, ...]:
    """PA, UA and F1 of every class of one confusion matrix `[K, K]`."""
    counts = np.asarray(counts)
    hits, reference, predicted = np.diagonal(counts), counts.sum(1), counts.sum(0)

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    return tuple(
        ClassFigures(name, n, called, share(hit, n), share(hit, called), share(2 * hit, n + called))
        for name, hit, n, called in zip(class_names, hits.tolist(), reference.tolist(), predicted.tolist(), strict=True)
    )


def estimate(
    target: ArrayLike, prediction: ArrayLike, classes: int, *, groups: ArrayLike | None = None, seed: int = 0
) -> dict[str, Estimate]:
    """The headline figures with 95 % percentile bootstrap intervals.

    Args:
        target, prediction: class indices `[n]`.
        classes: K.
        groups: a value a sample `[n]`; whole groups are then resampled, since samples of one plot or video are alike.
        seed: of the resampling.

    Raises:
        ValueError: there are no samples, or as for `confusion`.
    """
    cells = _cells(classes, target, prediction)
    unique, cells = np.unique(cells, return_inverse=True)
    margins = _Margins(unique // classes, unique % classes, classes)
    return bootstrap(cells, NAMES, lambda counts: _stack(margins(counts)), groups=groups, seed=seed)


def compare(
    target: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    classes: int,
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare two predictions of the same samples: first minus second, with paired bootstrap intervals.

    Args:
        target, first, second: class indices `[n]`.
        classes: K.
        groups, seed: as for `estimate`.

    Raises:
        ValueError: there are no samples, or as for `confusion`.
    """
    cells = _cells(classes, target, first, second)
    unique, cells = np.unique(cells, return_inverse=True)
    reference, one, other = unique // classes**2, unique // classes % classes, unique % classes
    margins = _Margins(reference, one, classes), _Margins(reference, other, classes)
    differences = bootstrap(
        cells, NAMES, lambda c: _stack(margins[0](c)) - _stack(margins[1](c)), groups=groups, seed=seed
    )
    counts = np.bincount(cells, minlength=len(unique))
    only_first = int(counts[(one == reference) & (other != reference)].sum())
    only_second = int(counts[(one != reference) & (other == reference)].sum())
    discordant = only_first + only_second
    p_value = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
    number = None if groups is None else len(np.unique(np.asarray(groups)))
    return Comparison(len(cells), differences, only_first, only_second, p_value, number)


def weighed(target: ArrayLike, prediction: ArrayLike, classes: int) -> Callable[[np.ndarray], np.ndarray]:
    """What turns whole weights of the samples `[r, n]` into the headline figures `[r, len(NAMES)]`.

    Arguments and errors as for `confusion`.
    """
    cells = _cells(classes, target, prediction)
    unique, cell = np.unique(cells, return_inverse=True)
    margins = _Margins(unique // classes, unique % classes, classes)
    held = csr_array((np.ones(len(cell), np.int64), (cell, np.arange(len(cell)))))
    return lambda counts: _stack(margins((held @ counts.T).T))


class _Margins:
    """From counts of distinct outcomes to the headline figures, without a K x K matrix for every resample."""

    def __init__(self, reference: np.ndarray, prediction: np.ndarray, classes: int):
        outcomes = np.arange(len(reference))
        right = reference == prediction
        rows = np.concatenate([outcomes[right], outcomes, outcomes])
        columns = np.concatenate([reference[right], classes + reference, 2 * classes + prediction])
        self.table = csr_array(coo_array((np.ones(len(rows), np.int64), (columns, rows)), (3 * classes, len(outcomes))))

    def __call__(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """Figures `[r]` of counts `[r, outcomes]`."""
        return _headline(*np.split((self.table @ counts.T).T, 3, axis=1))


def _headline(hits: np.ndarray, reference: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """From right answers, reference counts and predicted counts, each `[..., K]`."""
    hits, reference, predicted = (margin.astype(np.float64) for margin in (hits, reference, predicted))
    n, right = reference.sum(-1), hits.sum(-1)
    chance = (reference * predicted).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = np.where(reference > 0, hits / reference, 0)
        seen = reference + predicted > 0
        f1 = np.where(seen, 2 * hits / (reference + predicted), 0)
        return {
            "oa": right / n,
            "aa": recall.sum(-1) / (reference > 0).sum(-1),
            "kappa": (n * right - chance) / (n * n - chance),
            "macro_f1": f1.sum(-1) / seen.sum(-1),
            "weighted_f1": (reference * f1).sum(-1) / n,
        }


def _stack(figures: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([figures[name] for name in NAMES], axis=-1)


def _cells(classes: int, *labels: ArrayLike) -> np.ndarray:
    """One number for each combination of labels."""
    cells: np.ndarray | None = None
    for given in labels:
        label = np.asarray(given)
        if label.ndim != 1 or (cells is not None and len(label) != len(cells)):
            raise ValueError("labels are one-dimensional and equally many")
        if len(label) and (label.dtype.kind not in "iu" or label.min() < 0 or label.max() >= classes):
            raise ValueError(f"labels are whole numbers from 0 to {classes - 1}")
        label = label.astype(np.int64)
        cells = label if cells is None else cells * classes + label
    assert cells is not None  # noqa: S101 - at least one vector is given
    return cells
