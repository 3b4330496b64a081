"""Figures of a regression, their 95 % intervals, and paired comparison of two regressions.

Errors have the unit of what is predicted. Letters in shapes: n samples, K quantities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fusionkit.estimates import Comparison, Estimate, bootstrap
from fusionkit.headlines import HEADLINES
from fusionkit.signflip import sign_flip_test

NAMES = HEADLINES["regression"]
_EACH = ("rmse", "mae", "r2", "bias")


@dataclass(frozen=True)
class QuantityFigures:
    """One quantity, each figure with its 95 % interval.

    Args:
        name: of the quantity.
        n: samples.
        rmse, mae: in the unit of the quantity.
        r2: undefined where the target is constant.
        bias: the mean of prediction minus target.
    """

    name: str
    n: int
    rmse: Estimate
    mae: Estimate
    r2: Estimate
    bias: Estimate


def figures(target: ArrayLike, prediction: ArrayLike) -> dict[str, float]:
    """RMSE, MAE and R²; of several quantities the mean of each.

    R² is NaN where a target is constant.

    Args:
        target, prediction: `[n, K]`.

    Raises:
        ValueError: there are no samples, the shapes differ, or a value is not finite.
    """
    weigh = _Weighed(*_checked(target, prediction))
    found = weigh.means(np.ones((1, weigh.n)))[0]
    return dict(zip(NAMES, found.tolist(), strict=True))


def estimate(
    target: ArrayLike, prediction: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0
) -> dict[str, Estimate]:
    """The headline figures with 95 % percentile bootstrap intervals.

    Args:
        target, prediction: `[n, K]`.
        groups: a value a sample `[n]`; whole groups are then resampled, since samples of one plot or video are alike.
        seed: of the resampling.

    Raises:
        ValueError: as for `figures`, or the groups are not n.
    """
    weigh = _Weighed(*_checked(target, prediction))
    return bootstrap(np.arange(weigh.n), NAMES, weigh.means, groups=groups, seed=seed)


def compare(
    target: ArrayLike, first: ArrayLike, second: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0
) -> Comparison:
    """Compare two predictions of the same samples: first minus second, with paired bootstrap intervals.

    The test flips signs of the difference in squared error, of samples or of whole groups. Of several quantities, each
    counts in units of its target's variance.

    Args:
        target, first, second: `[n, K]`.
        groups, seed: as for `estimate`.

    Raises:
        ValueError: as for `estimate`.
    """
    truth, one = _checked(target, first)
    _, other = _checked(target, second)
    weigh = _Weighed(truth, one), _Weighed(truth, other)
    n = len(truth)
    differences = bootstrap(
        np.arange(n), NAMES, lambda c: weigh[0].means(c) - weigh[1].means(c), groups=groups, seed=seed
    )
    apart = squared_errors(truth, one) - squared_errors(truth, other)
    p_value = sign_flip_test(apart, groups=groups, seed=seed)
    number = None if groups is None else len(np.unique(np.asarray(groups)))
    test = "sign-flip test of squared errors"
    return Comparison(n, differences, None, None, p_value, number, test, by_group=groups is not None)


def squared_errors(target: ArrayLike, prediction: ArrayLike) -> np.ndarray:
    """Of each sample `[n]`; of several quantities the mean, each in units of its target's variance."""
    truth, found = _checked(target, prediction)
    squares: np.ndarray = (found - truth) ** 2
    if truth.shape[1] > 1:
        variance = truth.var(0)
        squares = squares / np.where(variance > 0, variance, 1)
    mean: np.ndarray = squares.mean(1)
    return mean


def weighed(target: ArrayLike, prediction: ArrayLike) -> Callable[[np.ndarray], np.ndarray]:
    """What turns weights of the samples `[r, n]` into the headline figures `[r, len(NAMES)]`.

    Arguments and errors as for `figures`.
    """
    return _Weighed(*_checked(target, prediction)).means


def per_quantity(
    target: ArrayLike,
    prediction: ArrayLike,
    names: Sequence[str],
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> tuple[QuantityFigures, ...]:
    """RMSE, MAE, R² and bias of every quantity; arguments and errors as for `estimate`, or not as many names."""
    weigh = _Weighed(*_checked(target, prediction))
    if len(names) != weigh.quantities:
        raise ValueError(f"{len(names)} names for {weigh.quantities} quantities")
    keys = [f"{figure} {k}" for figure in _EACH for k in range(weigh.quantities)]
    found = bootstrap(
        np.arange(weigh.n), keys, lambda counts: np.concatenate(weigh(counts), axis=1), groups=groups, seed=seed
    )
    return tuple(
        QuantityFigures(name, weigh.n, *(found[f"{figure} {k}"] for figure in _EACH)) for k, name in enumerate(names)
    )


class _Weighed:
    """From weights of the samples to the figures, by sums over samples."""

    def __init__(self, truth: np.ndarray, prediction: np.ndarray):
        self.n, self.quantities = truth.shape
        error = prediction - truth
        centred = truth - truth.mean(0)  # else squares of large values cancel in the variance
        self.table = np.hstack([error, np.abs(error), error**2, centred, centred**2])

    def __call__(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """RMSE, MAE, R² and bias, each `[r, K]`, of weights `[r, n]`."""
        counts = counts.astype(np.float64)
        n = counts.sum(1, keepdims=True)
        error, size, square, first, second = np.split(counts @ self.table, 5, axis=1)
        spread = second - first**2 / n
        spread[spread <= 1e-12 * second] = np.nan  # constant but for rounding
        return np.sqrt(square / n), size / n, 1 - square / spread, error / n

    def means(self, counts: np.ndarray) -> np.ndarray:
        """The headline figures `[r, len(NAMES)]`."""
        rmse, mae, r2, _ = self(counts)
        return np.stack([rmse.mean(1), mae.mean(1), r2.mean(1)], axis=1)


def _checked(target: ArrayLike, prediction: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    truth, found = np.asarray(target, np.float64), np.asarray(prediction, np.float64)
    if truth.ndim != 2 or truth.shape != found.shape or not truth.shape[1]:
        raise ValueError(f"target and prediction are both [n, K], not {truth.shape} and {found.shape}")
    if not len(truth):
        raise ValueError("there are no samples")
    if not (np.isfinite(truth).all() and np.isfinite(found).all()):
        raise ValueError("target and prediction are finite numbers")
    return truth, found
