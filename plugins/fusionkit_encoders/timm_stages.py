"""Cuts a backbone of timm into the stages between which a fusion can exchange.

Run one after the other, the stages give what the backbone's own `forward_features` gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.models import FeatureListNet
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from timm.models.nest import Nest
from timm.models.selecsls import SelecSls
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import Features

HEADS = ("global_pool", "head", "classifier", "fc", "attn_pool", "aux_head", "flatten")
"""What the names of modules behind `forward_features` begin with."""

EXCEPTIONS = (Nest, SelecSls)
"""Run in sequence, but the final norm of the one reads another order of axes, and blocks of the other return lists."""


def backbone_stages(
    backbone: nn.Module, name: str, size: tuple[int, ...], arguments: dict[str, Any], *, penultimate: bool = False
) -> nn.ModuleList:
    """Cut a backbone into stages, each a module from features to features.

    Args:
        backbone: as timm made it.
        name: its name in timm.
        size: height and width of the images.
        arguments: with which it was made.
        penultimate: leave out the last block of a plain vision transformer, and its final norm.

    Raises:
        RequestError: it has no block before the last one.
    """
    if penultimate and not (isinstance(backbone, VisionTransformer) and len(backbone.blocks) > 1):
        raise RequestError(f"penultimate is for plain vision transformers of two blocks or more; {name} is none")
    if _runs_in_sequence(name, arguments) and not isinstance(backbone, EXCEPTIONS):
        return nn.ModuleList(_sequential_stages(backbone))
    _drop_heads(backbone)
    if isinstance(backbone, VisionTransformer):
        return nn.ModuleList(_transformer_stages(backbone, penultimate=penultimate))
    return nn.ModuleList([WholeBackbone(backbone, name, size)])


def _drop_heads(backbone: nn.Module) -> None:
    """Whatever comes after `forward_features` would only be parameters without a gradient."""
    for name, module in list(backbone.named_children()):
        if isinstance(backbone, SelecSls) and isinstance(module, nn.Sequential):
            continue  # what it calls its head are the last convolutions
        if name.startswith(HEADS):
            setattr(backbone, name, None if name == "attn_pool" else nn.Identity())


def _runs_in_sequence(name: str, arguments: dict[str, Any]) -> bool:
    """Whether timm itself runs this backbone's children one after the other to get its features."""
    try:
        with torch.device("meta"):
            features = timm.create_model(name, features_only=True, **arguments)
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError):
        return False  # timm offers no features of it
    return isinstance(features, FeatureListNet | EfficientNetFeatures | MobileNetV3Features)


class MapStage(nn.Sequential):
    """Modules that run one after the other on a map.

    Args:
        modules: the modules.
        channels_last: whether what they return has its channels last.
        first: whether they read an image, whose channels are never last.
    """

    def __init__(self, *modules: nn.Module, channels_last: bool, first: bool):
        super().__init__(*modules)
        self.channels_last, self.first = channels_last, first

    def forward(self, features: Features) -> Features:  # type: ignore[override]
        x = features.map
        if self.channels_last and not self.first:
            x = x.permute(0, 2, 3, 1)
        x = super().forward(x)
        return features.with_map(x.permute(0, 3, 1, 2) if self.channels_last else x)


def _sequential_stages(backbone: nn.Module) -> Iterator[MapStage]:
    """A stage up to each of timm's feature levels from a quarter of the resolution down."""
    info: Any = backbone.feature_info
    levels = [level["module"] for level in info if level["reduction"] >= 4]
    children = list(_flat_children(backbone))
    cuts = [max(i for i, (name, _) in enumerate(children, 1) if _inside(name, level)) for level in levels]
    # Behind the last level there may be a final norm or convolution.
    cuts[-1] += sum(1 for _ in takewhile(lambda child: not child[0].startswith(HEADS), children[cuts[-1] :]))
    channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
    for start, cut in pairwise([0, *cuts]):
        modules = [module for _, module in children[start:cut]]
        yield MapStage(*modules, channels_last=channels_last, first=start == 0)


def _flat_children(backbone: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Children in the order in which they run, sequences taken apart."""
    for name, module in backbone.named_children():
        if isinstance(module, nn.Sequential):
            yield from ((f"{name}.{inner_name}", inner) for inner_name, inner in module.named_children())
        else:
            yield name, module


def _inside(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


@dataclass(frozen=True)
class TransformerFeatures(Features):
    """Features of a vision transformer between its stages.

    Args:
        prefix: class and register tokens, which belong to no cell of the map.
    """

    prefix: Float[Tensor, "B P D"] | None = None

    def with_map(self, map: Float[Tensor, "B E h w"]) -> Features:
        if tuple(map.shape[-2:]) == self.grid:
            return replace(self, tokens=map.flatten(2).transpose(1, 2))
        return super().with_map(map)


class TransformerStage(nn.Module):
    """Some blocks of a plain vision transformer.

    Args:
        entry: makes tokens of images, for the first stage.
        blocks: the blocks.
        norm: the final norm, for the last stage.
        prefix: number of class and register tokens.
        grid: height and width of the map of tokens.
    """

    def __init__(
        self,
        entry: VisionTransformer | None,
        blocks: list[nn.Module],
        norm: nn.Module | None,
        prefix: int,
        grid: tuple[int, int],
    ):
        super().__init__()
        self.entry, self.blocks, self.norm = entry, nn.Sequential(*blocks), norm or nn.Identity()
        self.prefix, self.grid = prefix, grid

    def forward(self, features: Features) -> TransformerFeatures:
        if self.entry is not None:
            tokens = self.entry.forward_features(features.map)
        elif isinstance(features, TransformerFeatures) and features.prefix is not None:
            tokens = torch.cat([features.prefix, features.tokens], dim=1)
        else:
            raise ShapeError(
                "a vision transformer lost its class token between two stages; an exchange must hand back "
                "features.with_tokens(...) or features.with_map(...) of the same grid"
            )
        tokens = self.norm(self.blocks(tokens))
        prefix, cells = tokens[:, : self.prefix], tokens[:, self.prefix :]
        return TransformerFeatures(cells, self.grid, present=features.present, prefix=prefix)


def _transformer_stages(backbone: VisionTransformer, *, penultimate: bool) -> Iterator[TransformerStage]:
    """Up to four groups of blocks, of equal size as far as possible."""
    blocks, norm = list(backbone.blocks), backbone.norm
    if penultimate:
        blocks, norm = blocks[:-1], None
    prefix, grid = backbone.num_prefix_tokens, tuple(backbone.patch_embed.grid_size)
    # Without blocks and norm, its `forward_features` is the embedding.
    backbone.blocks, backbone.norm = nn.Sequential(), nn.Identity()
    groups = min(4, len(blocks))
    cuts = [round(i * len(blocks) / groups) for i in range(groups + 1)]
    for group in range(groups):
        yield TransformerStage(
            backbone if group == 0 else None,
            blocks[cuts[group] : cuts[group + 1]],
            norm if group == groups - 1 else None,
            prefix,
            grid,
        )


class WholeBackbone(nn.Module):
    """A backbone in one piece.

    Args:
        backbone: as timm made it.
        name: its name in timm.
        size: height and width of the images.
    """

    def __init__(self, backbone: nn.Module, name: str, size: tuple[int, ...]):
        super().__init__()
        self.backbone, self.name, self.size = backbone, name, size
        self.channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"

    def checkpoint(self) -> bool:
        """Let timm compute its blocks again going back; False where it cannot, or would count statistics twice."""
        if any(isinstance(module, _NormBase) for module in self.backbone.modules()):
            return False
        try:
            self.backbone.set_grad_checkpointing(True)  # type: ignore[operator]
        except (AssertionError, AttributeError):
            return False
        return True

    def forward(self, features: Features) -> Features:
        out = self.backbone.forward_features(features.map)  # type: ignore[operator]
        if not isinstance(out, Tensor) or out.dim() not in (3, 4):
            raise ShapeError(f"the features of timm's {self.name} are no single map or sequence; choose another model")
        if out.dim() == 4:
            return Features.from_map(out.permute(0, 3, 1, 2) if self.channels_last else out, features.present)
        cells = out[:, getattr(self.backbone, "num_prefix_tokens", 0) :]
        return Features(cells, self._grid(cells.shape[1]), present=features.present)

    def _grid(self, cells: int) -> tuple[int, int] | None:
        """The grid of so many cells that has the proportions of the image, if there is one."""
        height, width = self.size
        rows = round((cells * height / width) ** 0.5)
        fits = rows > 0 and cells % rows == 0 and cells // rows * height == rows * width
        return (rows, cells // rows) if fits else None
