"""Feature vectors."""

from __future__ import annotations

import math
from itertools import pairwise

from jaxtyping import Bool, Float
from pydantic import PositiveInt
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
    """

    def __init__(
        self,
        spec: InputSpec,
        *,
        width: PositiveInt = 128,
        depth: PositiveInt = 2,
        dropout: Probability = 0.2,
        tokens: PositiveInt = 1,
    ):
        super().__init__(spec)
        self.tokens = tokens
        sizes = [math.prod(spec.shape), *[width] * depth]
        for before, after in pairwise(sizes):
            layer = nn.Sequential(nn.Linear(before, after), nn.LayerNorm(after), nn.GELU(), nn.Dropout(dropout))
            self.stages.append(layer)
        self.spread = nn.Linear(width, tokens * width) if tokens > 1 else nn.Identity()

    def embed(self, value: Float[Tensor, "B ..."], valid: Bool[Tensor, "B T"] | None) -> Features:
        if valid is not None:
            value = value.masked_fill(~valid.reshape(*valid.shape, *[1] * (value.dim() - 2)), 0)
        return Features.from_vector(value.flatten(1))

    def finish(self, features: Features) -> Features:
        spread = self.spread(features.tokens)
        return features.with_tokens(spread.reshape(len(spread), self.tokens, -1))
