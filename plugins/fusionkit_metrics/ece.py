"""Expected calibration error (Guo et al., On Calibration of Modern Neural Networks, ICML 2017)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from pydantic import PositiveInt

from fusionkit.contract import Metric
from fusionkit.flow import Task


class ECE(Metric):
    """How far the probability of the predicted class is from the share that is right: samples are put into bins of that
    probability, all of one width, and the distance of each bin's mean probability from its accuracy is averaged over
    the samples. Less is better.

    Few samples make it too large, and resamples of them more so: its interval lies too high.

    Args:
        task: what is predicted.
        bins: how many between 0 and 1; a bin has its upper bound.
    """

    higher_is_better = False

    def __init__(self, task: Task, *, bins: PositiveInt = 15):
        super().__init__(task)
        self.bins = bins

    def compute(self, target: Int[np.ndarray, " n"], answers: Float[np.ndarray, "n K"]) -> float:
        confidence = answers.max(1).astype(np.float64)
        excess = confidence - (answers.argmax(1) == target)
        bin_of = np.digitize(confidence, np.linspace(0, 1, self.bins + 1)[1:-1], right=True)
        return float(np.abs(np.bincount(bin_of, weights=excess)).sum() / len(target))
