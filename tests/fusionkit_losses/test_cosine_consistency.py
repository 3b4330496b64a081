"""Cosine consistency, against SciPy."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from fusionkit_losses.cosine_consistency import CosineConsistency
from scipy.spatial.distance import cosine

from fusionkit.flow import Batch, Output, Task
from fusionkit.testing import LossSuite

TASK = Task("classification", ("a", "b"), (1, 1))
PRESENT = {"image": [1, 1, 0, 1], "text": [1, 0, 1, 1], "lidar": [1, 1, 1, 0]}


class TestCosineConsistency(LossSuite):
    component = CosineConsistency


def a_batch(present: dict[str, list[int]] = PRESENT) -> Batch:
    masks = {name: torch.tensor(there).bool() for name, there in present.items()}
    return Batch({}, masks, torch.zeros(4, dtype=torch.int64), torch.arange(4))


@pytest.fixture
def output() -> Output:
    generator = torch.Generator().manual_seed(0)
    vectors = {name: torch.randn(4, 6, generator=generator, dtype=torch.float64) for name in PRESENT}
    embeddings = {name: value.requires_grad_() for name, value in vectors.items()}
    return Output(torch.zeros(4, 2), torch.zeros(4, 1), embeddings)


def fitted(output: Output, **options) -> CosineConsistency:
    torch.manual_seed(0)
    loss = CosineConsistency(TASK, **options)
    loss.fit_to(output)
    return loss.double()


def by_scipy(vectors: dict[str, torch.Tensor]) -> list[float]:
    values = {name: value.detach().numpy() for name, value in vectors.items()}
    return [
        float(cosine(values[one][i], values[other][i]))
        for one, other in combinations(values, 2)
        for i in range(4)
        if PRESENT[one][i] and PRESENT[other][i]
    ]


def test_is_the_cosine_distance_of_those_that_have_both(output):
    loss, expected = fitted(output), by_scipy(output.embeddings)
    assert loss(output, a_batch()).item() == pytest.approx(sum(expected) / 6, rel=1e-12)
    assert float(loss.count(a_batch())) == len(expected) == 6


def test_is_that_of_the_projected(output):
    output.embeddings["text"] = torch.randn(4, 9, dtype=torch.float64)
    loss = fitted(output, dim=5)
    projected = {name: value @ loss.projections[name].weight.T for name, value in output.embeddings.items()}
    assert loss(output, a_batch()).item() == pytest.approx(sum(by_scipy(projected)) / 6, rel=1e-12)


def test_by_hand():
    image, text = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 2.0], [5.0, 5.0]])
    output = Output(torch.zeros(2, 2), torch.zeros(2, 1), {"image": image, "text": text})
    loss = CosineConsistency(TASK)
    loss.fit_to(output)
    everybody = {"image": torch.ones(2, dtype=torch.bool), "text": torch.ones(2, dtype=torch.bool)}
    batch = Batch({}, everybody, torch.zeros(2, dtype=torch.int64), torch.arange(2))
    assert loss(output, batch).item() == pytest.approx((1 + 0) / 2, abs=1e-7)


def test_parts_add_up_where_modalities_are_absent(output):
    loss, batch = fitted(output), a_batch()
    sums = counts = 0.0
    for rows in (slice(0, 1), slice(1, 4)):
        part = batch.map(lambda tensor, rows=rows: tensor[rows])
        count = float(loss.count(part))
        sums += count * loss(output.map(lambda tensor, rows=rows: tensor[rows]), part).item()
        counts += count
    assert sums / counts == pytest.approx(loss(output, batch).item(), rel=1e-12)


def test_over_nothing_is_zero_with_a_graph(output):
    nobody = a_batch({"image": [1, 1, 0, 0], "text": [0, 0, 1, 1], "lidar": [0, 0, 0, 0]})
    with torch.no_grad():
        output.embeddings["lidar"].fill_(torch.nan)
    loss = fitted(output, dim=5)
    value = loss(output, nobody)
    value.backward()
    assert value.item() == 0
    assert float(loss.count(nobody)) == 0
    assert all(tensor.grad is not None and not tensor.grad.any() for tensor in loss.parameters())
    assert all(not tensor.grad.any() for tensor in output.embeddings.values())
