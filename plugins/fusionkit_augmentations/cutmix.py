"""CutMix."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import PositiveFloat

from fusionkit.flow import InputSpec, Task
from fusionkit.options import Probability
from fusionkit_augmentations.pair_mixing import PairMixing, Shares


class CutMix(PairMixing):
    """Pastes a box of another sample of the batch into each sample, in all modalities, and mixes the targets alike.

    Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, ICCV 2019. The
    box has the sides sqrt(1 - lam), lam ~ Beta(alpha, alpha), a random centre, and ends at the border; with A the area
    that is left, as a share of the whole, the target is (1 - A) y_i + A y_j. One draw a batch.

    The box is the same in every modality with a grid, in relative coordinates. Cells on its border are mixed by the
    share of them that it covers, so that A is exact whatever the grid. Of a sequence, a stretch of the share A of its
    steps is replaced, at one random place in all sequences, its ends mixed likewise; of a vector, which has no place,
    all numbers are mixed with A.

    All is float32 then. Partners have the same modalities, and what is absent stays so; a sample without such a partner
    stays as it is. Sequences of different length are cut at full length, the steps that one lacks are zero beside those
    of the other, and a step is real where something of a real one is in it.

    Args:
        inputs: per modality, the shape of its arrays.
        task: what is predicted.
        alpha: of the Beta distribution; 1, as in the paper, makes all areas equally likely before they are cut off.
        probability: of a batch to be mixed.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        task: Task,
        *,
        alpha: PositiveFloat = 1.0,
        probability: Probability = 1.0,
    ):
        super().__init__(inputs, task, alpha, probability)

    def draw(self, random: np.random.Generator) -> tuple[float, Shares]:
        half = (1 - random.beta(self.alpha, self.alpha)) ** 0.5 / 2
        centre = random.random(2)
        (top, left), (bottom, right) = np.maximum(centre - half, 0), np.minimum(centre + half, 1)
        area = float((bottom - top) * (right - left))
        begin = random.random() * (1 - area)

        def shares(spec: InputSpec) -> np.ndarray:
            if len(spec.shape) == 1:
                return np.full(1, area)
            if len(spec.shape) == 2:
                return _covered(spec.shape[0], begin, begin + area)[:, np.newaxis]
            height, width = spec.shape[-2:]
            return np.outer(_covered(height, top, bottom), _covered(width, left, right))

        return area, shares


def _covered(cells: int, begin: float, end: float) -> np.ndarray:
    """What share of each cell lies between two places from 0 to 1."""
    edges = np.arange(cells + 1) / cells
    overlap = np.minimum(edges[1:], end) - np.maximum(edges[:-1], begin)
    covered: np.ndarray = np.clip(overlap * cells, 0, 1)
    return covered
