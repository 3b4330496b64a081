"""Huber loss."""

from __future__ import annotations

from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from fusionkit.contract import Loss
from fusionkit.flow import Batch, Output, Task


class Huber(Loss):
    """Half the squared error up to `delta`, and from there on linear; the mean over quantities and samples.

    Huber, Robust Estimation of a Location Parameter, 1964. With e the error of a standardised quantity:

        e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2)

    Args:
        task: what is predicted.
        delta: in standard deviations of the quantity over the training samples.
    """

    tasks = ("regression", "grounding")
    reads_logits_alone = True

    def __init__(self, task: Task, *, delta: PositiveFloat = 1.0):
        super().__init__(task)
        self.delta = delta

    def forward(self, output: Output, batch: Batch) -> Float[Tensor, ""]:
        return F.huber_loss(output.logits.float(), batch.target.float(), delta=self.delta)
