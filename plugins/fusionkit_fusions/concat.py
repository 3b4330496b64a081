"""Concatenation."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.contract import Fusion
from fusionkit.flow import Features, FeatureSpec
from fusionkit.options import Probability
from fusionkit_fusions.projection import Projections


class Concat(Fusion):
    """Projects each modality's pooled features, concatenates them, and mixes them in an MLP.

    An absent modality's part of the concatenation is zero.

    Args:
        inputs: per modality, the shape of its features.
        dim: width of each projection and of the result.
        dropout: on the concatenation and on the result.
    """

    def __init__(self, inputs: Mapping[str, FeatureSpec], *, dim: PositiveInt = 256, dropout: Probability = 0.1):
        super().__init__(inputs)
        self.project = Projections(inputs, dim)
        self.mix = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(len(inputs) * dim, dim),
            nn.LayerNorm(dim),
            nn.GELU(),
            nn.Dropout(dropout),
        )

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        vectors = F.gelu(self.project(features))  # [M, B, D]; gelu(0) is 0, so absent stays absent
        return self.mix(vectors.transpose(0, 1).flatten(1))
