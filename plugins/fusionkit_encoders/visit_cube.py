"""Visit counts over weekday, week and hour."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import PositiveInt
from torch import Tensor, nn

from fusionkit.contract import Encoder
from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import Features, InputSpec
from fusionkit.options import Probability
from fusionkit_encoders.convolution import Norm, make_norm, residual_stages

Normalization = Literal["log1p", "min_max", "z_score", "l1", "l2"]


class VisitCube(Encoder):
    """Reads raw visit counts `[weekday, week, hour]`, for example 7 x 26 x 24, or any cube of counts C x H x W.

    Three stages of residual blocks of width, 2 width and 4 width channels.

    Args:
        spec: `(C, H, W)`, not standardised.
        variant: "2d" convolves over week and hour with the weekdays as channels; the features are a map.
            "profile" convolves over the hours of one week, 7 x 24 in a row, whose end meets its beginning, with the
            weeks as channels; the features are a sequence.
        normalizations: what is done to each sample's counts, by its own statistics over the whole cube; those of a
            list are stacked as channels. "log1p": log(1 + x). "min_max": to the range 0 to 1. "z_score": zero mean,
            unit deviation. "l1": divided by the mean, so that the distribution of the visits is left. "l2": divided by
            the root mean square.
        width: channels of the first stage.
        depth: residual blocks a stage.
        dropout: of whole channels, in every block and after the stem.
        norm: "batch", or "group" for batches of a few samples; but group norm evens out the level of each sample, and
            with it what sets dark from bright, low from high, few from many.

    Raises:
        ShapeError: the modality is no cube.
        RequestError: no normalisation is named, or one twice.
    """

    def __init__(
        self,
        spec: InputSpec,
        *,
        variant: Literal["2d", "profile"] = "2d",
        normalizations: Normalization | list[Normalization] = "log1p",
        width: PositiveInt = 32,
        depth: PositiveInt = 1,
        dropout: Probability = 0.1,
        norm: Norm = "batch",
    ):
        super().__init__(spec)
        if len(spec.shape) != 3:
            raise ShapeError(f"visit_cube reads cubes weekday x week x hour, not {spec}")
        self.normalizations = (normalizations,) if isinstance(normalizations, str) else tuple(normalizations)
        if not self.normalizations or len(set(self.normalizations)) < len(self.normalizations):
            raise RequestError("visit_cube: normalizations must name at least one, and none twice")
        self.profile = variant == "profile"
        days, weeks, hours = spec.shape
        size = (days * hours,) if self.profile else (weeks, hours)
        channels = len(self.normalizations) * (weeks if self.profile else days)
        axes, circular = len(size), self.profile
        convolution = nn.Conv1d if self.profile else nn.Conv2d
        self.stem = nn.Sequential(
            convolution(channels, width, 3, 1, 1, bias=False, padding_mode="circular" if circular else "zeros"),
            make_norm(norm, width, axes),
            nn.ReLU(inplace=True),
            nn.Dropout1d(dropout) if self.profile else nn.Dropout2d(dropout),
        )
        self.stages = residual_stages(
            size,
            width,
            (width, 2 * width, 4 * width),
            depth=depth,
            norm=norm,
            dropout=dropout,
            circular=circular,
        )

    def embed(self, value: Float[Tensor, "B C H W"], valid: Bool[Tensor, "B T"] | None) -> Features:
        cubes = torch.stack([normalize(value, name) for name in self.normalizations], dim=1)  # [B, K, C, H, W]
        if not self.profile:
            return Features.from_map(self.stem(cubes.flatten(1, 2)))
        hours = cubes.transpose(2, 3).flatten(3).flatten(1, 2)  # [B, K * weeks, weekdays * hours]
        return Features(self.stem(hours).transpose(1, 2))

    def step(self, stage: int, features: Features) -> Features:
        if not self.profile:
            return super().step(stage, features)
        return features.with_tokens(self.stages[stage](features.tokens.transpose(1, 2)).transpose(1, 2))


def normalize(cube: Float[Tensor, "B C H W"], how: Normalization) -> Float[Tensor, "B C H W"]:
    """Normalise each sample by its own statistics; a cube without visits becomes zero.

    `log1p` of a negative number, which no count is, is that of its size with its sign: finite.
    """
    if how == "log1p":
        return cube.sign() * cube.abs().log1p()
    tiny = torch.finfo(cube.dtype).eps
    axes = (1, 2, 3)
    if how == "min_max":
        low, high = cube.amin(axes, keepdim=True), cube.amax(axes, keepdim=True)
        return (cube - low) / (high - low).clamp(min=tiny)
    if how == "z_score":
        centred = cube - cube.mean(axes, keepdim=True)
        return centred / centred.square().mean(axes, keepdim=True).sqrt().clamp(min=tiny)
    size = cube.abs().mean(axes, keepdim=True) if how == "l1" else cube.square().mean(axes, keepdim=True).sqrt()
    return cube / size.clamp(min=tiny)
