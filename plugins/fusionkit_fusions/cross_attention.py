"""Multi-head cross-attention between the tokens of all modalities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import permutations
from typing import cast

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from fusionkit.contract import Fusion
from fusionkit.errors import RequestError, ShapeError, suggestion
from fusionkit.flow import Features, FeatureSpec, Fused
from fusionkit.options import Probability
from fusionkit_fusions.attention import Layer, Tokenizers


class CrossAttention(Fusion):
    """The tokens of each modality read those of each other one; the streams are pooled and mixed.

    Crossmodal attention of Tsai, Bai, Liang, Kolter, Morency, Salakhutdinov: "Multimodal Transformer for Unaligned
    Multimodal Language Sequences", ACL 2019 (eqs. 1 and 4), for every ordered pair a <- b, with X the tokens brought to
    one width and Z_0 = X_a:

        Z_i' = Z_(i-1) + MultiHead(query = LN Z_(i-1), key and value = LN X_b)
        Z_i  = Z_i' + FFN(LN Z_i')

    The streams are averaged over the real tokens of a and mixed by a linear layer. The paper's second transformer over
    the streams of one target is left out: `joint_transformer` attends within.

    A sample without a has zeros in the place of its streams; without b, Z is X_a through the feed-forward layers. With
    `query`, a sample without that modality says nothing but this.

    Args:
        inputs: per modality, the shape of its features.
        query: the only modality that reads the others; default: every one does.
        dim: width of the tokens and of the result.
        heads: of each attention.
        depth: layers of each stream.
        dropout: of attention weights, updates and the result.
        keep_attention: hand out the weights of the last layers as `Output.attention["a<-b"]`, `[B, heads, N_a, N_b]`;
            it costs time and memory, and dropout of weights.

    Raises:
        ShapeError: there is a single modality.
        RequestError: there is no modality of the name `query`.
    """

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        *,
        query: str | None = None,
        dim: PositiveInt = 128,
        heads: PositiveInt = 4,
        depth: PositiveInt = 1,
        dropout: Probability = 0.1,
        keep_attention: bool = False,
    ):
        super().__init__(inputs)
        if len(inputs) < 2:
            raise ShapeError(f"cross_attention reads one modality from another; there is only {', '.join(inputs)}")
        if query is not None and query not in inputs:
            raise RequestError(f"query: there is no modality {query!r}{suggestion(query, inputs)}")
        self.pairs = [(a, b) for a, b in permutations(inputs, 2) if query in (None, a)]
        self.tokens = Tokenizers(inputs, dim)
        self.streams = nn.ModuleList(
            nn.ModuleList(Layer(dim, heads, dropout, cross=True) for _ in range(depth)) for _ in self.pairs
        )
        self.mix = nn.Sequential(nn.Linear(len(self.pairs) * dim, dim), nn.LayerNorm(dim), nn.Dropout(dropout))
        self.keep_attention = keep_attention

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"] | Fused:
        tokens = self.tokens(features)
        attention: dict[str, Tensor] = {}
        pooled = []
        for (a, b), layers in zip(self.pairs, self.streams, strict=True):
            stream = tokens[a]
            for layer in cast("Iterable[Layer]", layers):
                if self.keep_attention:
                    stream, attention[f"{a}<-{b}"] = layer.with_weights(stream, tokens[b])
                else:
                    stream = layer(stream, tokens[b])
            pooled.append(stream.mean)
        vector = self.mix(torch.cat(pooled, 1))
        return Fused(vector, attention=attention) if attention else vector
