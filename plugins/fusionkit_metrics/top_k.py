"""Top-k accuracy."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from pydantic import PositiveInt

from fusionkit.contract import Metric
from fusionkit.errors import RequestError
from fusionkit.flow import Task


class TopK(Metric):
    """The share of samples whose class is among the k most probable ones; of equal probabilities the first counts.

    Args:
        task: what is predicted.
        k: how many; fewer than there are classes, since of all of them one is always right.
    """

    def __init__(self, task: Task, *, k: PositiveInt = 5):
        super().__init__(task)
        if k >= len(task.class_names):
            raise RequestError(f"k is {k} of {len(task.class_names)} classes, so every answer would be right")
        self.k = k

    def compute(self, target: Int[np.ndarray, " n"], answers: Float[np.ndarray, "n K"]) -> float:
        own = answers[np.arange(len(target)), target][:, np.newaxis]
        earlier = np.arange(answers.shape[1]) < target[:, np.newaxis]
        before = (answers > own) | ((answers == own) & earlier)
        return float((before.sum(1) < self.k).mean())
