"""Modalities left out at random."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fusionkit.contract import Augmentation, Sample
from fusionkit.errors import RequestError, suggestion
from fusionkit.flow import InputSpec
from fusionkit.options import Probability


class ModalityDropout(Augmentation):
    """Leaves out modalities of a training sample, each by itself, so that a model learns to do without.

    ModDrop: Neverova, Wolf, Taylor, Nebout: "ModDrop: Adaptive Multi-Modal Gesture Recognition", TPAMI 2016. What is
    left out is absent like any other absent input: masked, or replaced by a learned token where the modality says
    `absent: token`. Drawn for each sample, never the last modality that it has: where all would go, one of them stays,
    by lot.

    Args:
        inputs: per modality, the shape of its arrays.
        probability: of each modality to be left out; one number, or a mapping from modalities, where those left out of
            it always stay.

    Raises:
        RequestError: there is no modality of that name.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], *, probability: Probability | dict[str, Probability] = 0.2):
        super().__init__(inputs)
        if isinstance(probability, dict):
            for name in probability:
                if name not in inputs:
                    raise RequestError(f"modality_dropout: there is no modality {name!r}{suggestion(name, inputs)}")
            self.probability = {name: probability.get(name, 0.0) for name in inputs}
        else:
            self.probability = dict.fromkeys(inputs, probability)

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        # As many draws whatever the sample has: what another augmentation draws later does not depend on it.
        draws, lot = random.random(len(self.probability)), random.random()
        there = [name for name, value in sample.items() if value is not None]
        gone = [n for (n, p), draw in zip(self.probability.items(), draws, strict=True) if draw < p and n in there]
        if gone and len(gone) == len(there):
            gone.pop(int(lot * len(gone)))
        return sample | dict.fromkeys(gone)
