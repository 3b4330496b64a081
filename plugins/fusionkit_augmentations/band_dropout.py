"""Band dropout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from fusionkit.contract import Augmentation, Sample
from fusionkit.flow import InputSpec
from fusionkit_augmentations.selection import is_map, select

SPECTRUM = 16
"""Channels from which on a map counts as a spectrum, unless it is named."""


class BandDropout(Augmentation):
    """Drops random bands and interpolates over the gaps, pixel by pixel, linearly from the nearest bands that are left.

    So what only these bands say is lost, and what remains is still a plausible spectrum. Zeros would be none: before
    the normalisation zero is far from every real reflectance, and a network would learn to see the gap. For
    spectra of many adjacent bands in the order of their wavelengths. The result is float32 where a band was dropped,
    and masked where it is made of what is masked.

    Args:
        inputs: per modality, the shape of its arrays.
        probability: of each band to be dropped.
        modalities: those to change; default: all maps of 16 channels or more that are no counts.

    Raises:
        RequestError: a modality is unknown, holds counts or has fewer than three channels.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        *,
        probability: Annotated[float, Field(gt=0, lt=1)] = 0.1,
        modalities: list[str] | None = None,
    ):
        super().__init__(inputs)
        self.probability = probability
        self.modalities = select(
            "band_dropout",
            inputs,
            modalities,
            fits=lambda spec: not spec.counts and spec.channels >= 3,
            needs=f"spectra of three channels or more (maps of {SPECTRUM} or more, unless others are named)",
            default=lambda spec: is_map(spec) and spec.channels >= SPECTRUM,
        )

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        changed = dict(sample)
        for name in self.modalities:
            axis = self.inputs[name].channel_axis
            dropped = random.random(self.inputs[name].channels) < self.probability
            value = sample.get(name)
            if value is not None and dropped.any() and not dropped.all():
                changed[name] = _interpolated(value.swapaxes(0, axis), dropped).swapaxes(0, axis)
        return changed


def _interpolated(value: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """Replace the dropped bands of `[bands, ...]`; beyond the outermost band that is left, that band goes on."""
    gaps, kept = np.flatnonzero(dropped), np.flatnonzero(~dropped)
    after = np.searchsorted(kept, gaps)
    left, right = kept[np.maximum(after - 1, 0)], kept[np.minimum(after, len(kept) - 1)]
    left = np.where(left > gaps, right, left)
    weight = np.clip((gaps - left) / np.maximum(right - left, 1), 0, 1).astype(np.float32)
    weight = weight.reshape(-1, *[1] * (value.ndim - 1))
    result = np.ma.getdata(value).astype(np.float32)
    result[gaps] = result[left] * (1 - weight) + result[right] * weight
    if not isinstance(value, np.ma.MaskedArray):
        return result
    mask = np.ma.getmaskarray(value).copy()
    mask[gaps] |= mask[left] | mask[right]
    return np.ma.MaskedArray(result, mask)
