"""Modality dropout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeAlias

import numpy as np
from pydantic import Field

from fusionkit.contract import Augmentation, Sample
from fusionkit.errors import RequestError, suggestion
from fusionkit.flow import InputSpec

Share: TypeAlias = Annotated[float, Field(gt=0, lt=1)]


class ModalityDropout(Augmentation):
    """Drops whole modalities of a sample, each by a draw of its own, but never all that the sample has.

    ModDrop of Neverova, Wolf, Taylor, Nebout: ModDrop: Adaptive Multi-Modal Gesture Recognition, TPAMI 2016:

        delta_m ~ Bernoulli(1 - p_m) for each sample and modality; where delta_m = 0, modality m is absent

    so that the fusion learns to do without any of them and not to lean on the strongest. The paper puts zeros in the
    place of what is dropped; here the modality is marked as absent, which every fusion honours and which a recipe's
    `absent` decides about. Where the draws would drop all that a sample has, one of them, drawn at random, stays.

    Args:
        inputs: per modality, the shape of its arrays.
        probability: of each modality to be dropped; or a mapping from modalities to theirs, where others stay.

    Raises:
        RequestError: a modality is unknown, or there are not two.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], *, probability: Share | dict[str, Share] = 0.2):
        super().__init__(inputs)
        if len(inputs) < 2:
            raise RequestError(f"modality_dropout needs two modalities or more; there is {', '.join(inputs)} alone")
        if isinstance(probability, Mapping):
            if not probability:
                raise RequestError("modality_dropout: the mapping of probabilities is empty")
            for name in probability:
                if name not in inputs:
                    raise RequestError(f"modality_dropout: there is no modality {name!r}{suggestion(name, inputs)}")
            self.probability = dict(probability)
        else:
            self.probability = dict.fromkeys(inputs, probability)
        self.makes_absent = frozenset(self.probability)

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        # A draw for each modality, whether it is there or not: what is absent changes nothing for the others.
        draws = {name: random.random() / share for name, share in self.probability.items()}
        # A sample may hold more than is the model's own: what a teacher reads.
        held = [name for name in self.inputs if sample.get(name) is not None]
        dropped = {name for name in held if draws.get(name, 1.0) < 1}
        if len(dropped) == len(held):
            # Given that it is below 1, a draw is uniform: the greatest is a fair choice.
            dropped -= {max(dropped, key=draws.__getitem__, default="")}
        return {name: None if name in dropped else value for name, value in sample.items()}
