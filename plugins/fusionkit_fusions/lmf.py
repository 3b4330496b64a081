"""Low-rank multimodal fusion."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.contract import Fusion
from fusionkit.flow import Features, FeatureSpec


class LMF(Fusion):
    """A linear layer on the outer product of all modalities, whose weight tensor has a low rank.

    Liu et al., Efficient Low-rank Multimodal Fusion with Modality-Specific Factors, ACL 2018. With x_m the pooled
    features, R the rank and F_m^r the factors,

        h = b + sum_r w_r * prod_m ([1; x_m] F_m^r).

    An absent modality is the constant 1 alone, [1; 0], so that terms without it remain.

    Args:
        inputs: per modality, the shape of its features.
        dim: width of the result.
        rank: how many products are added up.
    """

    def __init__(self, inputs: Mapping[str, FeatureSpec], *, dim: PositiveInt = 256, rank: PositiveInt = 4):
        super().__init__(inputs)
        self.factors = nn.ParameterDict(
            {name: nn.Parameter(torch.empty(rank, spec.dim + 1, dim)) for name, spec in inputs.items()}
        )
        self.weights = nn.Parameter(torch.empty(1, rank))
        self.bias = nn.Parameter(torch.zeros(1, dim))
        # Each part begins with a variance of one: products of smaller ones would vanish with every modality more.
        for factor in self.factors.values():
            nn.init.normal_(factor, std=factor.shape[1] ** -0.5)
        nn.init.xavier_normal_(self.weights)

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        product: Tensor | None = None
        for name, factor in self.factors.items():
            vector = F.pad(features[name].pooled, (1, 0), value=1.0)
            part = torch.einsum("bd,rdo->bro", vector, factor)
            product = part if product is None else product * part
        return torch.einsum("r,bro->bo", self.weights[0], product) + self.bias
