"""Triplets of samples, against PyTorch's loss of triplets that are written out one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fusionkit_losses.triplet import Triplet
from scipy.spatial.distance import cdist
from torch.nn import functional as F

from fusionkit.errors import ShapeError
from fusionkit.flow import Batch, Output, Task
from fusionkit.testing import LossSuite

TASK = Task("classification", ("a", "b", "c", "d"), (3, 3, 3, 1))
TARGET = [0, 1, 0, 2, 1, 0, 2, 3]
PRESENT = [1, 1, 1, 1, 1, 0, 1, 1]
DISTANCES = {
    "cosine": lambda one, other: 1 - F.cosine_similarity(one, other),
    "euclidean": lambda one, other: (one - other).norm(dim=1),
}


class TestTriplet(LossSuite):
    component = Triplet


class TestEuclideanTriplet(LossSuite):
    component = Triplet
    options = {"mining": "nonzero", "distance": "euclidean", "of": "image"}


@pytest.fixture
def output() -> Output:
    generator = torch.Generator().manual_seed(0)

    def random() -> torch.Tensor:
        return torch.randn(8, 5, generator=generator, dtype=torch.float64).requires_grad_()

    return Output(random(), random(), {"image": random(), "text": random()})


def a_batch(target: list[int] = TARGET, present: list[int] = PRESENT) -> Batch:
    size = len(target)
    masks = {"image": torch.tensor(present[:size]).bool(), "text": torch.ones(size, dtype=torch.bool)}
    return Batch({}, masks, torch.tensor(target), torch.arange(size))


def triplets(value: torch.Tensor, there: list[int], mining: str, distance: str) -> list[tuple[int, int, int]]:
    """Anchor, positive, negative."""
    found = []
    between = cdist(value.detach(), value.detach(), distance)
    for a in range(len(TARGET)):
        positives = [j for j in range(len(TARGET)) if there[a] and there[j] and j != a and TARGET[j] == TARGET[a]]
        negatives = [j for j in range(len(TARGET)) if there[a] and there[j] and TARGET[j] != TARGET[a]]
        if mining == "hard" and positives and negatives:
            positives = [max(positives, key=lambda j: between[a, j])]
            negatives = [min(negatives, key=lambda j: between[a, j])]
        found += [(a, p, n) for p in positives for n in negatives]
    return found


@pytest.mark.parametrize("of", [None, "image"])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("mining", ["hard", "all", "nonzero"])
def test_agrees_with_pytorch_in_value_and_gradient(output, mining, distance, of):
    value = output.fused if of is None else output.embeddings[of]
    there = PRESENT if of else [1] * 8
    a, p, n = np.array(triplets(value, there, mining, distance)).T
    hinges = F.triplet_margin_with_distance_loss(
        value[a], value[p], value[n], distance_function=DISTANCES[distance], margin=0.6, reduction="none"
    )
    assert 0 < (hinges > 0).sum() < len(hinges) or mining == "hard"
    expected = hinges[hinges > 0].mean() if mining == "nonzero" else hinges.mean()
    gradient = torch.autograd.grad(expected, value)[0]
    loss = Triplet(TASK, mining=mining, distance=distance, of=of, margin=0.6)
    found = loss(output, a_batch())
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, value)[0], gradient)
    assert float(loss.count(a_batch())) == len(set(a.tolist()))


@pytest.mark.parametrize("mining", ["hard", "all", "nonzero"])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_by_hand(mining, distance):
    """Two of one class at right angles, one of another on the way: the anchors are the first two."""
    fused = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    expected = {
        "cosine": ((0.2 + 1 - 0) + (0.2 + 1 - 1)) / 2,
        "euclidean": ((0.2 + 2**0.5 - 0) + (0.2 + 2**0.5 - 2**0.5)) / 2,
    }
    loss = Triplet(TASK, mining=mining, distance=distance)
    value = loss(Output(torch.zeros(3, 4), fused), a_batch([0, 0, 1]))
    assert value.item() == pytest.approx(expected[distance], rel=1e-6)


@pytest.mark.parametrize("content", [torch.nan, torch.inf, 7.0])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_what_stands_in_an_absent_slot_changes_nothing(output, distance, content):
    loss = Triplet(TASK, of="image", distance=distance, mining="all")
    image = output.embeddings["image"]
    expected = loss(output, a_batch())
    gradient = torch.autograd.grad(expected, image)[0]
    changed = image.detach().clone()
    changed[5] = content
    output.embeddings["image"] = changed.requires_grad_()
    value = loss(output, a_batch())
    assert value.item() == expected.item()
    torch.testing.assert_close(torch.autograd.grad(value, changed)[0], gradient)


@pytest.mark.parametrize("mining", ["hard", "all", "nonzero"])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("target", [[0], [0, 0, 0, 0, 0, 0, 0, 0], [0, 1, 2, 3]])
def test_without_triplets_it_is_zero_with_a_graph(output, mining, distance, target):
    loss = Triplet(TASK, mining=mining, distance=distance)
    fused = output.fused[: len(target)]
    value = loss(Output(output.logits[: len(target)], fused), a_batch(target))
    assert value.item() == 0
    assert not torch.autograd.grad(value, fused)[0].any()
    assert float(loss.count(a_batch(target))) == 0


@pytest.mark.parametrize("mining", ["all", "nonzero", "hard"])
def test_equal_vectors_have_finite_gradients(mining):
    fused = torch.ones(4, 3, requires_grad=True)
    for distance in ("cosine", "euclidean"):
        value = Triplet(TASK, mining=mining, distance=distance)(Output(torch.zeros(4, 4), fused), a_batch([0, 0, 1, 1]))
        assert value.item() == pytest.approx(0.2, abs=1e-6)
        assert torch.autograd.grad(value, fused)[0].isfinite().all()


def test_an_unknown_modality_is_told(output):
    with pytest.raises(ShapeError, match="no modality 'imag'; did you mean 'image'"):
        Triplet(TASK, of="imag").fit_to(output)
