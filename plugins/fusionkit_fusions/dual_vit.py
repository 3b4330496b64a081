"""Dual-ViT blocks between modalities."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from fusionkit_encoders.depthwise_ffn import Grid
from fusionkit_encoders.dual_vit_blocks import (
    OUTER_EPS,
    ClassBlock,
    DualBlock,
    Embed,
    MergeBlock,
    SemanticTokens,
    initialise,
)
from jaxtyping import Bool, Float
from pydantic import PositiveInt
from torch import Tensor, nn

from fusionkit.contract import Fusion
from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import Features, FeatureSpec
from fusionkit.options import Probability

POOLED = 8
"""Semantic tokens that a map has at most along each axis: the paper's 8 x 8."""


class DualViT(Fusion):
    """Dual and Merge blocks whose pixel path reads one modality's map and whose semantic path reads the others' tokens.

    Yao, Li, Pan, Wang, Zhang, Mei: Dual Vision Transformer, TPAMI 2023. There both paths come from one image. With x
    the pixel tokens, s the semantic tokens and x^ = LN(x), a Dual block is

        s += g1 * SelfAttention(LN s);  s += g2 * Attention(query = LN s, key and value = x^);  s += g3 * MLP(LN s)
        x += G1 * Linear(Attention(query = x^, key and value = LN s));  x += G2 * FFN(LN x)

    a Merge block is self-attention over both as one sequence z = [x; s] and an MLP for each kind of token,

        z += G1 * Linear(SelfAttention(LN z));  x += G2 * FFN(LN x);  s += G2 * MLP(LN s)

    and the class block's token, which starts as the mean of all tokens, reads them all and is the result. The scales
    g and G start at 1e-6. FFN has a 3x3 depthwise convolution over the map.

    Where the others have fewer than two tokens in all, or there are none, semantic tokens made of the map as in the
    paper stand beside them: attention to a single token would be no choice.

    Args:
        inputs: per modality, the shape of its features.
        pixel: the modality that the pixel path reads; default: the first with a map of more than one cell.
        dim: D, the width of both paths and of the result.
        heads: of each attention.
        dual_depth: number of Dual blocks.
        merge_depth: number of Merge blocks.
        ratio: hidden width of the pixels' FFN over D.
        drop_path: rate of stochastic depth in the last block; it grows from zero in the first.

    Raises:
        ShapeError: no modality has a map of more than one cell, or the one named has none.
        RequestError: there is no modality of this name, or the heads do not divide the width.
    """

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        *,
        pixel: str | None = None,
        dim: PositiveInt = 256,
        heads: PositiveInt = 8,
        dual_depth: PositiveInt = 2,
        merge_depth: PositiveInt = 1,
        ratio: PositiveInt = 4,
        drop_path: Probability = 0.1,
    ):
        super().__init__(inputs)
        if dim % heads:
            raise RequestError(f"dual_vit divides its width among the heads, and {dim} is no multiple of {heads}")
        self.pixel, self.grid = _pixel_path(inputs, pixel)
        self.embed = nn.ModuleDict({name: Embed(spec.dim, dim) for name, spec in inputs.items()})
        self.semantics = None
        if sum(spec.tokens for name, spec in inputs.items() if name != self.pixel) < 2:
            window = math.ceil(max(self.grid) / POOLED)
            window = min(window, *(max(length, 1) for length in self.grid))
            self.semantics = SemanticTokens(dim, window, (self.grid[0] // window, self.grid[1] // window))
        rates = iter(np.linspace(0, drop_path, dual_depth + merge_depth).tolist())
        self.dual = nn.ModuleList([DualBlock(dim, heads, ratio, next(rates)) for _ in range(dual_depth)])
        self.merge = nn.ModuleList([MergeBlock(dim, heads, ratio, next(rates)) for _ in range(merge_depth)])
        self.class_block = ClassBlock(dim, heads)
        self.norm = nn.LayerNorm(dim, eps=OUTER_EPS)
        self.apply(initialise)

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        tokens = {name: self._embedded(name, features[name]) for name in self.embed}
        x, x_mask = tokens.pop(self.pixel)
        if self.semantics is not None:
            tokens[self.pixel] = self.semantics(x, self.grid, x_mask), self.semantics.pooled_mask(x_mask, self.grid)
        s, s_mask = _joined(list(tokens.values()))
        for block in self.dual:
            x, s = block(x, s, self.grid, x_mask, s_mask)
        z, mask = _joined([(x, x_mask), (s, s_mask)])
        for block in self.merge:
            z = block(z, self.grid, mask)
        mean = Features(z, mask=mask).pooled.unsqueeze(1)
        z, mask = _joined([(mean, None), (z, mask)])
        return self.norm(self.class_block(z, mask)).squeeze(1)

    def _embedded(self, name: str, features: Features) -> _Tokens:
        mask = features.token_mask
        if mask is None:
            return self.embed[name](features.tokens), None
        drop = ~mask.unsqueeze(2)
        return self.embed[name](features.tokens.masked_fill(drop, 0)).masked_fill(drop, 0), mask


_Tokens = tuple[Float[Tensor, "B _ D"], Bool[Tensor, "B _"] | None]
"""Tokens and which of them are real; None: all."""


def _pixel_path(inputs: Mapping[str, FeatureSpec], pixel: str | None) -> tuple[str, Grid]:
    """The modality that the pixel path reads, and its grid."""
    if pixel is not None and pixel not in inputs:
        raise RequestError(f"dual_vit has no modality {pixel!r} for its pixel path, but {', '.join(inputs)}")
    for name in inputs if pixel is None else (pixel,):
        grid = inputs[name].grid
        if grid is not None and grid[0] * grid[1] > 1:
            return name, grid
    raise ShapeError(
        "the pixel path of dual_vit reads a map of more than one cell, and "
        + (f"none of {', '.join(inputs)} has one" if pixel is None else f"{pixel} has none"),
        modality=pixel,
    )


def _joined(parts: list[_Tokens]) -> _Tokens:
    """Token sequences one after the other."""
    if all(mask is None for _, mask in parts):
        mask = None
    else:
        masks = [torch.ones(t.shape[:2], dtype=torch.bool, device=t.device) if m is None else m for t, m in parts]
        mask = torch.cat(masks, 1)
    return torch.cat([tokens for tokens, _ in parts], 1), mask
