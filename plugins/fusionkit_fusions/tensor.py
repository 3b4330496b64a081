"""Tensor fusion."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.contract import Fusion
from fusionkit.errors import ShapeError
from fusionkit.flow import Features, FeatureSpec
from fusionkit.options import Probability
from fusionkit_fusions.projection import Projections

LIMIT = 2**16
"""The most entries of the outer product."""


class TensorFusion(Fusion):
    """An MLP on the outer product of all modalities: every product of features of some modalities.

    Zadeh et al., Tensor Fusion Network for Multimodal Sentiment Analysis, EMNLP 2017. With x_m the pooled features
    after a layer norm and z_m = ReLU(W_m x_m + b_m),

        h = MLP([z_1; 1] (x) ... (x) [z_M; 1]).

    An absent modality has z_m = 0: the products without it remain.

    Args:
        inputs: per modality, the shape of its features.
        dim: width of the MLP and of the result.
        width: of each z_m; the outer product has (width + 1) ** M entries.
        dropout: on the outer product and on the result.

    Raises:
        ShapeError: the outer product has more than 65,536 entries.
    """

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        *,
        dim: PositiveInt = 256,
        width: PositiveInt = 8,
        dropout: Probability = 0.1,
    ):
        super().__init__(inputs)
        entries = (width + 1) ** len(inputs)
        if entries > LIMIT:
            raise ShapeError(
                f"tensor: the outer product of {len(inputs)} modalities of width {width} has {entries:,} entries, "
                f"more than {LIMIT:,}; make `width` smaller, or use lmf"
            )
        self.project = Projections(inputs, width)
        self.mix = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(entries, dim), nn.ReLU(), nn.Linear(dim, dim), nn.Dropout(dropout)
        )

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        first, *others = F.pad(self.project(features).relu(), (0, 1), value=1.0)
        outer = first
        for other in others:
            outer = torch.einsum("bi,bj->bij", outer, other).flatten(1)
        return self.mix(outer)
