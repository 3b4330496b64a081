"""Figures of cross-modal retrieval, their 95 % intervals, and paired comparison of two models.

Two modalities are compared by inner product, which of unit vectors is the cosine. The first shows things, the second
describes them; a thing may have several descriptions (five captions of an image). Forward, every thing is a query among
all descriptions, and any of its own counts as right; backward, every description is a query among all things.

Among equally similar candidates the right ones come last: embeddings that have collapsed earn nothing by it.

Letters in shapes: n samples, each a thing with one of its descriptions; m things; E width of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fusionkit.estimates import Comparison, Estimate, bootstrap
from fusionkit.headlines import HEADLINES
from fusionkit.signflip import sign_flip_test

NAMES = HEADLINES["retrieval"]
CUTOFFS = (1, 5, 10)
PROTOCOL = (
    "Forward: each thing of the first modality is a query among all descriptions, and is found where any of its own is "
    "among the first K. Backward: each description is a query among all things. Of equally similar candidates the "
    "right ones count as last."
)
_DIGITS = 7
"""Of a similarity, the greatest being one: embeddings are numbers of 32 bits, and what differs by less is equal."""
_CHUNK = 2**24
"""So many similarities are held at once."""


@dataclass(frozen=True)
class Ranking:
    """How the queries of one direction fared.

    Args:
        rows: `[q]` the sample that each query belongs to.
        rank: `[q]` of the best of the right candidates, from 1.
        precision: `[q]` average precision over all candidates of the query's class; NaN where it has none.
    """

    rows: np.ndarray
    rank: np.ndarray
    precision: np.ndarray

    def hits(self) -> np.ndarray:
        """`[q, len(CUTOFFS)]` whether a right one is among the first K."""
        return self.rank[:, np.newaxis] <= np.array(CUTOFFS)


def rank(target: ArrayLike, answers: ArrayLike) -> tuple[Ranking, Ranking]:
    """Rank forward and backward.

    Args:
        target: `[n, 2]` the number of the thing, and of its class or -1.
        answers: `[n, 2 E]` the embeddings of the two modalities side by side; zeros where one is absent, which is then
            neither query nor candidate.

    Raises:
        ValueError: the shapes do not fit, a number is not finite, or a modality is absent everywhere.
    """
    things, first, second = _checked(target, answers)
    has_first, rows = np.flatnonzero(first.any(1)), np.flatnonzero(second.any(1))
    once = has_first[np.unique(things[has_first, 0], return_index=True)[1]]  # a thing's embedding is the same each time
    if not len(once) or not len(rows):
        raise ValueError("one of the modalities is absent from all samples")
    if not np.isin(things[once, 0], things[rows, 0]).any():
        raise ValueError("no thing has both modalities, so nothing can be found")
    one, other = _scaled(first[once]), _scaled(second[rows])
    return _ranked(once, one, things[once], other, things[rows]), _ranked(rows, other, things[rows], one, things[once])


def figures(target: ArrayLike, answers: ArrayLike) -> dict[str, float]:
    """The headline figures: mean of the six recalls, R@1, R@5, R@10, median rank both ways, and mAP by class.

    mAP is NaN where there are no classes. Arguments and errors as for `rank`.
    """
    weigh = _Weighed(*rank(target, answers), len(np.asarray(target)))
    return dict(zip(NAMES, weigh(np.ones((1, weigh.n)))[0].tolist(), strict=True))


def estimate(
    target: ArrayLike, answers: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0
) -> dict[str, Estimate]:
    """The headline figures with 95 % percentile bootstrap intervals; queries are resampled, what they are among stays.

    Args:
        target, answers: as for `rank`.
        groups: a value a sample `[n]`, of which whole ones are resampled; by default the things.
        seed: of the resampling.

    Raises:
        ValueError: as for `rank`, or the groups are not n.
    """
    weigh = _Weighed(*rank(target, answers), len(np.asarray(target)))
    return bootstrap(np.arange(weigh.n), NAMES, weigh, groups=_groups(target, groups), seed=seed)


def compare(
    target: ArrayLike, first: ArrayLike, second: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0
) -> Comparison:
    """Compare two models on the same samples: first minus second, with paired bootstrap intervals.

    The test flips signs of what each thing, with all its descriptions, adds to the difference in mean recall.
    Arguments and errors as for `estimate`.
    """
    n = len(np.asarray(target))
    one, other = _Weighed(*rank(target, first), n), _Weighed(*rank(target, second), n)
    held = _groups(target, groups)
    differences = bootstrap(np.arange(n), NAMES, lambda counts: one(counts) - other(counts), groups=held, seed=seed)
    p_value = sign_flip_test(one.shares() - other.shares(), groups=held, seed=seed)
    number, test = len(np.unique(held)), "sign-flip test of recalls"
    return Comparison(n, differences, None, None, p_value, number, test, by_group=True)


def weighed(target: ArrayLike, answers: ArrayLike) -> Callable[[np.ndarray], np.ndarray]:
    """What turns weights of the samples `[r, n]` into the headline figures `[r, len(NAMES)]`.

    Arguments and errors as for `rank`.
    """
    return _Weighed(*rank(target, answers), len(np.asarray(target)))


def shares(target: ArrayLike, answers: ArrayLike) -> np.ndarray:
    """What each sample adds to the mean recall, `[n]`; arguments and errors as for `rank`."""
    return _Weighed(*rank(target, answers), len(np.asarray(target))).shares()


def recalls(target: ArrayLike, answers: ArrayLike, most: int) -> tuple[np.ndarray, np.ndarray]:
    """R@1 to R@most, forward and backward; arguments and errors as for `rank`."""
    cutoffs = np.arange(1, most + 1)
    forward, backward = ((found.rank[:, np.newaxis] <= cutoffs).mean(0) for found in rank(target, answers))
    return forward, backward


class _Weighed:
    """From weights of the samples to the figures."""

    def __init__(self, forward: Ranking, backward: Ranking, n: int):
        self.ways, self.n = (forward, backward), n

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """The headline figures `[r, len(NAMES)]` of weights `[r, n]`."""
        found, recall, precision = [], [], []
        for way in self.ways:
            weights = counts[:, way.rows].astype(np.float64)
            total = weights.sum(1, keepdims=True)
            with np.errstate(invalid="ignore"):
                recall.append(weights @ way.hits() / total)
            precision.append(_mean_precision(weights, way.precision))
            found += [*recall[-1].T, _median(way.rank, weights)]
        mean_recall = np.concatenate(recall, axis=1).mean(1)
        mean_precision = np.mean(precision, axis=0)
        return np.stack([mean_recall, *found, mean_precision, *precision], axis=1)

    def shares(self) -> np.ndarray:
        """What each sample adds to the mean recall, `[n]`."""
        added = np.zeros(self.n)
        for way in self.ways:
            added[way.rows] += way.hits().mean(1) / len(way.rows) / len(self.ways)
        return added


def _mean_precision(weights: np.ndarray, precision: np.ndarray) -> np.ndarray:
    known = np.isfinite(precision)
    with np.errstate(invalid="ignore"):
        found: np.ndarray = weights[:, known] @ precision[known] / weights[:, known].sum(1)
    return found


def _median(ranks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The median of ranks that occur as often as their weights say, `[r]`; NaN where nothing has weight."""
    order = np.argsort(ranks, kind="stable")
    reached, total = weights[:, order].cumsum(1), weights.sum(1)
    low = (reached < total[:, np.newaxis] / 2).sum(1)
    high = (reached <= total[:, np.newaxis] / 2).sum(1)
    held = ranks[order].astype(np.float64)
    last = len(held) - 1
    return np.where(total > 0, (held[np.minimum(low, last)] + held[np.minimum(high, last)]) / 2, np.nan)


def _ranked(
    rows: np.ndarray, queries: np.ndarray, of: np.ndarray, candidates: np.ndarray, among: np.ndarray
) -> Ranking:
    """Rank candidates `[c, E]`, which show `among` `[c, 2]`, for queries `[q, E]`, which show `of` `[q, 2]`."""
    best, precision = np.zeros(len(queries), np.int64), np.full(len(queries), np.nan)
    for part in _parts(len(queries), len(candidates)):
        similar = (queries[part] @ candidates.T).round(_DIGITS)
        right = of[part, 0][:, np.newaxis] == among[:, 0]
        reached = np.where(right, similar, -np.inf).max(1, keepdims=True)
        best[part] = ((similar >= reached) & ~right).sum(1) + 1
        if (of[part, 1] >= 0).any():
            precision[part] = _average_precision(similar, of[part, 1][:, np.newaxis] == among[:, 1])
            precision[part][of[part, 1] < 0] = np.nan
    found = np.isin(of[:, 0], among[:, 0])  # a thing without any description here cannot be found
    return Ranking(rows[found], best[found], precision[found])


def _average_precision(similar: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """The mean, over a query's relevant candidates, of the precision down to each, `[q]`; NaN where it has none."""
    order = np.lexsort((relevant, -similar), axis=1)
    sorted_ = np.take_along_axis(relevant, order, 1)
    precision = sorted_.cumsum(1) / np.arange(1, similar.shape[1] + 1)
    number = sorted_.sum(1)
    found: np.ndarray = np.divide(
        (precision * sorted_).sum(1), number, out=np.full(len(similar), np.nan), where=number > 0
    )
    return found


def _parts(queries: int, candidates: int) -> Iterator[slice]:
    step = max(1, _CHUNK // candidates)
    return (slice(start, start + step) for start in range(0, queries, step))


def _scaled(vectors: np.ndarray) -> np.ndarray:
    """All shrunk alike, so that the longest is of length one."""
    scaled: np.ndarray = vectors / np.linalg.norm(vectors, axis=1).max()
    return scaled


def _groups(target: ArrayLike, groups: ArrayLike | None) -> np.ndarray:
    """What is resampled: the groups, else the things."""
    return np.asarray(target)[:, 0] if groups is None else np.asarray(groups)


def _checked(target: ArrayLike, answers: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    things, held = np.asarray(target), np.asarray(answers, np.float64)
    if things.ndim != 2 or things.shape[1] != 2 or held.ndim != 2 or len(held) != len(things) or held.shape[1] % 2:
        raise ValueError(f"things are [n, 2] and embeddings [n, 2 E], not {things.shape} and {held.shape}")
    if not len(things):
        raise ValueError("there are no samples")
    if not np.isfinite(held).all():
        raise ValueError("embeddings are finite numbers")
    width = held.shape[1] // 2
    return things, held[:, :width], held[:, width:]
