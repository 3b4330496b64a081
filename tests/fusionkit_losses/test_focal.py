"""Focal loss, against torchvision, NumPy and cross-entropy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fusionkit_losses.cross_entropy import CrossEntropy
from fusionkit_losses.focal import Focal
from scipy.special import softmax
from torchvision.ops import sigmoid_focal_loss

from fusionkit.errors import RequestError
from fusionkit.flow import Batch, Output, Task
from fusionkit.testing import LossSuite

NAMES = ("oak", "pine", "maple")
CLASSES = Task("classification", NAMES, (6, 3, 1), 10)
LABELS = Task("multilabel", NAMES, (6, 3, 1), 10)
WEIGHTS = [0.5, 1.0, 4.0]


class TestSuite(LossSuite):
    component = Focal


class TestSuiteOfWeights(LossSuite):
    component = Focal
    options = {"gamma": 0.5, "class_weights": "balanced"}


def batch(target: torch.Tensor) -> Batch:
    return Batch({}, {}, target, torch.arange(len(target)))


@pytest.fixture
def output() -> Output:
    logits = 3 * torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    return Output(logits.requires_grad_(), torch.zeros(8, 1))


TARGET = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])
SHARES = torch.rand(8, 3, generator=torch.Generator().manual_seed(1)).softmax(1)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("target", [TARGET, SHARES], ids=["classes", "mixed"])
def test_by_hand(output, gamma, weights, target):
    p = softmax(output.logits.detach().numpy().astype(np.float64), axis=1)
    w = np.ones(3) if weights is None else np.array(weights)
    total = weight = 0.0
    for row, (shares, classes) in enumerate(zip(target.tolist(), p, strict=True)):
        shares = shares if isinstance(shares, list) else np.eye(3)[target[row]]
        for k, share in enumerate(shares):
            total += share * w[k] * (1 - classes[k]) ** gamma * -np.log(classes[k])
            weight += share * w[k]
    loss = Focal(CLASSES, gamma=gamma, class_weights=weights)
    assert loss(output, batch(target)).item() == pytest.approx(total / weight, rel=1e-5)
    assert float(loss.count(batch(target))) == pytest.approx(weight, rel=1e-6)


@pytest.mark.parametrize("weights", [None, WEIGHTS, "balanced"])
@pytest.mark.parametrize("target", [TARGET, SHARES], ids=["classes", "mixed"])
def test_with_gamma_zero_it_is_cross_entropy(output, weights, target):
    one, other = Focal(CLASSES, gamma=0.0, class_weights=weights), CrossEntropy(CLASSES, class_weights=weights)
    values = [loss(output, batch(target)) for loss in (one, other)]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*[torch.autograd.grad(value, output.logits)[0] for value in values])


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
@pytest.mark.parametrize("alpha", [None, 0.25, 1.0])
def test_labels_are_torchvisions_in_value_and_gradient(output, gamma, alpha):
    target = (SHARES > 0.33).float()
    expected = sigmoid_focal_loss(output.logits, target, -1 if alpha is None else alpha, gamma, reduction="mean")
    got = Focal(LABELS, gamma=gamma, alpha=alpha)(output, batch(target))
    torch.testing.assert_close(got, expected)
    gradients = [torch.autograd.grad(value, output.logits)[0] for value in (got, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_mixed_labels_are_the_mixture_of_their_losses(output):
    one, other = (SHARES > 0.33).float(), (SHARES < 0.3).float()
    loss = Focal(LABELS, alpha=0.25)
    expected = 0.3 * loss(output, batch(one)) + 0.7 * loss(output, batch(other))
    torch.testing.assert_close(loss(output, batch(0.3 * one + 0.7 * other)), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(("task", "target"), [(CLASSES, torch.arange(3)), (LABELS, torch.eye(3))])
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_what_is_quite_sure_has_finite_gradients(gamma, task, target, scale):
    """torchvision's has none for gamma below one."""
    logits = (scale * (2 * torch.eye(3) - 1)).requires_grad_()
    value = Focal(task, gamma=gamma)(Output(logits, torch.zeros(3, 1)), batch(target))
    assert value.item() == 0 if scale > 0 else value.item() > 1e3
    assert torch.autograd.grad(value, logits)[0].isfinite().all()


def test_a_batch_that_weighs_nothing_is_zero_and_finite(output):
    value = Focal(CLASSES, class_weights={"oak": 0.0})(output, batch(torch.zeros(8, dtype=torch.int64)))
    assert value.item() == 0
    assert torch.autograd.grad(value, output.logits)[0].isfinite().all()


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (LABELS, {"class_weights": "balanced"}, "give alpha"),
        (CLASSES, {"alpha": 0.25}, "give class_weights"),
        (CLASSES, {"class_weights": [1.0]}, "1 weights for 3 classes"),
    ],
)
def test_weights_that_do_not_fit_are_told(task, options, message):
    with pytest.raises(RequestError, match=message):
        Focal(task, **options)
