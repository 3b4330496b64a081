"""What a model says of samples held out, and means that add up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fusionkit_fakes import Branches, Cat, Conv, Entropy, Linear, Toy, Weighted
from lightning.fabric import Fabric

from fusionkit.errors import FusionkitError
from fusionkit.evaluation import Means, Objective, evaluate, in_order
from fusionkit.flow import Task
from fusionkit.loading import EVALUATION, Samples
from fusionkit.model import Blueprint

TASK = Task("classification", ("a", "b", "c"), (1, 1, 1))
TOY = Toy(samples=30)
INPUTS = {name: spec for name, spec in TOY.inputs().items() if name != "steps"}
SAMPLES = Samples(TOY, TOY.index().targets, INPUTS)
POSITIONS = np.array([4, 9, 2, 17, 11, 23, 8])


def objective() -> Objective:
    model = Blueprint(INPUTS, {"image": Conv, "vector": Linear}, Cat, Cat, TASK, branches=True).build({})
    return Objective(model, {"entropy": Entropy(TASK), "weighted": Weighted(TASK), "branches": Branches(TASK)})


def answer(made: Objective, size: int) -> Any:
    fabric = Fabric(accelerator="cpu", devices=1)
    wrapped = fabric.setup(made)
    return evaluate(wrapped, in_order(SAMPLES, POSITIONS, fabric, size, 0), fabric, SAMPLES.targets)


@pytest.mark.parametrize("size", [2, 3, 64])
def test_answers_and_losses_do_not_depend_on_the_batches(size: int) -> None:
    made = objective()
    found = answer(made, size)
    assert not made.training
    assert found.index.tolist() == sorted(POSITIONS.tolist())
    assert found.target.tolist() == [position % 3 for position in sorted(POSITIONS.tolist())]
    batch = SAMPLES.__getitems__([(EVALUATION, int(position)) for position in found.index])
    with torch.no_grad():
        output, terms = made(batch)
    np.testing.assert_allclose(found.answers, output.logits.softmax(1).numpy(), atol=1e-6)
    assert found.terms == pytest.approx({name: float(term) for name, term in terms.items()}, rel=1e-5)


def test_what_each_mean_is_over() -> None:
    batch = SAMPLES.__getitems__([(EVALUATION, position) for position in (0, 1, 2, 2)])
    assert objective().counts(batch) == pytest.approx({"entropy": 4, "weighted": 0.2 + 1 + 2 * 5, "branches": 4})


def test_means_add_up() -> None:
    means, more = Means(), Means()
    means.add({"a": torch.tensor(2.0), "b": torch.tensor(7.0)}, {"a": 3.0, "b": 0.0})
    more.add({"a": torch.tensor(5.0)}, {"a": 1.0})
    assert Means.over([means, more]).terms() == {"a": 2.75, "b": 0}


def test_a_prediction_that_is_no_number_is_refused() -> None:
    made = objective()
    with torch.no_grad():
        made.model.head.bias[1] = float("inf")
    with pytest.raises(FusionkitError, match="the prediction is no number for 3 of 3 samples held out"):
        answer(made, 4)
