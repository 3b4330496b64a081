"""Losses of boxes, against stored tensors and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fusionkit_losses.iou import IoU
from torchvision.ops import box_convert

from fusionkit.errors import RequestError
from fusionkit.flow import Batch, Output, Task
from fusionkit.testing import LossSuite

ORACLE = torch.load(Path(__file__).parents[1] / "oracles" / "losses_and_fusion.pt", weights_only=True)["iou_losses"]
CORNERS = ("x1", "y1", "x2", "y2")
PIXELS = Task("regression", CORNERS, samples=5, mean=(0.0,) * 4, std=(1.0,) * 4)
SCALED = Task("regression", CORNERS, samples=5, mean=(40.0, 30.0, 60.0, 55.0), std=(10.0, 8.0, 12.0, 9.0))
KINDS = ["iou", "giou", "diou", "ciou"]


class TestGIoU(LossSuite):
    component = IoU


class TestIoU(LossSuite):
    component = IoU
    options = {"kind": "iou"}


class TestCIoU(LossSuite):
    component = IoU
    options = {"kind": "ciou"}


def value(kind: str, predicted: torch.Tensor, target: torch.Tensor, task: Task = PIXELS) -> torch.Tensor:
    batch = Batch({}, {}, target, torch.arange(len(target)))
    return IoU(task, kind=kind)(Output(predicted, torch.zeros(len(target), 1)), batch)


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_stored_tensors_in_value_and_gradient(kind):
    for row in range(5):
        predicted = ORACLE["pred"][row : row + 1].clone().requires_grad_()
        found = value(kind, predicted, ORACLE["target"][row : row + 1])
        torch.testing.assert_close(found, ORACLE[kind][row], rtol=0, atol=1e-6)
        gradient = torch.autograd.grad(found, predicted)[0][0]
        torch.testing.assert_close(gradient, ORACLE[f"grad_{kind}"][row], rtol=0, atol=1e-6)
    whole = value(kind, ORACLE["pred"], ORACLE["target"])
    torch.testing.assert_close(whole, ORACLE[kind].mean(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_are_compared_in_their_own_units(kind):
    mean, std = torch.tensor(SCALED.mean), torch.tensor(SCALED.std)
    predicted, target = ((10 * ORACLE[name] - mean) / std for name in ("pred", "target"))
    predicted.requires_grad_()
    found = value(kind, predicted, target, SCALED)
    torch.testing.assert_close(found, ORACLE[kind].mean(), rtol=0, atol=1e-5)  # a scale changes no IoU
    gradient = torch.autograd.grad(found, predicted)[0]
    torch.testing.assert_close(gradient, ORACLE[f"grad_{kind}"] / 5 * std / 10, rtol=0, atol=1e-5)


def test_by_hand():
    """Boxes of 2 x 4 and 4 x 2 that share a corner, 2 x 2 of them."""
    one, other = torch.tensor([[0.0, 0.0, 2.0, 4.0]]), torch.tensor([[0.0, 0.0, 4.0, 2.0]])
    loss = 1 - 4 / 12
    far = (1 + 1) / (16 + 16)
    v = 4 / np.pi**2 * (np.arctan(2) - np.arctan(1 / 2)) ** 2
    expected = {"iou": loss, "giou": loss + 4 / 16, "diou": loss + far, "ciou": loss + far + v * v / (loss + v)}
    for kind in KINDS:
        assert value(kind, one, other).item() == pytest.approx(expected[kind], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_disjoint_boxes_draw_near_but_for_iou(kind):
    predicted = torch.tensor([[0.0, 0.0, 2.0, 2.0]], requires_grad=True)
    found = value(kind, predicted, torch.tensor([[5.0, 5.0, 7.0, 7.0]]))
    gradient = torch.autograd.grad(found, predicted)[0]
    assert found.item() == 1 if kind == "iou" else found.item() > 1
    assert gradient.any() == (kind != "iou")


@pytest.mark.parametrize("kind", KINDS)
def test_corners_in_the_wrong_order_are_exchanged(kind):
    predicted = ORACLE["pred"].clone().requires_grad_()
    turned = ORACLE["pred"][:, [2, 1, 0, 3]].clone().requires_grad_()
    values = [value(kind, boxes, ORACLE["target"]) for boxes in (predicted, turned)]
    assert values[0].item() == values[1].item()
    gradients = [torch.autograd.grad(found, boxes)[0] for found, boxes in zip(values, (predicted, turned), strict=True)]
    torch.testing.assert_close(gradients[1][:, [2, 1, 0, 3]], gradients[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("boxes", [[3.0, 3.0, 3.0, 3.0], [0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 5.0, 2.0], [0.0, 0, 0, 4]])
@pytest.mark.parametrize("target", [[0.0, 0.0, 4.0, 4.0], [3.0, 3.0, 3.0, 3.0]])
def test_boxes_without_extent_have_finite_gradients(kind, boxes, target):
    predicted = torch.tensor([boxes], requires_grad=True)
    found = value(kind, predicted, torch.tensor([target]))
    assert 0 <= found.item() <= 2.01
    assert torch.autograd.grad(found, predicted)[0].isfinite().all()


def test_a_box_has_four_quantities():
    with pytest.raises(RequestError, match="four quantities x1, y1, x2, y2 of boxes; the task has 2"):
        IoU(Task("regression", ("height", "biomass"), samples=3, mean=(0.0, 0.0), std=(1.0, 1.0)))


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_of_a_grounding_are_centre_and_size(kind):
    """They are compared as their corners would be."""
    corners = torch.tensor([[[0.1, 0.2, 0.5, 0.9], [0.3, 0.3, 0.6, 0.7]], [[0.2, 0.1, 0.6, 0.8], [0.3, 0.4, 0.5, 0.7]]])
    predicted, target = (box_convert(boxes, "xyxy", "cxcywh") for boxes in corners)
    task = Task("grounding", CORNERS, samples=2)
    torch.testing.assert_close(value(kind, predicted, target, task), value(kind, *corners))
