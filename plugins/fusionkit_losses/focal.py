"""Focal loss."""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F

from fusionkit.contract import Loss
from fusionkit.errors import RequestError
from fusionkit.flow import Batch, Output, Task
from fusionkit.options import Probability
from fusionkit_losses.class_weights import ClassWeights, weights_from, weights_of


class Focal(Loss):
    """Cross-entropy that turns down what is predicted well already.

    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017. With p the probability of the right answer:

        FL(p) = -(1 - p)^gamma log p

    Of a classification p is the softmax's for the class, and a sample's loss is w_k FL(p_k), its mean weighted as that
    of `cross_entropy`, which this is with gamma = 0. Of mixed samples it is the sum of their classes' by their shares.

    Of several labels p is the sigmoid's, of having the label or of not having it, and the loss is a mean over labels
    and samples: alpha FL(p) where a sample has the label, (1 - alpha) FL(1 - p) where not, or both without a factor.

    Args:
        task: what is predicted, with the class counts of the training split.
        gamma: how much it is turned down; the paper found 2 best.
        class_weights: of a classification, as in `cross_entropy`.
        alpha: of several labels; the paper has 0.25 beside gamma = 2.

    Raises:
        RequestError: the weights do not fit the classes, or are of the other kind of task.
    """

    tasks = ("classification", "multilabel")
    reads_logits_alone = True
    weight: Tensor | None

    def __init__(
        self,
        task: Task,
        *,
        gamma: NonNegativeFloat = 2.0,
        class_weights: ClassWeights = None,
        alpha: Probability | None = None,
    ):
        super().__init__(task)
        if task.kind == "multilabel" and class_weights is not None:
            raise RequestError("class_weights are for one class a sample; of several labels give alpha")
        if task.kind == "classification" and alpha is not None:
            raise RequestError("alpha is for several labels a sample; of one class give class_weights")
        self.gamma, self.alpha = gamma, alpha
        self.register_buffer("weight", weights_from(class_weights, task))

    def forward(self, output: Output, batch: Batch) -> Float[Tensor, ""]:
        logits = output.logits.float()
        if self.task.kind == "multilabel":
            yes, no = self._focal(F.logsigmoid(logits)), self._focal(F.logsigmoid(-logits))
            if self.alpha is not None:
                yes, no = self.alpha * yes, (1 - self.alpha) * no
            return (batch.target * yes + (1 - batch.target) * no).mean()
        soft = batch.target.is_floating_point()
        shares = batch.target if soft else F.one_hot(batch.target, self.task.outputs)
        each = shares * self._focal(logits.log_softmax(1))
        if self.weight is None:
            return each.sum() / len(batch)
        weight = weights_of(batch.target, self.weight).sum()
        return (each * self.weight).sum() / torch.where(weight > 0, weight, 1.0)

    def count(self, batch: Batch) -> float | Tensor:
        return float(len(batch)) if self.weight is None else weights_of(batch.target, self.weight).sum()

    def _focal(self, log_p: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        # Where p is one, a power below one has an infinite slope, and infinity times log 1 is no number.
        rest = (-log_p.expm1()).clamp(min=torch.finfo(log_p.dtype).tiny)
        return -(rest**self.gamma) * log_p
