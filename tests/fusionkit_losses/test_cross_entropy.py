"""Cross-entropy, against PyTorch and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fusionkit_losses.cross_entropy import CrossEntropy
from scipy.special import log_softmax
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from fusionkit.errors import RequestError
from fusionkit.flow import Batch, Output, Task
from fusionkit.options import options_model
from fusionkit.testing import LossSuite

NAMES = ("oak", "pine", "maple", "birch")
TRAIN = np.array([0] * 50 + [1] * 20 + [2] * 5 + [3])
TASK = Task("classification", NAMES, tuple(np.bincount(TRAIN).tolist()))


class TestSuite(LossSuite):
    component = CrossEntropy
    options = {"class_weights": "balanced", "label_smoothing": 0.1}


def batch(target: list[int] | list[list[float]]) -> Batch:
    values = torch.tensor(target)
    return Batch({}, {}, values, torch.arange(len(values)))


@pytest.fixture
def output() -> Output:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    return Output(logits=logits, fused=torch.zeros(6, 1))


TARGET = [0, 1, 2, 3, 0, 1]


def test_without_weights_it_is_the_log_loss(output):
    got = CrossEntropy(TASK)(output, batch(TARGET))
    assert got.item() == pytest.approx(log_loss(TARGET, output.logits.softmax(1).detach().numpy()), rel=1e-5)


def test_balanced_is_scikit_learns(output):
    loss = CrossEntropy(TASK, class_weights="balanced")
    expected = compute_class_weight("balanced", classes=np.arange(4), y=TRAIN)
    np.testing.assert_allclose(loss.weight.numpy(), expected, rtol=1e-6)
    probability = output.logits.softmax(1).detach().numpy()
    weighted = log_loss(TARGET, probability, sample_weight=expected[TARGET])
    assert loss(output, batch(TARGET)).item() == pytest.approx(weighted, rel=1e-5)


@pytest.mark.parametrize("weights", [None, "balanced", [0.0, 1.0, 1.0, 2.0]])
def test_parts_add_up_to_the_whole_by_their_counts(output, weights):
    loss = CrossEntropy(TASK, class_weights=weights)
    parts = [slice(0, 1), slice(1, 4), slice(4, 6)]
    sums = counts = 0.0
    for part in parts:
        count = loss.count(batch(TARGET[part]))
        sums += count * loss(Output(output.logits[part], output.fused[part]), batch(TARGET[part]))
        counts += count
    torch.testing.assert_close(sums / counts, loss(output, batch(TARGET)))
    assert float(loss.count(batch(TARGET))) == pytest.approx(float(counts))


def test_a_class_without_training_samples_weighs_nothing():
    """The others are weighed as if it did not exist, which is all that scikit-learn allows."""
    loss = CrossEntropy(Task("classification", NAMES, (50, 0, 5, 1)), class_weights="balanced")
    y = TRAIN[TRAIN != 1]
    expected = compute_class_weight("balanced", classes=np.array([0, 2, 3]), y=y)
    np.testing.assert_allclose(loss.weight.numpy(), [expected[0], 0, *expected[1:]], rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 3.0], [0.0, 1.0, 1.0, 2.0]])
def test_agrees_with_pytorch_in_value_and_gradient(output, smoothing, weights):
    given = None if weights is None else torch.tensor(weights)
    expected = nn.CrossEntropyLoss(given, label_smoothing=smoothing)(output.logits, torch.tensor(TARGET))
    gradient = torch.autograd.grad(expected, output.logits)[0]
    got = CrossEntropy(TASK, class_weights=weights, label_smoothing=smoothing)(output, batch(TARGET))
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(torch.autograd.grad(got, output.logits)[0], gradient)


def test_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    task = Task("classification", ("a", "b", "c"), (1, 1, 1))
    loss = CrossEntropy(task, class_weights=[1.0, 3.0, 1.0])
    expected = (1 * -math.log(0.5) + 3 * -math.log(0.8)) / 4
    assert loss(Output(logits, torch.zeros(2, 1)), batch([0, 1])).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, "balanced", [0.0, 1.0, 1.0, 2.0]])
def test_whole_shares_are_classes(output, weights, smoothing):
    loss = CrossEntropy(TASK, class_weights=weights, label_smoothing=smoothing)
    shares = batch(np.eye(4, dtype=np.float32)[TARGET].tolist())
    expected, got = loss(output, batch(TARGET)), loss(output, shares)
    torch.testing.assert_close(got, expected)
    gradients = [torch.autograd.grad(value, output.logits)[0] for value in (got, expected)]
    torch.testing.assert_close(*gradients)
    assert float(loss.count(shares)) == pytest.approx(float(loss.count(batch(TARGET))))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 3.0, 2.0]])
def test_mixed_samples_by_hand(output, weights, smoothing):
    shares = np.random.default_rng(0).dirichlet(np.ones(4), 6)
    logits = output.logits.detach().numpy().astype(np.float64)
    w = np.ones(4) if weights is None else np.array(weights)
    smoothed = shares * (1 - smoothing) + smoothing / 4
    expected = -(w * smoothed * log_softmax(logits, 1)).sum() / (w * shares).sum()
    loss = CrossEntropy(TASK, class_weights=weights, label_smoothing=smoothing)
    mixed = batch(shares.astype(np.float32).tolist())
    assert loss(output, mixed).item() == pytest.approx(expected, rel=1e-5)
    assert float(loss.count(mixed)) == pytest.approx((w * shares).sum(), rel=1e-6)


def test_a_mapping_names_the_classes_that_differ():
    assert CrossEntropy(TASK, class_weights={"birch": 4.0, "oak": 0.5}).weight.tolist() == [0.5, 1, 1, 4]


def test_a_batch_that_weighs_nothing_is_zero_and_finite(output):
    loss = CrossEntropy(TASK, class_weights={"oak": 0.0})(output, batch([0] * 6))
    assert loss.item() == 0
    assert torch.autograd.grad(loss, output.logits)[0].isfinite().all()


def test_weights_move_with_the_module():
    loss = CrossEntropy(TASK, class_weights="balanced")
    assert list(loss.state_dict()) == ["weight"]
    assert loss.to(torch.float64).weight.dtype == torch.float64
    assert not list(CrossEntropy(TASK).state_dict())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], "2 weights for 4 classes"),
        ({"mapel": 2.0}, "no class 'mapel'; did you mean 'maple'"),
        ([1.0, 1.0, 1.0, -1.0], "must not be negative"),
        ([1.0, 1.0, 1.0, math.nan], "must not be negative, infinite"),
        ([0.0] * 4, "all zero"),
    ],
)
def test_weights_that_do_not_fit_are_told(weights, message):
    with pytest.raises(RequestError, match=message):
        CrossEntropy(TASK, class_weights=weights)


def test_recipes_may_write_integers():
    options = options_model(CrossEntropy)
    weights = options(class_weights=[1, 2, 3, 4]).class_weights
    assert weights == [1, 2, 3, 4]
    assert all(type(weight) is float for weight in weights)
    assert options(class_weights={"oak": 2}).class_weights == {"oak": 2}
    assert options(class_weights="balanced").class_weights == "balanced"
