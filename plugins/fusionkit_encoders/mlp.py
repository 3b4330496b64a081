"""Feature vectors."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from fusionkit.contract import Encoder
from fusionkit.flow import Features, InputSpec
from fusionkit.options import Probability


class MLP(Encoder):
    """Layers of linear, LayerNorm, GELU and dropout; each is a stage. Other shapes than vectors are flattened.

    Args:
        spec: `(D,)`, or anything.
        width: of each layer and of the features.
        depth: number of layers.
        dropout: after each layer.
        tokens: into how many tokens of this width the features are spread by a last linear layer, so that a fusion
            that attends has a sequence to attend to. One token is the vector itself.
        bins: of a piecewise linear encoding of every number, see `PiecewiseLinear`; it goes with
            `normalize: quantile`. null: none.
    """

    def __init__(
        self,
        spec: InputSpec,
        *,
        width: PositiveInt = 128,
        depth: PositiveInt = 2,
        dropout: Probability = 0.2,
        tokens: PositiveInt = 1,
        bins: Annotated[int, Field(ge=2)] | None = None,
    ):
        super().__init__(spec)
        self.tokens = tokens
        self.encode = nn.Identity() if bins is None else PiecewiseLinear(bins)
        sizes = [math.prod(spec.shape) * (bins or 1), *[width] * depth]
        for before, after in pairwise(sizes):
            layer = nn.Sequential(nn.Linear(before, after), nn.LayerNorm(after), nn.GELU(), nn.Dropout(dropout))
            self.stages.append(layer)
        self.spread = nn.Linear(width, tokens * width) if tokens > 1 else nn.Identity()

    def embed(self, value: Float[Tensor, "B ..."], valid: Bool[Tensor, "B T"] | None) -> Features:
        if valid is not None:
            value = value.masked_fill(~valid.reshape(*valid.shape, *[1] * (value.dim() - 2)), 0)
        return Features.from_vector(self.encode(value.flatten(1)).flatten(1))

    def finish(self, features: Features) -> Features:
        spread = self.spread(features.tokens)
        return features.with_tokens(spread.reshape(len(spread), self.tokens, -1))


class PiecewiseLinear(nn.Module):
    """Turns each number into its place in every bin, so that a linear layer can tell ranges of values apart.

    Gorishniy, Rubachev, Babenko: On Embeddings for Numerical Features in Tabular Deep Learning, NeurIPS 2022, eq. 1:
    that of the bin from a to b is (x - a) / (b - a), cut off at 0 except in the first bin, at 1 except in the last. The
    bins are of even width over -sqrt(3) to sqrt(3), which after `normalize: quantile` are the paper's quantiles.

    Args:
        bins: how many.
    """

    edges: Tensor
    least: Tensor
    most: Tensor

    def __init__(self, bins: int):
        super().__init__()
        least, most = torch.zeros(bins), torch.ones(bins)
        least[0], most[-1] = -torch.inf, torch.inf
        edges = torch.linspace(-math.sqrt(3), math.sqrt(3), bins + 1)
        for name, buffer in (("edges", edges), ("least", least), ("most", most)):
            self.register_buffer(name, buffer, persistent=False)

    def forward(self, value: Float[Tensor, "B N"]) -> Float[Tensor, "B N bins"]:
        low, high = self.edges[:-1], self.edges[1:]
        return ((value.unsqueeze(-1) - low) / (high - low)).clamp(self.least, self.most)
