"""Brings the pooled features of all modalities to one width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.contract import Fusion
from fusionkit.flow import Features, FeatureSpec
from fusionkit.options import Probability

Norm: TypeAlias = Literal["layer", "batch", "l2", "none"]


class Projections(nn.Module):
    """A norm and a linear layer for each modality.

    The norm makes modalities comparable whatever the scale of their encoder's features.

    Args:
        inputs: per modality, the shape of its features.
        dim: the common width; None leaves out the linear layers, and each modality keeps its width.
        norm: what stands before the linear layer.
    """

    def __init__(self, inputs: Mapping[str, FeatureSpec], dim: int | None, norm: Norm = "layer"):
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                name: nn.Sequential(_norm(norm, spec.dim), nn.Identity() if dim is None else nn.Linear(spec.dim, dim))
                for name, spec in inputs.items()
            }
        )

    def forward(self, features: Mapping[str, Features], absent: float = 0.0) -> Float[Tensor, "M B D"]:
        """Pool and project every modality; `absent` fills the vectors of samples without it."""
        return torch.stack(self.each(features, absent))

    def each(self, features: Mapping[str, Features], absent: float = 0.0) -> list[Float[Tensor, "B _"]]:
        """The same one by one, for modalities that keep their widths."""
        return [without(layer(features[name].pooled), features[name], absent) for name, layer in self.layers.items()]


class Elementwise(Fusion):
    """Projects the pooled features to a common width, for a subclass that combines them element by element."""

    def __init__(self, inputs: Mapping[str, FeatureSpec], *, dim: PositiveInt = 256, dropout: Probability = 0.1):
        """Make the projections.

        Args:
            inputs: per modality, the shape of its features.
            dim: the common width, and that of the result.
            dropout: on the result.
        """
        super().__init__(inputs)
        self.project = Projections(inputs, dim)
        self.dropout = nn.Dropout(dropout)


class BatchNorm(nn.BatchNorm1d):
    """Batch norm that trains on a batch of one with its running statistics: one sample has no variance."""

    def forward(self, input: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        if self.training and input.shape[0] == 1:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class UnitLength(nn.Module):
    """Divides each vector by its length; the zero vector stays."""

    def forward(self, vector: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return F.normalize(vector, dim=1)


def _norm(norm: Norm, dim: int) -> nn.Module:
    if norm == "layer":
        return nn.LayerNorm(dim)
    if norm == "batch":
        return BatchNorm(dim)
    return UnitLength() if norm == "l2" else nn.Identity()


def without(vector: Float[Tensor, "B D"], feature: Features, absent: float = 0.0) -> Float[Tensor, "B D"]:
    """The vectors of one modality, filled with `absent` in the samples that lack it."""
    return vector if feature.present is None else vector.masked_fill(~feature.present.unsqueeze(1), absent)


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
