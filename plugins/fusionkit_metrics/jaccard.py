"""The Jaccard index of the classes: mean IoU, as maps of land cover are judged by."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from fusionkit.contract import Metric
from fusionkit.metrics import confusion


class Jaccard(Metric):
    """The mean over classes of the intersection over union: samples of a class that are called so, over those that are
    of it or called so. A class that is neither in the reference nor predicted has no part in the mean.
    """

    def compute(self, target: Int[np.ndarray, " n"], answers: Float[np.ndarray, "n K"]) -> float:
        counts = confusion(target, answers.argmax(1), answers.shape[1])
        hits = np.diagonal(counts)
        union = counts.sum(0) + counts.sum(1) - hits
        return float((hits[union > 0] / union[union > 0]).mean())
