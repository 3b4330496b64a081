"""Multi-scale fusion: pyramid pooling, or a feature pyramid over the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.contract import Fusion
from fusionkit.errors import ShapeError
from fusionkit.flow import Features, FeatureSpec
from fusionkit.options import Probability
from fusionkit.pairing import torchvision_needed

BINS = (1, 2, 3, 6)
Held = TypeVar("Held", Features, FeatureSpec)


class MultiScale(Fusion):
    """Describes each map at several scales; concatenates the descriptions of all modalities; mixes them in an MLP.

    - `fpn`: the stages of a map's encoder go through a feature pyramid, and every level of it is pooled (Lin, Dollar,
      Girshick, He, Hariharan, Belongie: "Feature Pyramid Networks for Object Detection", CVPR 2017). With C_l the map
      of stage l: P_l = conv3x3(M_l), M_l = conv1x1(C_l) + upsample(M_(l+1)).
    - `ppm`: the last map goes through pyramid pooling (Zhao, Shi, Qi, Wang, Jia: "Pyramid Scene Parsing Network",
      CVPR 2017): averages over 1, 2, 3 and 6 bins a side, each ReLU(conv1x1) to 1/4 of the channels and upsampled, are
      stacked onto the map; ReLU(conv3x3); pooled. Bins finer than the map are left out, and the channels shared among
      the others. A LayerNorm before the pyramid stands for the batch norms in it, so that no sample depends on others.

    A modality without a grid joins by its pooled features. A LayerNorm makes the descriptions comparable; that of an
    absent modality is zero. Cells that are not real count as zero, and in no average.

    Args:
        inputs: per modality, the shape of its features.
        kind: which pyramid.
        dim: channels of the pyramid, and width of the result.
        dropout: on the concatenation and on the result.

    Raises:
        ShapeError: no modality has a grid.
    """

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        *,
        kind: Literal["fpn", "ppm"] = "fpn",
        dim: PositiveInt = 256,
        dropout: Probability = 0.1,
    ):
        super().__init__(inputs)
        if all(spec.grid is None for spec in inputs.values()):
            raise ShapeError(f"multi_scale needs a map, and there is none among {', '.join(inputs)}; take concat")
        self.reads_stages = kind == "fpn"
        pyramid = FeaturePyramid if kind == "fpn" else PyramidPooling
        pyramids = {name: pyramid(spec, dim) for name, spec in inputs.items() if spec.grid is not None}
        widths = {name: pyramids[name].dim if name in pyramids else spec.dim for name, spec in inputs.items()}
        self.pyramids = nn.ModuleDict(pyramids)
        self.norms = nn.ModuleDict({name: nn.LayerNorm(width) for name, width in widths.items()})
        self.mix = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(sum(widths.values()), dim),
            nn.LayerNorm(dim),
            nn.GELU(),
            nn.Dropout(dropout),
        )

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        described = []
        for name, norm in self.norms.items():
            feature = features[name]
            vector = norm(self.pyramids[name](feature) if name in self.pyramids else feature.pooled)
            absent = None if feature.present is None else ~feature.present.unsqueeze(1)
            described.append(vector if absent is None else vector.masked_fill(absent, 0))
        return self.mix(torch.cat(described, dim=1))


class FeaturePyramid(nn.Module):
    """The pooled levels of a feature pyramid over the stages that have a grid.

    Args:
        spec: the shape of the features.
        dim: channels of each level.
    """

    def __init__(self, spec: FeatureSpec, dim: int):
        super().__init__()
        with torchvision_needed():
            from torchvision.ops import FeaturePyramidNetwork
        levels = _maps(spec)
        self.dim = len(levels) * dim
        self.pyramid = FeaturePyramidNetwork([level.dim for level in levels], dim)

    def forward(self, features: Features) -> Float[Tensor, "B D"]:
        levels = _maps(features)
        maps = self.pyramid({str(number): _real(level).map for number, level in enumerate(levels)})
        return torch.cat([level.with_map(map).pooled for level, map in zip(levels, maps.values(), strict=True)], dim=1)


class PyramidPooling(nn.Module):
    """A map with its averages over coarse bins stacked onto it, convolved and pooled.

    Args:
        spec: the shape of the features.
        dim: width of the result.
    """

    def __init__(self, spec: FeatureSpec, dim: int):
        super().__init__()
        self.dim = dim
        self.bins = tuple(bins for bins in BINS if bins <= min(spec.grid or ()))
        width = max(spec.dim // len(self.bins), 1)
        self.norm = nn.LayerNorm(spec.dim)
        self.reduce = nn.ModuleList(nn.Conv2d(spec.dim, width, 1) for _ in self.bins)
        self.merge = nn.Conv2d(spec.dim + len(self.bins) * width, dim, 3, padding=1)

    def forward(self, features: Features) -> Float[Tensor, "B D"]:
        cells = _real(features)
        map = _real(cells.with_tokens(self.norm(cells.tokens))).map
        keep = features.token_mask
        real = torch.ones_like(map[:, :1]) if keep is None else keep.view(-1, 1, *map.shape[-2:]).to(map.dtype)
        stacked = [map]
        for bins, reduce in zip(self.bins, self.reduce, strict=True):
            share = F.adaptive_avg_pool2d(real, bins)
            average = F.adaptive_avg_pool2d(map, bins) / share.clamp(min=1e-6)
            reduced = F.relu(reduce(average)) * (share > 0)
            stacked.append(F.interpolate(reduced, map.shape[-2:], mode="bilinear", align_corners=True))
        return features.with_map(F.relu(self.merge(torch.cat(stacked, dim=1)))).pooled


def _maps(held: Held) -> Sequence[Held]:
    """The stages that have a grid; in the place of the last one, what the encoder hands over."""
    return [level for level in (*held.stages[:-1], held) if level.grid is not None]


def _real(features: Features) -> Features:
    """Zero wherever a cell is not real."""
    keep = features.token_mask
    return features if keep is None else features.with_tokens(features.tokens.masked_fill(~keep.unsqueeze(-1), 0))
