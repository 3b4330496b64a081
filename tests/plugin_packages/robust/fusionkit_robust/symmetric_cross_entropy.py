"""Symmetric cross-entropy."""

from __future__ import annotations

import torch
from pydantic import NegativeFloat, NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F

from fusionkit import Batch, Loss, Output, Task


class SymmetricCrossEntropy(Loss):
    """Cross-entropy of the prediction by the label, and of the label by the prediction.

    Wang, Ma, Chen, Luo, Yi, Bailey: "Symmetric Cross Entropy for Robust Learning with Noisy Labels", ICCV 2019. With q
    the label's distribution and p the model's:

        alpha (-sum_k q_k log p_k) + beta (-sum_k p_k log q_k),   where log 0 is taken for `log_zero`

    The second part grows no further than by `beta * -log_zero`, however sure the model is that a label is wrong.
    Of mixed samples q are the shares of the classes.

    Args:
        task: what is predicted.
        alpha: weight of cross-entropy.
        beta: weight of reverse cross-entropy.
        log_zero: A of the paper.
    """

    tasks = ("classification",)
    reads_logits_alone = True

    def __init__(
        self,
        task: Task,
        *,
        alpha: NonNegativeFloat = 0.1,
        beta: NonNegativeFloat = 1.0,
        log_zero: NegativeFloat = -4.0,
    ):
        super().__init__(task)
        self.alpha, self.beta, self.log_zero = alpha, beta, log_zero

    def forward(self, output: Output, batch: Batch) -> Tensor:
        log_p = output.logits.float().log_softmax(1)
        target = batch.target
        q = target if target.is_floating_point() else F.one_hot(target, self.task.outputs).float()
        log_q = torch.where(q > 0, q.clamp(min=1e-30).log(), self.log_zero).clamp(min=self.log_zero)
        forward = -(q * log_p).sum(1)
        reverse = -(log_p.exp() * log_q).sum(1)
        return (self.alpha * forward + self.beta * reverse).mean()
