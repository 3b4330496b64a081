"""Binary cross-entropy."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from fusionkit.contract import Loss
from fusionkit.flow import Batch, Output, Task
from fusionkit.options import Probability
from fusionkit_losses.class_weights import by_name


class BinaryCrossEntropy(Loss):
    """Cross-entropy of having each label or not; the mean over labels and samples.

        - [ w y log p + (1 - y) log(1 - p) ],  p = sigmoid(logit)

    Args:
        task: what is predicted, with the training samples that have each label.
        pos_weight: w of each label: "balanced" for negatives / positives over the training samples, so that both sides
            weigh the same, and one for a label that none or all of them have; or one weight a label; or a mapping from
            labels to weights, where labels left out weigh one.
        label_smoothing: y moves by this share of the way to one half.

    Raises:
        RequestError: the weights do not fit the labels.
    """

    tasks = ("multilabel",)
    reads_logits_alone = True
    pos_weight: Tensor | None

    def __init__(
        self,
        task: Task,
        *,
        pos_weight: Literal["balanced"] | list[float] | dict[str, float] | None = None,
        label_smoothing: Probability = 0.0,
    ):
        super().__init__(task)
        self.label_smoothing = label_smoothing
        weights = None
        if pos_weight == "balanced":
            weights = torch.tensor([_odds(count, task.samples) for count in task.class_counts])
        elif pos_weight is not None:
            weights = torch.tensor(by_name("pos_weight", pos_weight, task))
        self.register_buffer("pos_weight", weights)

    def forward(self, output: Output, batch: Batch) -> Float[Tensor, ""]:
        target = (1 - self.label_smoothing) * batch.target.float() + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(output.logits.float(), target, pos_weight=self.pos_weight)


def _odds(positives: int, samples: int) -> float:
    return (samples - positives) / positives if 0 < positives < samples else 1.0
