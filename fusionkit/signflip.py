"""The sign-flip test: are paired differences centred on zero?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fusionkit.estimates import group_numbers

DRAWS = 10_000
_MOST_NUMBERS = 2**22
"""Signs are drawn in chunks of at most so many, which bounds the memory."""


def sign_flip_test(differences: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0) -> float:
    """The two-sided p-value of a sign-flip permutation test of the sum of paired differences.

    Were two models equally good, each difference could as well have the other sign. All patterns of signs are counted
    where they are no more than 10,000; else so many are drawn, and the observed pattern counts as one more of them.

    Args:
        differences: one a sample `[n]`.
        groups: a value a sample; the samples of a group then change their signs together, as one sum.
        seed: of the signs.

    Raises:
        ValueError: a difference is not finite, or groups and differences are not equally many.
    """
    units: np.ndarray = np.asarray(differences, np.float64)
    if units.ndim != 1 or not np.isfinite(units).all():
        raise ValueError("differences are finite numbers, one a sample")
    if groups is not None:
        units = np.bincount(group_numbers(groups, len(units)), weights=units)
    units = units[units != 0]  # the sign of zero changes nothing
    observed = abs(units.sum()) - 1e-12 * np.abs(units).sum()  # equal but for rounding is as far out
    if 2 ** len(units) <= DRAWS:
        every = np.arange(2 ** len(units))[:, np.newaxis] >> np.arange(len(units)) & 1
        return float((_flipped(every, units) >= observed).mean())
    random = np.random.default_rng(seed)
    chunk = max(1, _MOST_NUMBERS // len(units))
    as_far = 0
    for start in range(0, DRAWS, chunk):
        drawn = min(chunk, DRAWS - start)
        # A generator gives bytes by fours: whole fours for each pattern let chunks change nothing.
        octets = np.frombuffer(random.bytes(4 * drawn * -(-len(units) // 32)), np.uint8).reshape(drawn, -1)
        patterns = np.unpackbits(octets, axis=1, count=len(units))
        as_far += int((_flipped(patterns, units) >= observed).sum())
    return (as_far + 1) / (DRAWS + 1)


def _flipped(patterns: np.ndarray, units: np.ndarray) -> np.ndarray:
    """The absolute sum of the units, each negative where its pattern is 0: `[r]` of patterns `[r, units]`."""
    return np.abs(2 * (patterns.astype(np.float64) @ units) - units.sum())
