"""Random brightness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from fusionkit.contract import Augmentation, Sample
from fusionkit.flow import InputSpec
from fusionkit_augmentations.masked import with_mask_of
from fusionkit_augmentations.selection import is_map, select


class Scale(Augmentation):
    """Multiplies a modality by one random factor a sample: another illumination, another exposure.

    For values whose zero means nothing: reflectance, radiance, digital numbers, linear SAR intensity; not decibels.
    Each modality has a factor of its own. The result is float32.

    Args:
        inputs: per modality, the shape of its arrays.
        strength: the factor is uniform from 1 - strength to 1 + strength.
        modalities: those to change; default: all maps that are no counts.

    Raises:
        RequestError: a modality is unknown or holds counts.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        *,
        strength: Annotated[float, Field(gt=0, lt=1)] = 0.1,
        modalities: list[str] | None = None,
    ):
        super().__init__(inputs)
        self.strength = strength
        self.modalities = select(
            "scale",
            inputs,
            modalities,
            fits=lambda spec: not spec.counts,
            needs="modalities that are no counts (maps, unless others are named)",
            default=is_map,
        )

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        changed = dict(sample)
        for name in self.modalities:
            factor = np.float32(1 + self.strength * (2 * random.random() - 1))
            value = sample.get(name)
            if value is not None:
                scaled = np.multiply(np.ma.getdata(value), factor, dtype=np.float32)
                changed[name] = with_mask_of(value, scaled)
        return changed
