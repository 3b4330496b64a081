"""Triplets across modalities, against loops."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from fusionkit_losses.cross_modal_triplet import CrossModalTriplet
from scipy.spatial.distance import cosine

from fusionkit.flow import Batch, Output, Task
from fusionkit.testing import LossSuite

TASK = Task("classification", ("a", "b", "c"), (3, 3, 3))
TARGET = [0, 1, 0, 2, 1, 0]
PRESENT = {"image": [1, 1, 1, 0, 1, 1], "visits": [1, 0, 1, 1, 1, 1], "text": [0, 1, 1, 1, 1, 0]}


class TestCrossModalTriplet(LossSuite):
    component = CrossModalTriplet


def a_batch(target: list[int] = TARGET, present: dict[str, list[int]] = PRESENT) -> Batch:
    masks = {name: torch.tensor(there).bool() for name, there in present.items()}
    return Batch({}, masks, torch.tensor(target), torch.arange(len(target)))


@pytest.fixture
def output() -> Output:
    generator = torch.Generator().manual_seed(0)
    vectors = {name: torch.randn(6, 4, generator=generator, dtype=torch.float64) for name in PRESENT}
    embeddings = {name: value.requires_grad_() for name, value in vectors.items()}
    return Output(torch.zeros(6, 3), torch.zeros(6, 1), embeddings)


def fitted(output: Output, **options) -> CrossModalTriplet:
    torch.manual_seed(0)
    loss = CrossModalTriplet(TASK, **options)
    loss.fit_to(output)
    return loss.double()


def by_loops(vectors: dict[str, torch.Tensor], margin: float) -> list[float]:
    values = {name: value.detach().numpy() for name, value in vectors.items()}
    terms = []
    for one, other in permutations(values, 2):
        for i in range(6):
            rivals = [
                float(cosine(values[one][i], values[other][j]))
                for j in range(6)
                if PRESENT[other][j] and TARGET[j] != TARGET[i]
            ]
            if PRESENT[one][i] and PRESENT[other][i] and rivals:
                terms.append(max(0.0, margin + float(cosine(values[one][i], values[other][i])) - min(rivals)))
    return terms


@pytest.mark.parametrize("options", [{}, {"dim": 3}, {"margin": 0.5}])
def test_agrees_with_loops(output, options):
    loss = fitted(output, **options)
    vectors = output.embeddings
    if "dim" in options:
        vectors = {name: value @ loss.projections[name].weight.T for name, value in vectors.items()}
    terms = by_loops(vectors, options.get("margin", 0.2))
    assert loss(output, a_batch()).item() == pytest.approx(sum(terms) / len(terms), rel=1e-12)
    assert float(loss.count(a_batch())) == len(terms)
    assert any(terms)


def test_by_hand():
    image, visits = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    output = Output(torch.zeros(2, 3), torch.zeros(2, 1), {"image": image, "visits": visits})
    half = 0.5**0.5
    expected = [
        0.2 + 1 - (1 - half),  # from the first image: its visits are at right angles, the other's at 45 degrees
        0.2 + (1 - half) - 0,
        0.2 + 1 - 0,  # from the first visits
        0.2 + (1 - half) - (1 - half),
    ]
    value = fitted(output).float()(output, a_batch([0, 1], {"image": [1, 1], "visits": [1, 1]}))
    assert value.item() == pytest.approx(sum(expected) / 4, rel=1e-6)


def test_a_sample_that_lacks_a_modality_is_a_negative_all_the_same(output):
    image, visits = output.embeddings["image"], output.embeddings["visits"]
    del output.embeddings["text"]
    batch = a_batch([0, 1, 1, 1, 1, 1], {"image": [1, 0, 0, 0, 0, 0], "visits": [1, 1, 1, 1, 1, 1]})
    fitted(output, margin=5.0)(output, batch).backward()
    assert image.grad.any(1).tolist() == [True] + [False] * 5
    assert visits.grad.any(1).sum() == 2  # its own and the nearest of the other class


@pytest.mark.parametrize("content", [torch.nan, torch.inf, 7.0])
def test_what_stands_in_an_absent_slot_changes_nothing(output, content):
    loss, batch = fitted(output, dim=3), a_batch()
    expected = loss(output, batch)
    gradients = torch.autograd.grad(expected, list(loss.parameters()))
    changed = {
        name: value.masked_fill(~batch.present[name].unsqueeze(1), content) for name, value in output.embeddings.items()
    }
    value = loss(Output(output.logits, output.fused, changed), batch)
    assert value.item() == expected.item()
    torch.testing.assert_close(torch.autograd.grad(value, list(loss.parameters())), gradients)


@pytest.mark.parametrize("target", [[1] * 6, TARGET])
def test_without_triplets_it_is_zero_with_a_graph(output, target):
    present = PRESENT if target == [1] * 6 else {name: [0] * 6 for name in PRESENT}
    loss, batch = fitted(output, dim=3), a_batch(target, present)
    value = loss(output, batch)
    value.backward()
    assert value.item() == 0
    assert float(loss.count(batch)) == 0
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in loss.parameters())
