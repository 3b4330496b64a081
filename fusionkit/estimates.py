"""Figures with their 95 % intervals, and the paired comparison of two models: what all kinds of task have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array, csr_array

from fusionkit.headlines import ERRORS, LABELS

RESAMPLES = 2000
FEW_GROUPS = 10
"""With fewer groups the bootstrap over groups is too sure of itself."""
_MOST_NUMBERS = 2**22
"""Resamples are drawn in chunks of at most so many numbers, which bounds the memory."""

Verdict: TypeAlias = Literal["better", "worse", "borderline", "no evidence"]


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; None where undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Two models on the same samples.

    Args:
        n: samples.
        differences: first minus second, for each headline figure; the first of them decides.
        only_first, only_second: of a classification, samples that only the one gets right.
        p_value: two-sided, of `test`.
        groups: how many groups were resampled; None where samples were.
        test: for example `"exact McNemar"`.
        by_group: whether the test, too, goes by the groups; else it takes the samples as independent.
    """

    n: int
    differences: dict[str, Estimate]
    only_first: int | None
    only_second: int | None
    p_value: float
    groups: int | None = None
    test: str = "exact McNemar"
    by_group: bool = False

    @property
    def primary(self) -> str:
        return next(iter(self.differences))

    @property
    def gain(self) -> float | None:
        """By how much the first is better in the deciding figure; negative where it is worse."""
        value = self.differences[self.primary].value
        return -value if value is not None and self.primary in ERRORS else value

    @property
    def verdict(self) -> Verdict:
        """Whether the first is better in the deciding figure.

        `better` and `worse` need an interval without zero, p < 0.05, and not less than ten groups where there are
        groups. `borderline`: only one of these speaks, and it is one that may. A test that takes samples of a group
        as independent witnesses may not.
        """
        found = self.differences[self.primary]
        if self.gain is None or found.low is None or found.high is None:
            return "no evidence"
        apart = found.low > 0 or found.high < 0
        if apart and self.p_value < 0.05 and (self.groups is None or self.groups >= FEW_GROUPS):
            return "better" if self.gain > 0 else "worse"
        alone = self.p_value < 0.05 and (self.groups is None or self.by_group)
        return "borderline" if apart or alone else "no evidence"


def interval_note(n: int, groups: ArrayLike | None = None) -> str:
    """How the intervals of n samples are made, for example `"bootstrap over 31 groups"`."""
    if groups is None:
        return f"bootstrap over {n:,} samples"
    number = len(np.unique(np.asarray(groups)))
    if number == 1:
        return "no interval: all samples are of one group"
    few = "; so few groups give a rough interval only" if number < FEW_GROUPS else ""
    return f"bootstrap over {number:,} groups{few}"


def change(figure: str, difference: float | None) -> str:
    """A difference, signed: of shares in percentage points `+3.4`, of errors in their own unit `-1.25`."""
    if difference is None:
        return "undefined"
    if figure == "r2":
        return f"{difference:+.3f}"
    return f"{difference:+.3g}" if figure in ERRORS else f"{round(100 * difference, 1) + 0.0:+.1f}"


def difference_text(figure: str, found: Estimate) -> str:
    """For example `OA +3.4 points (95 % interval +1.2 to +5.5)`."""
    text = f"{LABELS[figure]} {change(figure, found.value)}{'' if figure in ERRORS or figure == 'r2' else ' points'}"
    if found.low is None or found.high is None:
        return f"{text} (no interval)"
    return f"{text} (95 % interval {change(figure, found.low)} to {change(figure, found.high)})"


def p_text(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def finite(value: float) -> float | None:
    """The number, or None where it is NaN or infinite."""
    return float(value) if np.isfinite(value) else None


def bootstrap(
    cells: np.ndarray,
    names: Sequence[str],
    figures: Callable[[np.ndarray], np.ndarray],
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Figures with 95 % percentile bootstrap intervals.

    Drawing n samples with replacement is one multinomial draw over the distinct outcomes, which is exact and costs
    nothing by the number of samples; groups are drawn the same way and weigh their own counts.

    Args:
        cells: the outcome of each sample, `[n]`, numbered from 0; `np.arange(n)` where every sample is its own.
        names: of the figures.
        figures: turns counts of outcomes `[r, outcomes]` into `[r, len(names)]`, NaN where undefined.
        groups: a value a sample; whole groups are then resampled. Of a single group there is no interval.
        seed: of the resampling.

    Raises:
        ValueError: there are no samples, or not as many groups.
    """
    if len(cells) == 0:
        raise ValueError("there are no samples")
    found = figures(np.bincount(cells)[np.newaxis])[0]
    random = np.random.default_rng(seed)
    if groups is None:
        held, draws = None, len(cells)
        chances = np.bincount(cells) / len(cells)
    else:
        number = group_numbers(groups, len(cells))
        draws = number.max() + 1
        if draws == 1:
            return {name: Estimate(finite(value)) for name, value in zip(names, found, strict=True)}
        held = csr_array(coo_array((np.ones(len(cells), np.int64), (cells, number))))
        chances = np.full(draws, 1 / draws)
    chunk = max(1, _MOST_NUMBERS // max(len(chances), cells.max() + 1))
    drawn = []
    for start in range(0, RESAMPLES, chunk):
        counts = random.multinomial(draws, chances, size=min(chunk, RESAMPLES - start))
        drawn.append(figures(counts if held is None else (held @ counts.T).T))
    resampled = np.concatenate(drawn)
    low, high = np.full((2, len(found)), np.nan)
    usable = np.isfinite(resampled).any(0)  # a figure may be undefined in every resample
    if usable.any():
        low[usable], high[usable] = np.nanpercentile(resampled[:, usable], [2.5, 97.5], axis=0)
    return {
        name: Estimate(finite(value), finite(least), finite(most))
        for name, value, least, most in zip(names, found, low, high, strict=True)
    }


def group_numbers(groups: ArrayLike, n: int) -> np.ndarray:
    """The groups numbered from 0, one a sample."""
    _, number = np.unique(np.asarray(groups), return_inverse=True)
    if number.shape != (n,):
        raise ValueError(f"{len(number)} groups for {n} samples")
    return number
