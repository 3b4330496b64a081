"""Figures of embeddings, against SciPy and NumPy on vectors made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import svdvals
from scipy.spatial.distance import cdist, pdist
from scipy.stats import entropy

from fusionkit.embedding_figures import alignment, effective_rank, gap, hub_share, uniformity


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    first = random.normal(size=(40, 7)) + 0.3
    second = first + random.normal(size=(40, 7))
    return tuple(held / np.linalg.norm(held, axis=1, keepdims=True) for held in (first, second))  # type: ignore[return-value]


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.tensor(array) for array in arrays]


def test_against_scipy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    first, second = pair
    one, other = tensors(*pair)
    assert alignment(one, other) == pytest.approx(np.mean(np.diag(cdist(first, second, "sqeuclidean"))))
    assert uniformity(one) == pytest.approx(math.log(np.exp(-2 * pdist(first, "sqeuclidean")).mean()))
    assert effective_rank(one) == pytest.approx(math.exp(entropy(svdvals(first))))
    nearest = cdist(first, second).argmin(1)
    assert hub_share(one, other) == pytest.approx(np.bincount(nearest).max() / 40)
    assert gap(one, other) == pytest.approx(np.linalg.norm(first.mean(0) - second.mean(0)))


def test_by_hand() -> None:
    """Four unit vectors of the plane, and their opposites."""
    cross = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    assert alignment(cross, -cross) == pytest.approx(4)
    assert alignment(cross, cross) == 0
    assert uniformity(cross) == pytest.approx(math.log((4 * math.exp(-4) + 2 * math.exp(-8)) / 6))
    assert effective_rank(cross) == pytest.approx(2)
    assert effective_rank(cross[:1].expand(4, 2)) == pytest.approx(1)
    assert gap(cross, -cross) == pytest.approx(0)
    assert gap(cross[:1], -cross[:1]) == pytest.approx(2)
    same = cross[:1].expand(4, 2)
    assert uniformity(same) == pytest.approx(0)
    assert hub_share(cross, cross) == 0.25
    assert hub_share(same, same) == 1


def test_hubs_that_are_right_do_not_count() -> None:
    queries = torch.tensor([[1.0, 0], [1, 0], [0.8, 0.6], [0, 1]])
    candidates = torch.tensor([[1.0, 0], [-1, 0], [0, -1], [0, 1]])
    right = torch.eye(4, dtype=torch.bool)
    assert hub_share(queries, candidates) == 0.75
    assert hub_share(queries, candidates, right=right) == 0.5
    assert hub_share(queries, candidates, right=torch.ones_like(right)) == 0
