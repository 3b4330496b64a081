"""Shifts along the spectrum."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import PositiveFloat

from fusionkit import Augmentation, InputSpec, RequestError, Sample


class BandShift(Augmentation):
    """Shifts spectra along their bands by a fraction of a band, as if the spectrometer had drifted.

    The shift is uniform from `-bands` to `bands`, the same for all spectra of a sample. Between bands the values are
    interpolated linearly, beyond the ends they are those of the ends. The result is float32.

    Args:
        inputs: per modality, the shape of its arrays.
        bands: the greatest shift.
        modalities: the spectra to shift; default: all vectors.

    Raises:
        RequestError: a modality is unknown or no vector, or there is none.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        *,
        bands: PositiveFloat = 1.0,
        modalities: list[str] | None = None,
    ):
        super().__init__(inputs)
        vectors = [name for name, spec in inputs.items() if len(spec.shape) == 1]
        if wrong := [name for name in modalities or () if name not in vectors]:
            raise RequestError(f"band_shift: {wrong[0]} is no vector; there are {', '.join(vectors) or 'none'}")
        if not vectors:
            raise RequestError("band_shift shifts vectors, and there is none")
        self.bands, self.modalities = bands, vectors if modalities is None else modalities

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        shift = random.uniform(-self.bands, self.bands)
        changed = dict(sample)
        for name in self.modalities:
            value = sample.get(name)
            if value is not None:
                bands = np.arange(len(value))
                changed[name] = np.interp(bands - shift, bands, value).astype(np.float32)
        return changed
