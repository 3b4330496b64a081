"""Mean."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from fusionkit.contract import Fusion
from fusionkit.flow import Features, FeatureSpec
from fusionkit.options import Probability
from fusionkit_fusions.projection import Projections, presence


class Mean(Fusion):
    """Projects the pooled features to a common width and averages them over the modalities that are present.

    A sample without any modality gets zeros.

    Args:
        inputs: per modality, the shape of its features.
        dim: the common width, and that of the result.
        dropout: on the result.
    """

    def __init__(self, inputs: Mapping[str, FeatureSpec], *, dim: PositiveInt = 256, dropout: Probability = 0.1):
        super().__init__(inputs)
        self.project = Projections(inputs, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        count = presence(features).sum(0).clamp(min=1).unsqueeze(1)
        return self.dropout(self.project(features).sum(0) / count)
