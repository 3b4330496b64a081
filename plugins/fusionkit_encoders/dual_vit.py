"""Dual-ViT: the whole network as published, and as an encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from fusionkit.contract import Encoder
from fusionkit.errors import ShapeError
from fusionkit.flow import Features, InputSpec
from fusionkit.options import Probability
from fusionkit_encoders.depthwise_ffn import Grid, as_map, as_tokens
from fusionkit_encoders.dual_vit_blocks import (
    OUTER_EPS,
    ClassBlock,
    DownSample,
    DualBlock,
    Embed,
    MergeBlock,
    SemanticTokens,
    Stem,
    initialise,
)

MIX_SCALE = 8
"""Cells of the first stage's map along one of the last stage's."""


@dataclass(frozen=True)
class Size:
    """A published size of the network.

    Args:
        stem: width of the first convolutions.
        dims: widths of the stages.
        heads: of the attention in each stage.
        depths: blocks of each stage.
        drop_path: rate of stochastic depth in the last block; it grows from zero in the first.
        ratios: hidden width over width of the FFN in each stage; one less in every second block of the third.
        class_ratio: the same of the class block.
    """

    stem: int
    dims: tuple[int, ...]
    heads: tuple[int, ...]
    depths: tuple[int, ...]
    drop_path: float
    ratios: tuple[int, ...] = (8, 8, 4, 3)
    class_ratio: int = 2


SIZES = {
    "s": Size(32, (64, 128, 320, 448), (2, 4, 10, 14), (3, 4, 6, 3), 0.15),
    "b": Size(64, (64, 128, 320, 512), (2, 4, 10, 16), (3, 4, 15, 3), 0.15),
    "l": Size(64, (96, 192, 384, 512), (3, 6, 12, 16), (3, 6, 21, 3), 0.3),
}


class Stage(nn.Module):
    """One resolution: embeddings of pixel and semantic tokens, blocks, and a norm for each kind of token.

    Args:
        embed: makes pixel tokens of the map, or of the image.
        semantics: makes semantic tokens of the pixel tokens in the first stage, of those before in the others.
        blocks: all of one kind.
        dim: D.
        last: the tokens go on to the head as they are.
    """

    checkpointing: bool = False
    """Keep only the blocks' inputs in training, and run each block again going back."""

    def __init__(
        self,
        embed: Stem | DownSample,
        semantics: SemanticTokens | Embed,
        blocks: Sequence[DualBlock | MergeBlock],
        dim: int,
        *,
        last: bool,
    ):
        super().__init__()
        self.embed, self.semantics, self.blocks = embed, semantics, nn.ModuleList(blocks)
        self.norm = nn.Identity() if last else nn.LayerNorm(dim, eps=OUTER_EPS)
        self.semantic_norm = nn.Identity() if last else nn.LayerNorm(dim, eps=OUTER_EPS)

    def forward(
        self, x: Float[Tensor, "B N D"], grid: Grid, semantics: Float[Tensor, "B S E"] | None
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B _ D"]]:
        """Everything behind the embedding of pixel tokens; without semantic tokens, they are made."""
        semantics = self.semantics(x, grid) if semantics is None else self.semantics(semantics)
        if isinstance(self.blocks[0], DualBlock):
            for block in self.blocks:
                x, semantics = self._run(block, x, semantics, grid)
        else:
            z = torch.cat([x, semantics], 1)
            for block in self.blocks:
                z = self._run(block, z, grid)
            x, semantics = z[:, : x.shape[1]], z[:, x.shape[1] :]
        return self.norm(x), self.semantic_norm(semantics)

    def _run(self, block: nn.Module, *arguments: object):  # type: ignore[no-untyped-def]
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *arguments, use_reentrant=False)
        return block(*arguments)


def dual_vit_stages(size: Size, channels: int, drop_path: float) -> nn.ModuleList:
    """The four stages: Dual blocks in the first two, Merge blocks in the others."""
    rates = iter(np.linspace(0, drop_path, sum(size.depths)).tolist())
    stages = nn.ModuleList()
    for i, (dim, depth) in enumerate(zip(size.dims, size.depths, strict=True)):
        block = DualBlock if i < 2 else MergeBlock
        stages.append(
            Stage(
                DownSample(size.dims[i - 1], dim) if i else Stem(channels, size.stem, dim),
                Embed(size.dims[i - 1], dim) if i else SemanticTokens(dim),
                [block(dim, size.heads[i], size.ratios[i] - (i == 2 and j % 2), next(rates)) for j in range(depth)],
                dim,
                last=i == 3,
            )
        )
    return stages


class ClassHead(nn.Module):
    """What stands between the last stage and the classifier: class block and norm.

    Args:
        size: of the network.
    """

    def __init__(self, size: Size):
        super().__init__()
        self.block = ClassBlock(size.dims[-1], size.heads[-1], size.class_ratio)
        self.norm = nn.LayerNorm(size.dims[-1], eps=OUTER_EPS)

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B D"]:
        """The class token, which starts as the mean of all tokens."""
        return self.norm(self.block(torch.cat([tokens.mean(1, keepdim=True), tokens], 1))).squeeze(1)


class TokenLabelled(NamedTuple):
    """Two predictions for training with token labels.

    Args:
        logits: of the images.
        token_logits: of the cells of the last map, row by row; mixed ones are back in their own image.
    """

    logits: Float[Tensor, "B K"]
    token_logits: Float[Tensor, "B N K"]


class Box(NamedTuple):
    """Cells of the last map, from the first row and column to those behind the last."""

    top: int
    left: int
    bottom: int
    right: int


class DualViT(nn.Module):
    """The classifier as published.

    Yao, Li, Pan, Wang, Zhang, Mei: Dual Vision Transformer, TPAMI 2023. Training with token labels and mixed tokens:
    Jiang et al., All Tokens Matter: Token Labeling for Training Better Vision Transformers, NeurIPS 2021.

    Args:
        size: one of `SIZES`, or another.
        channels: of the images.
        num_classes: K.
        token_label: build the auxiliary head, which classifies every cell of the last map.
        drop_path: rate of stochastic depth; None: that of the size.
    """

    def __init__(
        self,
        size: Size,
        *,
        channels: int = 3,
        num_classes: int = 1000,
        token_label: bool = False,
        drop_path: float | None = None,
    ):
        super().__init__()
        drop_path = size.drop_path if drop_path is None else drop_path
        self.stages = dual_vit_stages(size, channels, drop_path)
        self.class_head = ClassHead(size)
        self.head = nn.Linear(size.dims[-1], num_classes)
        self.aux_head = nn.Linear(size.dims[-1], num_classes) if token_label else None
        self.apply(initialise)

    def forward(self, image: Float[Tensor, "B C H W"], box: Box | None = None) -> Float[Tensor, "B K"] | TokenLabelled:
        """The logits; with token labels in training, those of every cell as well.

        Args:
            image: the images.
            box: where tokens of each image give way to those of its partner, the batch in reverse order; see
                `draw_box`. Only with token labels.
        """
        first, *others = cast("list[Stage]", list(self.stages))
        x, grid = first.embed(image)
        if box is not None:
            x = _mixed(x, grid, Box(*(MIX_SCALE * edge for edge in box)))
        x, semantics = first(x, grid, None)
        for stage in others:
            x, grid = stage.embed(as_map(x, grid))
            x, semantics = stage(x, grid, semantics)
        logits = self.head(self.class_head(torch.cat([x, semantics], 1)))
        if self.aux_head is None:
            return logits
        token_logits = self.aux_head(self.class_head.norm(x))
        if not self.training:
            return logits + 0.5 * token_logits.amax(1)
        return TokenLabelled(logits, token_logits if box is None else _mixed(token_logits, grid, box))


def _mixed(tokens: Float[Tensor, "B N D"], grid: Grid, box: Box) -> Float[Tensor, "B N D"]:
    """Tokens in the box are swapped with those of the partner."""
    rows, columns = (torch.arange(length, device=tokens.device) for length in grid)
    inside = ((rows >= box.top) & (rows < box.bottom)).unsqueeze(1) & (columns >= box.left) & (columns < box.right)
    return torch.where(inside.view(1, -1, 1), tokens.flip(0), tokens)


def mix_box(grid: Grid, share: float, centre: tuple[int, int]) -> Box:
    """The box around `centre` that leaves this share of the cells, cut at the edges."""
    spans = []
    for length, middle in zip(grid, centre, strict=True):
        half = int(length * math.sqrt(1 - share)) // 2
        spans.append((max(middle - half, 0), min(middle + half, length)))
    (top, bottom), (left, right) = spans
    return Box(top, left, bottom, right)


def draw_box(grid: Grid, random: np.random.Generator) -> Box:
    """A box of uniform share and centre, to mix tokens of a batch in.

    Args:
        grid: of the last map.
        random: where the draws come from.
    """
    return mix_box(grid, random.beta(1, 1), (int(random.integers(grid[0])), int(random.integers(grid[1]))))


@dataclass(frozen=True)
class DualFeatures(Features):
    """Features of Dual-ViT between its stages.

    Args:
        semantics: the semantic tokens, which belong to no cell of the map.
    """

    semantics: Float[Tensor, "B S D"] | None = None

    def with_map(self, map: Float[Tensor, "B E h w"]) -> Features:
        if tuple(map.shape[-2:]) == self.grid:
            return replace(self, tokens=as_tokens(map))
        return super().with_map(map)


class DualViTEncoder(Encoder):
    """Dual-ViT without its classifier: images at 1/4, 1/8, 1/16 and 1/32 of their resolution, each a stage.

    Yao, Li, Pan, Wang, Zhang, Mei: Dual Vision Transformer, TPAMI 2023. A few semantic tokens, made of the first map,
    travel along outside the maps: in the first two stages pixels read them instead of one another, in the last two all
    tokens attend to all. There are no published weights to load here; it starts from scratch.

    Args:
        spec: `(C, H, W)`; C may be any number.
        size: "s" (24.6 M parameters with its classifier), "b" (42.1 M) or "l" (72.5 M).
        image_size: resize images to this height and width first (bilinear, antialiased).
        features: "map": the normalised pixel tokens of the last stage, as the paper's dense tasks read them; "class":
            the class token alone, as its classifier does.
        drop_path: rate of stochastic depth in training; default: the size's own, .15, .15 and .3.

    Raises:
        ShapeError: the modality is no map, or too small a one for two semantic tokens.
    """

    def __init__(
        self,
        spec: InputSpec,
        *,
        size: Literal["s", "b", "l"] = "s",
        image_size: PositiveInt | None = None,
        features: Literal["map", "class"] = "map",
        drop_path: Probability | None = None,
    ):
        super().__init__(spec)
        if len(spec.shape) != 3:
            raise ShapeError(f"dual_vit reads images C x H x W, not {spec}")
        height, width = (image_size, image_size) if image_size else spec.shape[1:]
        # The stem makes a cell of 4 x 4 pixels, and a semantic token is made of 7 x 7 cells.
        if (-(-height // 4) // 7) * (-(-width // 4) // 7) < 2:
            raise ShapeError(
                f"dual_vit makes a semantic token of 28 x 28 pixels and needs two of them, which images of "
                f"{height} x {width} do not have; set image_size, for example to 224"
            )
        self.image_size = image_size
        made = SIZES[size]
        self.stages = dual_vit_stages(made, spec.channels, made.drop_path if drop_path is None else drop_path)
        if features == "class":
            self.head: ClassHead | nn.LayerNorm = ClassHead(made)
        else:
            self.head = nn.LayerNorm(made.dims[-1], eps=OUTER_EPS)
            last = cast("Stage", self.stages[-1])
            cast("MergeBlock", last.blocks[-1]).semantic_mlp = None  # nobody would read what it makes
        self.apply(initialise)

    def checkpoint(self) -> None:
        """Block by block: the first stage alone would need as much memory as all others."""
        for stage in self.stages:
            cast("Stage", stage).checkpointing = True

    def embed(self, value: Float[Tensor, "B C H W"], valid: Bool[Tensor, "B T"] | None) -> Features:
        if self.image_size:
            size = (self.image_size, self.image_size)
            value = F.interpolate(value, size=size, mode="bilinear", antialias=True)
        return Features.from_map(value)

    def step(self, stage: int, features: Features) -> Features:
        module = cast("Stage", self.stages[stage])
        if features.grid is None:
            raise ShapeError("dual_vit lost its map between two stages; an exchange must keep its grid")
        semantics = _semantics(features) if stage else None
        x, grid = module.embed(as_map(features.tokens, features.grid))
        x, semantics = module(x, grid, semantics)
        return DualFeatures(x, grid, present=features.present, semantics=semantics)

    def finish(self, features: Features) -> Features:
        if isinstance(self.head, ClassHead):
            vector = self.head(torch.cat([features.tokens, _semantics(features)], 1))
            return Features.from_vector(vector, features.present)
        return Features(self.head(features.tokens), features.grid, present=features.present)


def _semantics(features: Features) -> Float[Tensor, "B S D"]:
    if not isinstance(features, DualFeatures) or features.semantics is None:
        raise ShapeError(
            "dual_vit lost its semantic tokens between two stages; an exchange must hand back "
            "features.with_tokens(...) or features.with_map(...) of the same grid"
        )
    return features.semantics
