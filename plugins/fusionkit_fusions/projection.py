"""Brings the pooled features of all modalities to one width."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusionkit.flow import Features, FeatureSpec


class Projections(nn.Module):
    """A LayerNorm and a linear layer for each modality.

    The norm makes modalities comparable whatever the scale of their encoder's features.

    Args:
        inputs: per modality, the shape of its features.
        dim: the common width.
    """

    def __init__(self, inputs: Mapping[str, FeatureSpec], dim: int):
        super().__init__()
        self.layers = nn.ModuleDict(
            {name: nn.Sequential(nn.LayerNorm(spec.dim), nn.Linear(spec.dim, dim)) for name, spec in inputs.items()}
        )

    def forward(self, features: Mapping[str, Features], absent: float = 0.0) -> Float[Tensor, "M B D"]:
        """Pool and project every modality; `absent` fills the vectors of samples without it."""
        vectors = []
        for name, layer in self.layers.items():
            vector, present = layer(features[name].pooled), features[name].present
            vectors.append(vector if present is None else vector.masked_fill(~present.unsqueeze(1), absent))
        return torch.stack(vectors)


def presence(features: Mapping[str, Features]) -> Bool[Tensor, "M B"]:
    """Which sample has which modality."""
    return torch.stack(
        [
            feature.tokens.new_ones(feature.tokens.shape[0], dtype=torch.bool)
            if feature.present is None
            else feature.present
            for feature in features.values()
        ]
    )
