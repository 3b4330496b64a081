"""Cross-entropy."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from fusionkit.contract import Loss
from fusionkit.errors import RequestError, suggestion
from fusionkit.flow import Batch, Output, Task
from fusionkit.options import Probability


class CrossEntropy(Loss):
    """Cross-entropy of the main prediction.

    With class weights the mean is weighted: the sum of w[target] * loss divided by the sum of w[target], as PyTorch
    has it. A batch whose weights are all zero gives zero.

    Args:
        task: what is predicted, with the class counts of the training split.
        class_weights: "balanced" for n / (K * count of the class), where K is the number of classes with training
            samples and the others get zero, as in scikit-learn; or one weight a class; or a mapping from class names
            to weights, where classes left out weigh one.
        label_smoothing: share of the target spread evenly over all classes.

    Raises:
        RequestError: the weights do not fit the classes.
    """

    reads_logits_alone = True
    weight: Tensor | None

    def __init__(
        self,
        task: Task,
        *,
        class_weights: Literal["balanced"] | list[float] | dict[str, float] | None = None,
        label_smoothing: Probability = 0.0,
    ):
        super().__init__(task)
        if task.kind != "classification":
            raise RequestError(f"cross_entropy is for classification, and the task is {task.kind}")
        self.label_smoothing = label_smoothing
        weights = None if class_weights is None else _weights(class_weights, task)
        self.register_buffer("weight", None if weights is None else torch.tensor(weights, dtype=torch.float32))

    def forward(self, output: Output, batch: Batch) -> Float[Tensor, ""]:
        if self.weight is None:
            return F.cross_entropy(output.logits, batch.target, label_smoothing=self.label_smoothing)
        total = F.cross_entropy(
            output.logits, batch.target, self.weight, reduction="sum", label_smoothing=self.label_smoothing
        )
        weight = self.weight[batch.target].sum()
        return total / torch.where(weight > 0, weight, 1.0)

    def count(self, batch: Batch) -> float | Tensor:
        return float(len(batch)) if self.weight is None else self.weight[batch.target].sum()


def _weights(given: Literal["balanced"] | list[float] | dict[str, float], task: Task) -> list[float]:
    """One weight a class."""
    names = task.class_names
    if given == "balanced":
        counts = np.array(task.class_counts, dtype=np.float64)
        seen = counts > 0
        weights = np.zeros_like(counts)
        weights[seen] = counts.sum() / (seen.sum() * counts[seen])
        return weights.tolist()
    if isinstance(given, dict):
        for name in given:
            if name not in names:
                raise RequestError(f"class_weights: there is no class {name!r}{suggestion(name, names)}")
        given = [given.get(name, 1.0) for name in names]
    if len(given) != len(names):
        raise RequestError(f"class_weights: {len(given)} weights for {len(names)} classes")
    if not all(math.isfinite(weight) and weight >= 0 for weight in given) or not any(given):
        raise RequestError("class_weights: weights must not be negative, infinite or all zero")
    return [float(weight) for weight in given]
