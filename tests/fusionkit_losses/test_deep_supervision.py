"""Deep supervision, against stored tensors, scikit-learn and NumPy."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest
import torch
from fusionkit_losses.cross_entropy import CrossEntropy
from fusionkit_losses.deep_supervision import DeepSupervision
from sklearn.metrics import log_loss, mean_squared_error
from torch import Tensor

from fusionkit.errors import RequestError
from fusionkit.flow import Batch, Output, Task
from fusionkit.options import options_model
from fusionkit.testing import LossSuite

ORACLE = Path(__file__).parents[1] / "oracles" / "losses_and_fusion.pt"
CLASSES = Task("classification", ("a", "b", "c"), (2, 2, 2))
LABELS = Task("multilabel", ("a", "b", "c"), (2, 2, 2), 6)
QUANTITIES = Task("regression", ("a", "b", "c"), samples=6, mean=(0.0,) * 3, std=(1.0,) * 3)


class TestSuite(LossSuite):
    component = DeepSupervision


class TestSuiteOfTheMean(LossSuite):
    component = DeepSupervision
    options = {"reduction": "mean"}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def output(rows: int = 6, *, requires_grad: bool = False) -> Output:
    """Two branches and a stage."""
    made = Output(
        logits=random(rows, 3),
        fused=random(rows, 4),
        embeddings={"image": random(rows, 5), "lidar": random(rows, 6)},
        branch_logits={"image": random(rows, 3, seed=1), "lidar": random(rows, 3, seed=2)},
        stage_logits={"middle": random(rows, 3, seed=3)},
    )
    return made.map(lambda tensor: tensor.requires_grad_()) if requires_grad else made


def batch(target: Tensor, lidar: list[bool] | None = None) -> Batch:
    everybody = torch.ones(len(target), dtype=torch.bool)
    present = {"image": everybody, "lidar": everybody if lidar is None else torch.tensor(lidar)}
    return Batch({}, present, target, torch.arange(len(target)))


TARGET = torch.tensor([0, 1, 2, 0, 1, 2])
LIDAR = [True, False, True, True, False, True]


def nats(logits: Tensor, target: Tensor) -> np.ndarray:
    """The cross-entropy of each sample, in NumPy."""
    probability = np.exp(logits.numpy().astype(np.float64))
    probability /= probability.sum(1, keepdims=True)
    return -np.log(probability[np.arange(len(target)), target.numpy()])


def test_the_oracle_with_its_gradients():
    given = torch.load(ORACLE, weights_only=True)["deep_supervision"]
    task = Task("classification", tuple("abcdefghi"), (1,) * 9)
    leaves = [tensor.clone().requires_grad_() for tensor in (given["main"], *given["branches"])]
    said = Output(leaves[0], random(4, 1), {}, {"image": leaves[1], "lidar": leaves[2]})
    samples = batch(given["target"])
    loss = CrossEntropy(task)(said, samples) + given["a"] * DeepSupervision(task)(said, samples)
    torch.testing.assert_close(loss, given["loss"], rtol=0, atol=1e-6)
    for found, expected in zip(torch.autograd.grad(loss, leaves), given["grad"], strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_branch_counts_for_the_samples_that_have_it():
    """By hand: what the branches say of the samples that they have, over all samples."""
    said = output()
    expected = nats(said.branch_logits["image"], TARGET).sum()
    expected += nats(said.branch_logits["lidar"], TARGET)[LIDAR].sum()
    assert DeepSupervision(CLASSES)(said, batch(TARGET, LIDAR)).item() == pytest.approx(expected / 6, rel=1e-6)


@pytest.mark.parametrize("nonsense", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("task", [CLASSES, LABELS, QUANTITIES], ids=lambda task: task.kind)
def test_what_stands_in_an_absent_slot_changes_nothing(nonsense, task):
    target = TARGET if task is CLASSES else (random(6, 3, seed=5) > 0).float()
    values, gradients = [], []
    for filler in (0.0, nonsense):
        said = output(requires_grad=True)
        with torch.no_grad():
            said.branch_logits["lidar"][~torch.tensor(LIDAR)] = filler
        value = DeepSupervision(task)(said, batch(target, LIDAR))
        value.backward()
        values.append(value.detach())
        gradients.append(said.branch_logits["lidar"].grad)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*gradients)
    assert not gradients[0][~torch.tensor(LIDAR)].any()


def test_parts_with_absent_modalities_add_up():
    loss, said, samples = DeepSupervision(CLASSES), output(), batch(TARGET, LIDAR)
    total = 0.0
    for rows in (slice(0, 2), slice(2, 3), slice(3, 6)):
        part = samples.map(itemgetter(rows))
        total += loss.count(part) * loss(said.map(itemgetter(rows)), part)
    torch.testing.assert_close(total / loss.count(samples), loss(said, samples))


def test_where_a_modality_is_absent_everywhere_nothing_is_added_and_a_graph_is_left():
    said = output(requires_grad=True)
    samples = batch(TARGET, [False] * 6)
    samples.present["image"] = torch.zeros(6, dtype=torch.bool)
    value = DeepSupervision(CLASSES)(said, samples)
    value.backward()
    assert value.item() == 0
    assert not said.branch_logits["image"].grad.any()


def test_stages_and_the_mean():
    said, samples = output(), batch(TARGET)
    image, lidar, middle = (
        log_loss(TARGET, logits.double().softmax(1), labels=[0, 1, 2])
        for logits in (*said.branch_logits.values(), said.stage_logits["middle"])
    )
    for of, expected in [
        ("branches", image + lidar),
        ("stages", middle),
        (["stages"], middle),
        (["branches", "stages"], image + lidar + middle),
    ]:
        assert DeepSupervision(CLASSES, of=of)(said, samples).item() == pytest.approx(expected, rel=1e-5)
    mean = DeepSupervision(CLASSES, of=["branches", "stages"], reduction="mean")(said, samples)
    assert mean.item() == pytest.approx((image + lidar + middle) / 3, rel=1e-5)


def test_soft_targets_are_a_mixture_of_hard_ones():
    said, other = output(), TARGET.roll(1)
    mixed = 0.3 * torch.eye(3)[TARGET] + 0.7 * torch.eye(3)[other]
    loss = DeepSupervision(CLASSES)
    expected = 0.3 * loss(said, batch(TARGET)) + 0.7 * loss(said, batch(other))
    torch.testing.assert_close(loss(said, batch(mixed)), expected)


def test_labels_are_asked_one_by_one():
    said, target = output(), (random(6, 3, seed=5) > 0).float()
    expected = np.mean([log_loss(target[:, k], said.stage_logits["middle"][:, k].sigmoid()) for k in range(3)])
    found = DeepSupervision(LABELS, of="stages")(said, batch(target))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_quantities_are_met_in_the_square():
    said, target = output(), random(6, 3, seed=5)
    expected = mean_squared_error(target, said.stage_logits["middle"])
    assert DeepSupervision(QUANTITIES, of="stages")(said, batch(target)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("of", "needs"), [("branches", (True, False)), ("stages", (False, True)), (["stages", "branches"], (True, True))]
)
def test_it_asks_for_the_heads_that_it_reads(of, needs):
    loss = DeepSupervision(CLASSES, **options_model(DeepSupervision)(of=of).model_dump())
    assert (loss.needs_branches, loss.needs_stages) == needs


def test_nothing_to_supervise_is_told():
    with pytest.raises(RequestError, match="name branches, stages, or both"):
        DeepSupervision(CLASSES, of=[])
