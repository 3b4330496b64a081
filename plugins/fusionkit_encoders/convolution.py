"""Residual convolution blocks, shared by the encoders of patches and of visits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["batch", "group"]

_CONV: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_DROPOUT: dict[int, Callable[..., nn.Module]] = {1: nn.Dropout1d, 2: nn.Dropout2d, 3: nn.Dropout3d}


class _SingleValue(nn.modules.batchnorm._BatchNorm):
    """In training a single value a channel has no deviation; it is normalised as in evaluation."""

    def forward(self, x: Float[Tensor, "B C ..."]) -> Float[Tensor, "B C ..."]:
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class BatchNorm1d(_SingleValue, nn.BatchNorm1d):
    """Batch norm that takes a batch of one value."""


class BatchNorm2d(_SingleValue, nn.BatchNorm2d):
    """Batch norm that takes a batch of one map of one pixel."""


class BatchNorm3d(_SingleValue, nn.BatchNorm3d):
    """Batch norm that takes a batch of one volume of one voxel."""


_BATCH_NORM: dict[int, Callable[..., nn.Module]] = {1: BatchNorm1d, 2: BatchNorm2d, 3: BatchNorm3d}


def make_norm(norm: Norm, channels: int, axes: int) -> nn.Module:
    """A norm over `channels` for maps of `axes` axes.

    A group has sixteen channels or more: on a map of one pixel, where they are all it has to go by, fewer say little.
    """
    if norm == "batch":
        return _BATCH_NORM[axes](channels)
    return nn.GroupNorm(math.gcd(channels, max(channels // 16, 1)), channels)


class Residual(nn.Module):
    """Two 3-wide convolutions with norms, channel dropout between them, and a shortcut.

    He et al., Deep Residual Learning for Image Recognition, CVPR 2016, the basic block.

    Args:
        channels: width of the input.
        width: width of the output.
        stride: step of the first convolution along each axis.
        norm: kind of norm.
        dropout: of whole channels.
        circular: True where the axis has no ends.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        stride: tuple[int, ...],
        norm: Norm,
        dropout: float,
        circular: bool = False,
    ):
        super().__init__()
        axes = len(stride)
        conv, padding = _CONV[axes], "circular" if circular else "zeros"
        self.body = nn.Sequential(
            conv(channels, width, 3, stride, 1, bias=False, padding_mode=padding),
            make_norm(norm, width, axes),
            nn.ReLU(inplace=True),
            _DROPOUT[axes](dropout),
            conv(width, width, 3, 1, 1, bias=False, padding_mode=padding),
            make_norm(norm, width, axes),
        )
        same = channels == width and set(stride) == {1}
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(conv(channels, width, 1, stride, bias=False), make_norm(norm, width, axes))
        )

    def forward(self, x: Float[Tensor, "B C ..."]) -> Float[Tensor, "B D ..."]:
        return F.relu(self.shortcut(x) + self.body(x))


def residual_stages(
    size: tuple[int, ...],
    channels: int,
    widths: tuple[int, ...],
    *,
    depth: int,
    norm: Norm,
    dropout: float,
    circular: bool = False,
) -> nn.ModuleList:
    """Stages of residual blocks; each halves the axes that are longer than 4, the first those longer than 16.

    So of a patch of a few pixels every one counts, and larger maps become small at once.

    Args:
        size: the map's axes before the first stage.
        channels: its width.
        widths: width after each stage.
        depth: blocks a stage.
        norm, dropout, circular: as for `Residual`.
    """
    stages = nn.ModuleList()
    for stage, width in enumerate(widths):
        longest = 16 if stage == 0 else 4
        stride = tuple(2 if length > longest else 1 for length in size)
        blocks = []
        for block in range(depth):
            step = stride if block == 0 else tuple(1 for _ in size)
            blocks.append(Residual(channels, width, stride=step, norm=norm, dropout=dropout, circular=circular))
            channels = width
        stages.append(nn.Sequential(*blocks))
        size = tuple(math.ceil(length / step) for length, step in zip(size, stride, strict=True))
    return stages
