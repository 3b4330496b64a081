"""Concatenation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.contract import Fusion
from fusionkit.flow import Features, FeatureSpec
from fusionkit.options import Probability
from fusionkit_fusions.projection import Norm, Projections


class Concat(Fusion):
    """Normalises and projects each modality's pooled features, concatenates them, and mixes them in an MLP.

    An absent modality's part of the concatenation is zero. Batch norm counts its zeros before the norm among the
    batch's statistics, and uses its running statistics where it trains on a batch of one.

    Args:
        inputs: per modality, the shape of its features.
        dim: width of each projection and of the result.
        dropout: on the concatenation and on the result.
        project: whether each modality goes through a linear layer and a GELU first; otherwise it keeps its width.
        norm: of each modality's pooled features: layer norm, batch norm, division by the length, or none.
    """

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        *,
        dim: PositiveInt = 256,
        dropout: Probability = 0.1,
        project: bool = True,
        norm: Norm = "layer",
    ):
        super().__init__(inputs)
        self.project = Projections(inputs, dim if project else None, norm)
        self.activate = F.gelu if project else nn.Identity()
        self.mix = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(len(inputs) * dim if project else sum(spec.dim for spec in inputs.values()), dim),
            nn.LayerNorm(dim),
            nn.GELU(),
            nn.Dropout(dropout),
        )

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        parts = torch.cat(self.project.each(features), dim=1)
        return self.mix(self.activate(parts))  # gelu(0) is 0, so absent stays absent
