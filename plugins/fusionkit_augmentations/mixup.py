"""MixUp."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import PositiveFloat

from fusionkit.flow import InputSpec, Task
from fusionkit.options import Probability
from fusionkit_augmentations.pair_mixing import PairMixing, Shares


class MixUp(PairMixing):
    """Mixes each sample with another one of the batch, in all modalities and in the target, with one coefficient.

    Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018. With partners i and j and one draw a batch:

        x = lam x_i + (1 - lam) x_j,  y = lam y_i + (1 - lam) y_j,  lam ~ Beta(alpha, alpha)

    Both are float32: of a classification y are shares of the classes, of several labels and of quantities mixed
    numbers. Partners have the same modalities, and what is absent stays so; a sample without such a partner stays as it
    is. Of sequences of different length, the steps that the shorter one lacks are zero, and the mixture is as long as
    the longer one.

    Args:
        inputs: per modality, the shape of its arrays.
        task: what is predicted.
        alpha: of the Beta distribution: small for mixtures that are almost one of the two. The paper has 0.2 for
            ImageNet, 1 for CIFAR.
        probability: of a batch to be mixed.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        task: Task,
        *,
        alpha: PositiveFloat = 0.2,
        probability: Probability = 1.0,
    ):
        super().__init__(inputs, task, alpha, probability)

    def draw(self, random: np.random.Generator) -> tuple[float, Shares]:
        share = 1 - random.beta(self.alpha, self.alpha)
        return share, lambda _: np.full(1, share)
