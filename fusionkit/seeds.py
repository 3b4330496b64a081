"""Figures over several seeds and one set of test samples: error, interval, test, correction, effect, detectable.

Seeds and test samples both vary: another seed would give another model, another test set other samples. Every seed
answers the same samples, so the two are crossed, as readers and cases are in studies of diagnostic accuracy. The
method is that of Obuchowski and Rockette (1995) with the degrees of freedom of Hillis (2007), and the bootstrap for the
part of the samples: the variance of a mean over S seeds is the variance between seeds over S, plus the covariance that
seeds have because they share the samples. Letters in shapes: S seeds, r resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import gammaln
from scipy.stats import nct, norm, t

from fusionkit.estimates import Estimate

POWER = 0.8
LEVEL = 0.05
_MANY = 1e4
"""Of degrees of freedom: beyond, Student's t is the normal distribution to four digits."""


@dataclass(frozen=True)
class OverSeeds:
    """A figure, or a paired difference of one, over seeds and samples.

    Args:
        mean: over the seeds.
        deviation: standard deviation over the seeds; None of one seed.
        error: standard error of the mean, for other seeds and other samples; of one seed, for other samples.
        freedom: the degrees of freedom of the error.
        seeds: how many.
        low, high: the 95 % interval of the mean; of one seed, the percentiles of the resamples.
    """

    mean: float
    deviation: float | None
    error: float
    freedom: float
    seeds: int
    low: float
    high: float

    @property
    def estimate(self) -> Estimate:
        return Estimate(self.mean, self.low, self.high)

    @property
    def p_value(self) -> float:
        """Two-sided, of the mean being zero."""
        if self.error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * t.sf(abs(self.mean) / self.error, self.freedom))

    @property
    def effect(self) -> float | None:
        """Hedges' g of paired differences: their mean in units of their standard deviation over seeds (Cohen's d_z),
        made smaller since few seeds exaggerate it; None of fewer than three."""
        if self.seeds < 3 or not self.deviation:
            return None
        freedom = self.seeds - 1
        shrink = np.exp(gammaln(freedom / 2) - gammaln((freedom - 1) / 2)) / np.sqrt(freedom / 2)
        return float(shrink * self.mean / self.deviation)

    @property
    def detectable(self) -> float | None:
        """The difference that would be found in 80 % of repetitions, at 5 %, by a paired t-test over so many seeds and
        by the test over seeds and samples; None of one seed."""
        if self.deviation is None:
            return None
        over_seeds = noncentrality(self.seeds - 1) * self.deviation / self.seeds**0.5
        return max(over_seeds, noncentrality(self.freedom) * self.error)


def over_seeds(
    values: ArrayLike, resampled: ArrayLike, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> OverSeeds | None:
    """Combine what seeds found.

    Args:
        values: the figure of each seed `[S]`, or its paired difference.
        resampled: the same of bootstrap resamples of the samples, the same ones for all seeds: `[r, S]`.
        bounds: the least and the most that the figure can be; its interval ends there.

    Returns:
        None where a value is undefined, or all resamples are.
    """
    found, drawn = np.asarray(values, np.float64), np.asarray(resampled, np.float64)
    drawn = drawn[np.isfinite(drawn).all(1)]
    if not np.isfinite(found).all() or len(drawn) < 2:
        return None
    seeds = len(found)
    covariance = np.atleast_2d(np.cov(drawn, rowvar=False))
    own = float(covariance.trace() / seeds)  # the variance of one seed's figure over other samples
    if seeds == 1:
        low, high = np.percentile(drawn, [100 * LEVEL / 2, 100 * (1 - LEVEL / 2)])
        return OverSeeds(float(found[0]), None, own**0.5, np.inf, 1, float(low), float(high))
    shared = float((covariance.sum() - covariance.trace()) / (seeds * (seeds - 1)))
    spread = float(found.var(ddof=1))
    # Between seeds there is at least what of a seed's variance over samples the others do not share: two or three seeds
    # that agree by chance are no proof that seeds do not matter.
    between, shared = max(spread, own - shared, 0.0), max(shared, 0.0)
    total = between + seeds * shared
    freedom = (seeds - 1) * (total / between) ** 2 if between > 0 else np.inf
    mean, error = float(found.mean()), (total / seeds) ** 0.5
    reach = float(t.ppf(1 - LEVEL / 2, freedom)) * error
    low, high = max(mean - reach, bounds[0]), min(mean + reach, bounds[1])
    return OverSeeds(mean, spread**0.5, error, freedom, seeds, low, high)


def noncentrality(freedom: float) -> float:
    """How many standard errors a difference must measure to be found by a two-sided t-test at 5 % with power 80 %."""
    if freedom > _MANY:
        return float(norm.ppf(1 - LEVEL / 2) + norm.ppf(POWER))
    critical = t.ppf(1 - LEVEL / 2, freedom)
    return float(brentq(lambda shift: nct.sf(critical, freedom, shift) - POWER, 1, 4 * critical))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, in the order given: at or under 5 %, the chance of any false one is so too.

    Raises:
        ValueError: one is no number from 0 to 1.
    """
    found = np.asarray(p_values, np.float64)
    if not ((found >= 0) & (found <= 1)).all():
        raise ValueError("p-values are numbers from 0 to 1")
    order = np.argsort(found, kind="stable")
    raised = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
    adjusted = np.empty(len(found))
    adjusted[order] = raised.clip(max=1)
    return [float(value) for value in adjusted]
