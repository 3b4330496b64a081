"""Random windows of the ground."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional as F

from fusionkit.contract import Augmentation, Sample
from fusionkit.errors import RequestError
from fusionkit.flow import InputSpec
from fusionkit_augmentations.selection import is_map, select


class Crop(Augmentation):
    """Cuts one random window of the ground out of all maps of a sample and brings each back to its size.

    The window is the same share of each map, to fractions of a pixel, so that co-registered modalities stay so whatever
    their resolutions. Its shape is that of the maps, its side uniform from `smallest` to 1 of theirs, its place uniform
    too. Values between pixels are interpolated linearly, and integers rounded; masked pixels take no part, and a pixel
    is masked where more than half of what it is made of is. Each entry of this augmentation in a recipe draws a window
    of its own: give `modalities` where not all maps show the same ground.

    It asks that a part of a sample means what the whole does. That is so for scenes, not for windows that are labelled
    by their centre.

    Args:
        inputs: per modality, the shape of its arrays.
        smallest: least side of the window, as a share of the map's.
        padding: how far the window may reach beyond the border, as a share of the map's side; what lies there is the
            map's reflection. With `smallest: 1` the window moves and keeps its size.
        nearest: those of the modalities that are not interpolated, because their values are masks or categories.
        modalities: the maps to change; default: all maps that are no counts.

    Raises:
        RequestError: a modality is unknown or no map, or nothing would be changed.
    """

    moves = True

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        *,
        smallest: Annotated[float, Field(gt=0, le=1)] = 0.7,
        padding: Annotated[float, Field(ge=0, le=0.5)] = 0.0,
        nearest: list[str] | None = None,
        modalities: list[str] | None = None,
    ):
        super().__init__(inputs)
        if smallest == 1 and padding == 0:
            raise RequestError("crop: with `smallest: 1` and no `padding` every window is the whole map")
        self.smallest, self.padding = smallest, padding
        self.modalities = select("crop", inputs, modalities, fits=is_map, needs="maps C x H x W")
        self.nearest = frozenset(nearest or ())
        if left_out := self.nearest.difference(self.modalities):
            raise RequestError(f"crop: {min(left_out)} is in `nearest` and not among the modalities that are cut")

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        side = random.uniform(self.smallest, 1)
        top, left = random.uniform(-self.padding, 1 - side + self.padding, 2)
        return sample | {
            name: _cut(value, top, left, side, "nearest" if name in self.nearest else "bilinear")
            for name in self.modalities
            if (value := sample.get(name)) is not None
        }


def _cut(value: np.ndarray, top: float, left: float, side: float, mode: str) -> np.ndarray:
    """A window, in shares of the map `[C, H, W]`, at the size of the map."""
    # As torch has it, a map reaches from -1 to 1; of the window's middle and size in that measure.
    shift = [2 * left + side - 1, 2 * top + side - 1]
    window = torch.tensor([[[side, 0, shift[0]], [0, side, shift[1]]]], dtype=torch.float64)
    exact = np.float32 if value.dtype.itemsize <= 2 or value.dtype == np.float32 else np.float64
    grid = F.affine_grid(window, [1, 1, *value.shape[-2:]], align_corners=False)

    def sampled(values: np.ndarray) -> np.ndarray:
        image = torch.from_numpy(np.array(values, exact))
        pixels = image.reshape(1, -1, *value.shape[-2:])
        found = F.grid_sample(pixels, grid.to(image.dtype), mode, padding_mode="reflection", align_corners=False)
        return found.reshape(image.shape).numpy()

    if not np.ma.is_masked(value):
        return _as(value.dtype, sampled(np.ma.getdata(value)))
    measured = ~np.ma.getmaskarray(value)
    weight = sampled(measured)
    masked = weight < 0.5
    mean = sampled(np.ma.filled(value, 0)) / np.where(masked, 1, weight)
    return np.ma.MaskedArray(_as(value.dtype, np.where(masked, 0, mean)), masked)


def _as(dtype: np.dtype, values: np.ndarray) -> np.ndarray:
    return values.astype(dtype) if dtype.kind == "f" else np.rint(values).astype(dtype)
