"""Gaussian noise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import PositiveFloat

from fusionkit.contract import Augmentation, Sample
from fusionkit.flow import InputSpec
from fusionkit_augmentations.masked import with_mask_of
from fusionkit_augmentations.selection import select


class Noise(Augmentation):
    """Adds Gaussian noise, relative to the standard deviation of each channel within the sample.

    So it needs no unit, and bands of little contrast get little noise. Where a channel is a single number (vectors,
    maps of one pixel), the noise is relative to that number's size. The result is float32.

    Args:
        inputs: per modality, the shape of its arrays.
        strength: standard deviation of the noise as a share of the channel's, or of the number.
        modalities: those to change; default: all that are no counts.

    Raises:
        RequestError: a modality is unknown or holds counts.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        *,
        strength: PositiveFloat = 0.1,
        modalities: list[str] | None = None,
    ):
        super().__init__(inputs)
        self.strength = np.float32(strength)
        self.modalities = select(
            "noise", inputs, modalities, fits=lambda spec: not spec.counts, needs="modalities that are no counts"
        )

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        changed = dict(sample)
        for name in self.modalities:
            value = sample.get(name)
            if value is not None:
                deviation = _deviation(value, self.inputs[name].channel_axis)
                noise = random.standard_normal(value.shape, dtype=np.float32)
                noise *= self.strength * deviation
                noise += np.ma.filled(value, 0)
                changed[name] = with_mask_of(value, noise)
        return changed


def _deviation(value: np.ndarray, channel_axis: int) -> np.ndarray:
    """Standard deviation of each channel, or size of each number, shaped to broadcast over `value`; 0 where all of a
    channel is masked."""
    if value.size == value.shape[channel_axis]:
        return np.abs(np.ma.filled(value, 0).astype(np.float32))
    axes = tuple(axis for axis in range(value.ndim) if axis != channel_axis)
    return np.ma.filled(value.std(axis=axes, keepdims=True, dtype=np.float32), 0)
