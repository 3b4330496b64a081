"""One transformer over the tokens of all modalities."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from fusionkit.contract import Fusion
from fusionkit.flow import Features, FeatureSpec
from fusionkit.options import Probability
from fusionkit_fusions.attention import Layer, Tokenizers, Tokens, together


class JointTransformer(Fusion):
    """A class token and the tokens of all modalities as one sequence, through self-attention.

    Kim, Son, Kim: "ViLT: Vision-and-Language Transformer Without Convolution or Region Supervision", ICML 2021, over
    features in the place of patches and words. z = [class; X_1; ...; X_M], X with positions of each modality's own;
    z += MultiHead(LN z), z += FFN(LN z), depth times; the result is LN of the class token. Tokens of absent modalities
    are masked.

    Args:
        inputs: per modality, the shape of its features.
        dim: width of the tokens and of the result.
        heads: of each attention.
        depth: layers.
        dropout: of attention weights and updates.
    """

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        *,
        dim: PositiveInt = 128,
        heads: PositiveInt = 4,
        depth: PositiveInt = 2,
        dropout: Probability = 0.1,
    ):
        super().__init__(inputs)
        self.tokens = Tokenizers(inputs, dim)
        self.class_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, dim), std=0.02))
        self.layers = nn.ModuleList(Layer(dim, heads, dropout, cross=False) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        tokens = list(self.tokens(features).values())
        z = together([Tokens(self.class_token.expand(len(tokens[0].value), -1, -1)), *tokens])
        for layer in self.layers:
            z = layer(z)
        return self.norm(z.value[:, 0])
