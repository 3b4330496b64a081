"""Shifts of visits in time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import NonNegativeInt

from fusionkit.contract import Augmentation, Sample
from fusionkit.errors import RequestError
from fusionkit.flow import InputSpec
from fusionkit_augmentations.selection import select


class TimeShift(Augmentation):
    """Rolls visit cubes `[weekday, week, hour]` by a few hours of the day and a few weeks, round the ends.

    Each shift is uniform from minus its limit to its limit, the same for all cubes of a sample.

    Args:
        inputs: per modality, the shape of its arrays.
        hours: greatest shift along the last axis.
        weeks: greatest shift along the last axis but one.
        modalities: the cubes to change; default: all counts of three axes.

    Raises:
        RequestError: a modality is unknown or no cube of counts; or both limits are zero.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        *,
        hours: NonNegativeInt = 1,
        weeks: NonNegativeInt = 2,
        modalities: list[str] | None = None,
    ):
        super().__init__(inputs)
        if not hours and not weeks:
            raise RequestError("time_shift: hours and weeks are both 0, so nothing would ever move")
        self.hours, self.weeks = hours, weeks
        self.modalities = select(
            "time_shift",
            inputs,
            modalities,
            fits=lambda spec: spec.counts and len(spec.shape) == 3,
            needs="cubes of counts, weekday x week x hour",
        )

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        hours = int(random.integers(-self.hours, self.hours + 1))
        weeks = int(random.integers(-self.weeks, self.weeks + 1))
        return sample | {
            name: np.roll(value, (weeks, hours), (-2, -1))
            for name in self.modalities
            if (value := sample.get(name)) is not None
        }
