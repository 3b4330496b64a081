"""Binary cross-entropy, against scikit-learn and PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fusionkit_losses.binary_cross_entropy import BinaryCrossEntropy
from scipy.special import expit
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight

from fusionkit.errors import RequestError
from fusionkit.flow import Batch, Output, Task
from fusionkit.options import options_model
from fusionkit.testing import LossSuite

NAMES = ("urban", "water", "forest")
TASK = Task("multilabel", NAMES, (15, 4, 10), 20)


class TestSuite(LossSuite):
    component = BinaryCrossEntropy


class TestSuiteOfWeights(LossSuite):
    component = BinaryCrossEntropy
    options = {"pos_weight": "balanced", "label_smoothing": 0.1}


def batch(target: torch.Tensor) -> Batch:
    return Batch({}, {}, target, torch.arange(len(target)))


@pytest.fixture
def output() -> Output:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    return Output(logits.requires_grad_(), torch.zeros(6, 1))


TARGET = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 0, 1]]).float()


def test_it_is_the_mean_log_loss_of_the_labels(output):
    p = expit(output.logits.detach().numpy())
    expected = np.mean([log_loss(TARGET[:, k], p[:, k]) for k in range(3)])
    assert BinaryCrossEntropy(TASK)(output, batch(TARGET)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", [[3.0, 0.5, 1.0], {"urban": 3.0, "water": 0.5}, "balanced"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_by_hand(output, weights, smoothing):
    w = [5 / 15, 16 / 4, 10 / 10] if weights == "balanced" else [3.0, 0.5, 1.0]
    p = expit(output.logits.detach().numpy().astype(np.float64))
    y = TARGET.numpy() * (1 - smoothing) + smoothing / 2
    expected = -(w * y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    loss = BinaryCrossEntropy(TASK, pos_weight=weights, label_smoothing=smoothing)
    assert loss(output, batch(TARGET)).item() == pytest.approx(expected, rel=1e-5)


def test_balanced_has_both_sides_weigh_the_same():
    """As scikit-learn balances the two classes of having the label and not."""
    loss = BinaryCrossEntropy(TASK, pos_weight="balanced")
    for positives, weight in zip(TASK.class_counts, loss.pos_weight.tolist(), strict=True):
        y = np.arange(20) < positives
        no, yes = compute_class_weight("balanced", classes=np.array([False, True]), y=y)
        assert weight == pytest.approx(yes / no)


def test_labels_that_none_or_all_have_weigh_one():
    loss = BinaryCrossEntropy(Task("multilabel", NAMES, (0, 20, 4), 20), pos_weight="balanced")
    assert loss.pos_weight.tolist() == [1, 1, 4]


def test_mixed_labels_are_the_mixture_of_their_losses(output):
    other = TARGET.flip(0)
    loss = BinaryCrossEntropy(TASK, pos_weight="balanced", label_smoothing=0.1)
    expected = 0.3 * loss(output, batch(TARGET)) + 0.7 * loss(output, batch(other))
    torch.testing.assert_close(loss(output, batch(0.3 * TARGET + 0.7 * other)), expected)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], "pos_weight: 2 weights for 3 labels"),
        ({"wather": 2.0}, "pos_weight: there is no label 'wather'; did you mean 'water'"),
        ([1.0, 1.0, -1.0], "pos_weight: weights must not be negative"),
        ([1.0, 1.0, math.inf], "pos_weight: weights must not be negative, infinite"),
    ],
)
def test_weights_that_do_not_fit_are_told(weights, message):
    with pytest.raises(RequestError, match=message):
        BinaryCrossEntropy(TASK, pos_weight=weights)


def test_weights_move_with_the_module():
    assert list(BinaryCrossEntropy(TASK, pos_weight="balanced").state_dict()) == ["pos_weight"]


def test_recipes_may_write_integers():
    assert options_model(BinaryCrossEntropy)(pos_weight={"urban": 2}).pos_weight == {"urban": 2}
