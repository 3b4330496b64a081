"""A small latent array that reads the tokens of all modalities."""

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


class Perceiver(Fusion):
    """Learned latents read all tokens by cross-attention, then attend to each other, again and again.

    Jaegle, Gimeno, Brock, Vinyals, Zisserman, Carreira: "Perceiver: General Perception with Iterative Attention",
    ICML 2021. With X the tokens of all modalities and Z the latents, `iterations` times:

        Z += MultiHead(query = LN Z, key and value = LN X),  Z += FFN(LN Z)
        Z += MultiHead(LN Z),  Z += FFN(LN Z)                  `depth` times

    The result is LN of the mean latent. Time and memory grow with tokens times latents, not with tokens squared. Each
    iteration has weights of its own; the paper also shares them from the second on.

    Args:
        inputs: per modality, the shape of its features.
        latents: number of them.
        dim: width of tokens, latents and the result.
        heads: of each attention.
        iterations: how often the latents read the tokens.
        depth: layers of self-attention after each reading.
        dropout: of attention weights and updates.
    """

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        *,
        latents: PositiveInt = 16,
        dim: PositiveInt = 128,
        heads: PositiveInt = 4,
        iterations: PositiveInt = 1,
        depth: PositiveInt = 1,
        dropout: Probability = 0.1,
    ):
        super().__init__(inputs)
        self.tokens = Tokenizers(inputs, dim)
        self.latents = nn.Parameter(nn.init.trunc_normal_(torch.empty(latents, dim), std=0.02))
        self.reading = nn.ModuleList(Layer(dim, heads, dropout, cross=True) for _ in range(iterations))
        self.thinking = nn.ModuleList(
            nn.Sequential(*(Layer(dim, heads, dropout, cross=False) for _ in range(depth))) for _ in range(iterations)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        read = together(list(self.tokens(features).values()))
        z = Tokens(self.latents.expand(len(read.value), -1, -1))
        for reading, thinking in zip(self.reading, self.thinking, strict=True):
            z = thinking(reading(z, read))
        return self.norm(z.mean)
