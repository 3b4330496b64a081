"""Words that look at the regions of an image, with boxes as prompts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, cast

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torchvision.ops import roi_align

from fusionkit.contract import Fusion
from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import Features, FeatureSpec, Fused
from fusionkit.options import Probability
from fusionkit_fusions.attention import Layer, Tokenizers, Tokens, together

Share = Annotated[float, Field(gt=0, le=1)]
REGRESSION = "[REG]"


class RegionAttention(Fusion):
    """Finds in an image what a phrase names: a token [REG] reads the phrase and the image's regions, again and again.

    The regions are the cells of the image's grid and windows laid over it, each with its box as a prompt:

        region = W LN(RoIAlign(map, box)) + P(box),   P(box) = V [gamma(x1, y1), gamma(x2, y2)]
        gamma(x, y) = [sin, cos] (2 pi G (2 x - 1, 2 y - 1)),   G drawn from a normal distribution and kept

    RoIAlign of He et al., Mask R-CNN, ICCV 2017, of one bin; gamma is the prompt encoding of Kirillov et al., Segment
    Anything, ICCV 2023, after Tancik et al., Fourier Features Let Networks Learn High Frequency Functions, NeurIPS
    2020. With Z = [[REG], words], `depth` times:

        Z += MultiHead(LN Z),  Z += FFN(LN Z)                                        the words among themselves
        Z += MultiHead(query = LN Z, key and value = LN regions),  Z += FFN(LN Z)    they look at the image

    The result is LN of [REG], which is the token of Deng et al., TransVG, ICCV 2021. The image is the first modality
    with a grid; all others are words. Of an absent image nothing is seen; without words [REG] looks by itself.

    Args:
        inputs: per modality, the shape of its features.
        scales: sides of the windows, as shares of the image's; they overlap by half or more. None: the cells alone.
        dim: width of the tokens and of the result, a multiple of four.
        heads: of each attention.
        depth: how often [REG] and the words look.
        dropout: of attention weights and updates.
        keep_attention: hand out the weights of the last look as `Output.attention["NAME<-IMAGE"]`, `[B, heads, N,
            cells]` for the words of each modality, and for [REG]; what a window gets is shared among its cells. It
            costs time and memory, and dropout of weights.

    Raises:
        ShapeError: of several modalities none has a grid.
        RequestError: the width is no multiple of four.
    """

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        *,
        scales: Sequence[Share] = (0.5, 0.25),
        dim: PositiveInt = 128,
        heads: PositiveInt = 4,
        depth: PositiveInt = 2,
        dropout: Probability = 0.1,
        keep_attention: bool = False,
    ):
        super().__init__(inputs)
        self.image = next((name for name, spec in inputs.items() if spec.grid is not None), None)
        if self.image is None and len(inputs) > 1:
            raise ShapeError(f"region_attention looks at a map; {' and '.join(inputs)} have no grid")
        self.keep_attention = keep_attention
        words = {name: spec for name, spec in inputs.items() if name != self.image}
        self.words = Tokenizers(words, dim)
        self.start = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, dim), std=0.02))
        self.regions = Regions(inputs[self.image], scales, dim) if self.image is not None else None
        self.reading = nn.ModuleList(Layer(dim, heads, dropout, cross=False) for _ in range(depth if words else 0))
        self.looking = nn.ModuleList(Layer(dim, heads, dropout, cross=True) for _ in range(depth if self.image else 0))
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"] | Fused:
        words = self.words(features)
        batch = len(next(iter(features.values())).tokens)
        z = together([Tokens(self.start.expand(batch, -1, -1)), *words.values()])
        regions = None if self.regions is None else self.regions(features[str(self.image)])
        weights = None
        for layer in range(max(len(self.reading), len(self.looking))):
            if self.reading:
                z = self.reading[layer](z)
            if regions is not None:
                look = cast(Layer, self.looking[layer])
                if self.keep_attention:
                    z, weights = look.with_weights(z, regions)
                else:
                    z = look(z, regions)
        vector = self.norm(z.value[:, 0])
        return vector if weights is None else Fused(vector, attention=self._told(weights, words))

    def _told(self, weights: Float[Tensor, "B heads N R"], words: Mapping[str, Tokens]) -> dict[str, Tensor]:
        """The weights of each part of the query over the cells."""
        lengths = {REGRESSION: 1} | {name: held.value.shape[1] for name, held in words.items()}
        parts = cast(Regions, self.regions).on_cells(weights).split(list(lengths.values()), dim=2)
        return {f"{name}<-{self.image}": part for name, part in zip(lengths, parts, strict=True)}


class Regions(nn.Module):
    """The cells of a map and windows laid over it, as tokens with their boxes as prompts.

    Args:
        spec: of the map's features.
        scales: sides of the windows, as shares of the map's.
        dim: width of the tokens.

    Raises:
        RequestError: the width is no multiple of four.
    """

    pooling: Tensor
    """How much of each cell is in each region, `[R, cells]`: the cells themselves first."""
    boxes: Tensor
    """Left, top, right and bottom of each region, from 0 to 1, `[R, 4]`."""
    frequencies: Tensor

    def __init__(self, spec: FeatureSpec, scales: Iterable[float], dim: int):
        super().__init__()
        if dim % 4:
            raise RequestError(f"a width of {dim} is no multiple of 4: sine and cosine of two corners")
        assert spec.grid is not None  # noqa: S101 - the caller has looked
        height, width = spec.grid
        cells = torch.eye(height * width)
        windows = torch.cat([tiled(1 / height, 1 / width, overlap=False), *(tiled(side, side) for side in scales)])
        held = windows[len(cells) :]
        in_cells = held * torch.tensor([width, height, width, height])
        image = cells.reshape(1, -1, height, width)  # a channel for each cell
        pooled = roi_align(image, [in_cells], output_size=1, sampling_ratio=-1, aligned=True).flatten(1)
        self.register_buffer("pooling", torch.cat([cells, pooled]), persistent=False)
        self.register_buffer("boxes", windows, persistent=False)
        self.register_buffer("frequencies", torch.randn(2, dim // 4))
        self.content = nn.Sequential(nn.LayerNorm(spec.dim), nn.Linear(spec.dim, dim))
        self.prompt = nn.Linear(dim, dim)

    def forward(self, features: Features) -> Tokens:
        value, mask = features.tokens, features.token_mask
        if mask is None:
            return Tokens(self.content(self.pooling @ value) + self._prompts())
        share = self.pooling * mask.unsqueeze(1)  # of the cells that are real
        total = share.sum(2)
        pooled = share @ value.masked_fill(~mask.unsqueeze(2), 0) / total.clamp(min=_LEAST).unsqueeze(2)
        return Tokens(self.content(pooled) + self._prompts(), total > _LEAST)

    def on_cells(self, weights: Float[Tensor, "B heads N R"]) -> Float[Tensor, "B heads N cells"]:
        """Attention to the regions as attention to the cells in them."""
        return weights @ self.pooling.to(weights.dtype)

    def _prompts(self) -> Float[Tensor, "R D"]:
        turns = 2 * torch.pi * (2 * self.boxes.unflatten(1, (2, 2)) - 1) @ self.frequencies
        prompts: Tensor = self.prompt(torch.cat([turns.sin(), turns.cos()], 2).flatten(1))
        return prompts


def tiled(height: float, width: float, *, overlap: bool = True) -> Float[Tensor, "R 4"]:
    """Boxes of this size all over the unit square, row by row; neighbours overlap by half or more, or not at all."""

    def starts(side: float) -> Tensor:
        return torch.linspace(0, 1 - side, round(1 / side) if not overlap else 1 + math.ceil(2 * (1 - side) / side))

    top, left = torch.meshgrid(starts(height), starts(width), indexing="ij")
    corner = torch.stack([left, top], 2).flatten(0, 1)
    return torch.cat([corner, corner + torch.tensor([width, height])], 1)


_LEAST = 1e-6
"""Of a region that is real, at least so much is."""
