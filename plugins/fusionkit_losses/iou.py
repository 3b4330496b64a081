"""Losses of boxes."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import box_convert, complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

from fusionkit.contract import Loss
from fusionkit.errors import RequestError
from fusionkit.flow import Batch, Output, Task


class IoU(Loss):
    """How little a predicted box covers the true one: with IoU the intersection over the union,

        iou:   1 - IoU, which has no gradient where the boxes are disjoint
        giou:  1 - IoU + |C \\ union| / |C|, C the smallest box around both; Rezatofighi et al., CVPR 2019
        diou:  1 - IoU + d^2 / c^2, d between the centres, c the diagonal of C; Zheng et al., AAAI 2020
        ciou:  diou + alpha v, v of the aspect ratios, alpha = v / (1 - IoU + v) without gradient; the same

    and the mean over samples. A grounding, or a regression of exactly four quantities in the order x1, y1, x2, y2;
    these are brought back to their own units first, since the shapes of standardised boxes mean nothing. Corners that
    come in the wrong order are exchanged, so that any four numbers are a box; one without extent gets the least that
    can be told.

    DETR adds it to `l1`, with weights 2 (giou) and 5.

    Args:
        task: what is predicted.
        kind: which of them.

    Raises:
        RequestError: the task has not four quantities.
    """

    tasks = ("regression", "grounding")
    takes_mixed = False
    reads_logits_alone = True
    mean: Tensor
    std: Tensor

    def __init__(self, task: Task, *, kind: Literal["iou", "giou", "diou", "ciou"] = "giou"):
        super().__init__(task)
        if task.outputs != 4:
            raise RequestError(f"iou needs the four quantities x1, y1, x2, y2 of boxes; the task has {task.outputs}")
        self.of_boxes = {
            "iou": _iou_loss,
            "giou": generalized_box_iou_loss,
            "diou": distance_box_iou_loss,
            "ciou": complete_box_iou_loss,
        }[kind]
        standardised = task.kind == "regression"
        self.register_buffer("mean", torch.tensor(task.mean if standardised else (0.0,) * 4))
        self.register_buffer("std", torch.tensor(task.std if standardised else (1.0,) * 4))

    def forward(self, output: Output, batch: Batch) -> Float[Tensor, ""]:
        return self.of_boxes(self._boxes(output.logits), self._boxes(batch.target)).mean()

    def _boxes(self, given: Float[Tensor, "B 4"]) -> Float[Tensor, "B 4"]:
        """Corners in their own units and in order, from standardised corners, or from centre, width and height."""
        boxes = given.float() * self.std + self.mean
        if self.task.kind == "grounding":
            boxes = box_convert(boxes, "cxcywh", "xyxy")
        first, second = boxes.unflatten(1, (2, 2)).sort(dim=1, stable=True).values.unbind(1)
        # Of width and height zero, the gradient of the aspect ratio would be NaN.
        least = torch.finfo(boxes.dtype).eps * (first.detach().abs() + self.std[2:])
        return torch.cat([first, second + least.masked_fill(second - first >= least, 0)], 1)


def _iou_loss(one: Float[Tensor, "B 4"], other: Float[Tensor, "B 4"]) -> Float[Tensor, " B"]:
    """1 - IoU of each pair; torchvision has it of all pairs alone."""
    common = (torch.minimum(one, other)[:, 2:] - torch.maximum(one, other)[:, :2]).clamp(min=0).prod(1)
    union = (one[:, 2:] - one[:, :2]).prod(1) + (other[:, 2:] - other[:, :2]).prod(1) - common
    return 1 - common / union
