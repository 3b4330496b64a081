"""Flips and quarter turns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fusionkit.contract import Augmentation, Sample
from fusionkit.flow import InputSpec
from fusionkit_augmentations.selection import is_map, select


class Dihedral(Augmentation):
    """Turns and flips all maps of a sample alike, so that co-registered modalities stay so.

    One of the eight symmetries of the square, each as likely as the others. Where one of the maps is not square, one of
    the four that keep a rectangle's shape: flips and the half turn.

    Args:
        inputs: per modality, the shape of its arrays.
        modalities: the maps to change; default: all maps that are no counts.

    Raises:
        RequestError: a modality is unknown or no map.
    """

    moves = True

    def __init__(self, inputs: Mapping[str, InputSpec], *, modalities: list[str] | None = None):
        super().__init__(inputs)
        self.modalities = select("dihedral", inputs, modalities, fits=is_map, needs="maps C x H x W")
        self.square = all(inputs[name].shape[-2] == inputs[name].shape[-1] for name in self.modalities)

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        draw = int(random.integers(8 if self.square else 4))
        return sample | {
            name: _turned(value, draw) for name in self.modalities if (value := sample.get(name)) is not None
        }


def _turned(value: np.ndarray, draw: int) -> np.ndarray:
    """A view; bits of `draw`: 1 flips rows, 2 flips columns, 4 swaps rows and columns."""
    if draw & 4:
        value = value.swapaxes(-2, -1)
    if draw & 1:
        value = value[..., ::-1, :]
    if draw & 2:
        value = value[..., ::-1]
    return value
