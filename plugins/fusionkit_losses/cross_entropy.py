"""Cross-entropy."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from fusionkit.contract import Loss
from fusionkit.flow import Batch, Output, Task
from fusionkit.options import Probability
from fusionkit_losses.class_weights import ClassWeights, weights_from, weights_of


class CrossEntropy(Loss):
    """Cross-entropy of the main prediction.

    With class weights the mean is weighted: the sum of w[target] * loss divided by the sum of w[target], as PyTorch
    has it. A batch whose weights are all zero gives zero.

    Of mixed samples (MixUp, CutMix), whose target are shares s_k of the classes, a sample's loss is the sum over k of
    w_k s_k (-log p_k), and it weighs the sum of w_k s_k: a share of one gives what the class gives. PyTorch divides
    by the number of samples there.

    Args:
        task: what is predicted, with the class counts of the training split.
        class_weights: "balanced" for n / (K * count of the class), where K is the number of classes with training
            samples and the others get zero, as in scikit-learn; or one weight a class; or a mapping from class names
            to weights, where classes left out weigh one.
        label_smoothing: share of the target spread evenly over all classes.

    Raises:
        RequestError: the weights do not fit the classes.
    """

    tasks = ("classification",)
    reads_logits_alone = True
    weight: Tensor | None

    def __init__(self, task: Task, *, class_weights: ClassWeights = None, label_smoothing: Probability = 0.0):
        super().__init__(task)
        self.label_smoothing = label_smoothing
        self.register_buffer("weight", weights_from(class_weights, task))

    def forward(self, output: Output, batch: Batch) -> Float[Tensor, ""]:
        logits = output.logits.float()
        if self.weight is None:
            return F.cross_entropy(logits, batch.target, label_smoothing=self.label_smoothing)
        total = F.cross_entropy(
            logits, batch.target, self.weight, reduction="sum", label_smoothing=self.label_smoothing
        )
        weight = weights_of(batch.target, self.weight).sum()
        return total / torch.where(weight > 0, weight, 1.0)

    def count(self, batch: Batch) -> float | Tensor:
        return float(len(batch)) if self.weight is None else weights_of(batch.target, self.weight).sum()
