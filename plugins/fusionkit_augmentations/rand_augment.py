"""RandAugment (Cubuk et al., https://arxiv.org/abs/1909.13719), of torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torchvision.transforms import v2

from fusionkit.contract import Augmentation, Sample
from fusionkit.errors import RequestError
from fusionkit.flow import InputSpec
from fusionkit_augmentations.selection import is_map, select

GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
"""Torchvision's names of the operations that move pixels."""


class RandAugment(Augmentation):
    """Changes the colours of RGB images at random: some operations in a row, of one strength.

    The operations are brightness, colour, contrast, sharpness, posterise, solarise, auto-contrast, equalise, and none.
    Those of the paper that move pixels (shears, shifts, turns) would tear an image off its co-registered modalities and
    are left out, unless `geometric` is set; what is new in the image then is black.

    For images of red, green and blue, of 8 bits or in a `range`. Values beyond the range are cut off at it. Masked
    pixels stay masked, and the mean of a channel stands in for them while the image is changed.

    Args:
        inputs: per modality, the shape of its arrays.
        operations: how many, one after the other.
        magnitude: their strength, 0 to 30.
        range: what is black and what is white, such as `[0, 0.4]` for reflectance; needed where values are not of 8
            bits, for which it is 0 to 255.
        geometric: also the operations that move pixels.
        modalities: the images to change; default: all maps of three channels.

    Raises:
        RequestError: a modality is unknown or not of three channels, or the range is empty.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        *,
        operations: PositiveInt = 2,
        magnitude: Annotated[int, Field(ge=0, le=30)] = 9,
        range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None,
        geometric: bool = False,
        modalities: list[str] | None = None,
    ):
        super().__init__(inputs)
        if range is not None and range[0] >= range[1]:
            raise RequestError(f"rand_augment: the range {range} goes from black to white, upwards")
        self.range, self.geometric = range, geometric
        self.moves = geometric
        self.modalities = select(
            "rand_augment",
            inputs,
            modalities,
            fits=lambda spec: is_map(spec) and spec.channels == 3 and len(spec.shape) == 3,
            needs="images of red, green and blue, 3 x H x W",
        )
        self._change = (v2.RandAugment if geometric else _Photometric)(operations, magnitude)

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        changed = dict(sample)
        for name in self.modalities:
            seed = int(random.integers(2**63))
            value = sample.get(name)
            if value is not None:
                changed[name] = self._changed(name, value, seed)
        return changed

    def _changed(self, name: str, value: np.ndarray, seed: int) -> np.ndarray:
        if self.range is None and value.dtype != np.uint8:
            raise RequestError(f"rand_augment: {name} is {value.dtype}, not of 8 bits; say its `range`, as [0, 1]")
        masked = np.ma.getmaskarray(value)
        pixels = np.ma.getdata(value)
        if masked.any():
            if self.geometric:
                raise RequestError(f"rand_augment: {name} has missing pixels, which `geometric` cannot move along")
            mean = np.ma.filled(value.mean((-2, -1), keepdims=True), 0)
            pixels = np.where(masked, mean, pixels).astype(value.dtype)
        if self.range is None:
            after = self._drawn(torch.from_numpy(np.array(pixels)), seed).numpy()
        else:
            black, white = self.range
            share = torch.from_numpy((pixels.astype(np.float64) - black) / (white - black)).clamp(0, 1)
            after = self._drawn(share.float(), seed).numpy() * np.float32(white - black) + np.float32(black)
            after = (after if value.dtype.kind == "f" else np.rint(after)).astype(value.dtype)
        return np.ma.MaskedArray(np.where(masked, 0, after).astype(value.dtype), masked) if masked.any() else after

    def _drawn(self, image: torch.Tensor, seed: int) -> torch.Tensor:
        """Torchvision draws from the process's generator alone, which is lent the key and given back as it was."""
        state = torch.get_rng_state()
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach for GPUs too
        try:
            changed: torch.Tensor = self._change(image)
            return changed
        finally:
            torch.set_rng_state(state)


class _Photometric(v2.RandAugment):
    """Without the operations that move pixels."""

    _AUGMENTATION_SPACE = {  # noqa: RUF012 - as in the base class
        name: operation for name, operation in v2.RandAugment._AUGMENTATION_SPACE.items() if name not in GEOMETRIC
    }
