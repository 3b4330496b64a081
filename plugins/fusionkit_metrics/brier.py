"""The Brier score (Brier, Monthly Weather Review 1950)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from fusionkit.contract import Metric


class Brier(Metric):
    """The mean over samples of the squared distance between the probabilities and what was true, summed over classes:
    0 where every sample's class was certain, 2 where every one was certain and wrong. Less is better.

    Of two classes it is twice the score that is known by this name where only one probability is told.
    """

    higher_is_better = False

    def compute(self, target: Int[np.ndarray, " n"], answers: Float[np.ndarray, "n K"]) -> float:
        distance = answers.astype(np.float64)
        distance[np.arange(len(target)), target] -= 1
        return float((distance**2).sum(1).mean())
