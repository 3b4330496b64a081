"""Multimodal bottleneck transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from fusionkit.contract import Fusion
from fusionkit.flow import Features, FeatureSpec
from fusionkit.options import Probability
from fusionkit_fusions.attention import Layer, Tokenizers, Tokens, together
from fusionkit_fusions.projection import presence


class Bottleneck(Fusion):
    """Each modality has a transformer of its own; they speak to each other through a few shared tokens alone.

    MBT: Nagrani, Yang, Arnab, Jansen, Schmid, Sun: "Attention Bottlenecks for Multimodal Fusion", NeurIPS 2021 (eqs. 8
    and 9). With z_m = [class_m; X_m] and the bottleneck tokens f, in each layer:

        [z_m; f_m] = Layer_m([z_m; f])        for each modality m
        f = mean over m of f_m

    The mean is over the modalities that a sample has. The paper averages the logits of the class tokens under one
    linear head, which is that head on their mean: the result is the mean of LN class_m over those present. (With heads
    of their own it is another model: `late`.)

    Args:
        inputs: per modality, the shape of its features.
        bottlenecks: number of shared tokens.
        dim: width of the tokens and of the result.
        heads: of each attention.
        depth: layers.
        dropout: of attention weights and updates.
    """

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        *,
        bottlenecks: PositiveInt = 4,
        dim: PositiveInt = 128,
        heads: PositiveInt = 4,
        depth: PositiveInt = 2,
        dropout: Probability = 0.1,
    ):
        super().__init__(inputs)
        self.tokens = Tokenizers(inputs, dim)
        self.bottleneck = nn.Parameter(nn.init.trunc_normal_(torch.empty(bottlenecks, dim), std=0.02))
        self.class_tokens = nn.ParameterDict(
            {name: nn.Parameter(nn.init.trunc_normal_(torch.empty(1, dim), std=0.02)) for name in inputs}
        )
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: Layer(dim, heads, dropout, cross=False) for name in inputs}) for _ in range(depth)
        )
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in inputs})

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        tokens = self.tokens(features)
        size = len(next(iter(tokens.values())).value)
        present = presence(features)[:, :, None]  # [M, B, 1]
        count = present.sum(0).clamp(min=1)
        streams = {
            name: together([Tokens(self.class_tokens[name].expand(size, -1, -1)), held])
            for name, held in tokens.items()
        }
        shared = self.bottleneck.expand(size, -1, -1)
        number = len(self.bottleneck)
        for layers in self.layers:
            copies = []
            for name, layer in cast("nn.ModuleDict", layers).items():
                after = layer(together([streams[name], Tokens(shared)])).value
                streams[name] = Tokens(after[:, :-number], streams[name].mask)
                copies.append(after[:, -number:])
            shared = torch.stack(copies).masked_fill(~present.unsqueeze(3), 0).sum(0) / count.unsqueeze(2)
        spoken = torch.stack([self.norms[name](stream.value[:, 0]) for name, stream in streams.items()])
        return spoken.masked_fill(~present, 0).sum(0) / count
