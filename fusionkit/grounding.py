"""Figures of a grounding, their 95 % intervals, and paired comparison of two models.

A phrase is grounded by one box: left, top, right, bottom, as shares of the image's width and height. It is found where
the box that a model says and the true one overlap by an IoU, intersection over union, of 0.5 or more.

Letters in shapes: n samples, each a phrase with its box.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from fusionkit.estimates import Comparison, Estimate, bootstrap
from fusionkit.headlines import HEADLINES
from fusionkit.signflip import sign_flip_test

NAMES = HEADLINES["grounding"]
THRESHOLD = 0.5
"""Of the figure that decides."""
_THRESHOLDS = {"acc_50": THRESHOLD, "acc_25": 0.25, "acc_75": 0.75}


def iou(one: ArrayLike, other: ArrayLike) -> np.ndarray:
    """Intersection over union of each box with its partner, `[n]`; zero where neither has an extent.

    Args:
        one, other: boxes `[n, 4]`: left, top, right, bottom.

    Raises:
        ValueError: they are no boxes, or not equally many.
    """
    first, second = _checked(one), _checked(other)
    if len(first) != len(second):
        raise ValueError(f"{len(first)} boxes and {len(second)}")
    common = (np.minimum(first, second)[:, 2:] - np.maximum(first, second)[:, :2]).clip(min=0).prod(1)
    union = _area(first) + _area(second) - common
    return np.divide(common, union, out=np.zeros(len(first)), where=union > 0)


def figures(target: ArrayLike, answers: ArrayLike) -> dict[str, float]:
    """The headline figures: the shares of phrases whose box overlaps by 0.5, 0.25 and 0.75, and the mean IoU.

    Args:
        target, answers: boxes `[n, 4]`.

    Raises:
        ValueError: there are no samples, or as for `iou`.
    """
    table = _table(target, answers)
    return dict(zip(NAMES, table.mean(0).tolist(), strict=True))


def estimate(
    target: ArrayLike, answers: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0
) -> dict[str, Estimate]:
    """The headline figures with 95 % percentile bootstrap intervals.

    Args:
        target, answers: boxes `[n, 4]`.
        groups: a value a sample `[n]`; whole groups are then resampled, since phrases of one image are alike.
        seed: of the resampling.

    Raises:
        ValueError: as for `figures`, or the groups are not n.
    """
    return _means(_table(target, answers), groups, seed)


def compare(
    target: ArrayLike, first: ArrayLike, second: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0
) -> Comparison:
    """Compare two models on the same samples: first minus second, with paired bootstrap intervals.

    Tested is which phrases are found at 0.5: by exact McNemar, or where there are groups by a sign-flip test of whole
    groups. Arguments and errors as for `estimate`.
    """
    one, other = _table(target, first), _table(target, second)
    hits = one[:, 0] - other[:, 0]  # the first figure is the share of them
    only_first, only_second = int((hits > 0).sum()), int((hits < 0).sum())
    differences = _means(one - other, groups, seed)
    if groups is None:
        found = only_first + only_second
        p_value = float(binomtest(only_first, found).pvalue) if found else 1.0
        return Comparison(len(hits), differences, only_first, only_second, p_value)
    number, test = len(np.unique(np.asarray(groups))), "sign-flip test of what is found"
    p_value = sign_flip_test(hits, groups=groups, seed=seed)
    return Comparison(len(hits), differences, only_first, only_second, p_value, number, test, by_group=True)


def _table(target: ArrayLike, answers: ArrayLike) -> np.ndarray:
    """What each sample adds to each of the figures, `[n, len(NAMES)]`."""
    overlap = iou(target, answers)
    if not len(overlap):
        raise ValueError("there are no samples")
    return np.stack([overlap if name == "mean_iou" else overlap >= _THRESHOLDS[name] for name in NAMES], axis=1)


def _means(table: np.ndarray, groups: ArrayLike | None, seed: int) -> dict[str, Estimate]:
    return bootstrap(
        np.arange(len(table)),
        NAMES,
        lambda counts: counts @ table / counts.sum(1, keepdims=True),
        groups=groups,
        seed=seed,
    )


def _area(boxes: np.ndarray) -> np.ndarray:
    area: np.ndarray = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return area


def _checked(boxes: ArrayLike) -> np.ndarray:
    found = np.asarray(boxes, np.float64)
    if found.ndim != 2 or found.shape[1] != 4:
        raise ValueError(f"boxes are [n, 4], not {found.shape}")
    if not np.isfinite(found).all() or (found[:, :2] > found[:, 2:]).any():
        raise ValueError("a box is left, top, right and bottom, finite and in this order")
    return found
