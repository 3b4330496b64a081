"""How values are scaled before an encoder reads them, by statistics of the training split alone."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from fusionkit.flow import InputSpec

RIDGE = 0.01
"""Added to the variances when whitening, as a share of a channel's; keeps directions of mere noise small."""


@dataclass(frozen=True)
class Statistics:
    """Per-channel mean and standard deviation of one modality, over the training split.

    Args:
        mean, std: one a channel.
        covariance: `[C, C]`, where the modality is to be whitened.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...] | None = None


class Standardize(nn.Module):
    """Zero mean and unit deviation per channel. The statistics are buffers: they travel with the weights.

    Args:
        spec: the shape of the modality.
        statistics: None leaves the values as they are.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: InputSpec, statistics: Statistics | None):
        super().__init__()
        shape = [1] * (len(spec.shape) + 1)
        shape[spec.channel_axis + 1] = spec.channels
        mean = torch.tensor(statistics.mean) if statistics else torch.zeros(spec.channels)
        std = torch.tensor(statistics.std) if statistics else torch.ones(spec.channels)
        self.register_buffer("mean", mean.float().reshape(shape))
        self.register_buffer("std", torch.where(std > 0, std, 1.0).float().reshape(shape))

    def forward(self, value: Shaped[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        return (value.to(self.mean.dtype) - self.mean) / self.std


class Whiten(Standardize):
    """Standardises, then turns the channels into their principal components and evens out their variances.

    With z the standardised channels and V diag(l) V' their correlation matrix: (l + 0.01)^-1/2 V' z, by decreasing l.
    For adjacent hyperspectral bands, whose differences are small beside what they share.

    Args:
        spec: the shape of the modality.
        statistics: with the covariance; None stands for channels that are white already.
    """

    components: Tensor

    def __init__(self, spec: InputSpec, statistics: Statistics | None):
        super().__init__(spec, statistics)
        self.axis = spec.channel_axis + 1
        components = torch.eye(spec.channels) if statistics is None else torch.from_numpy(_components(statistics))
        self.register_buffer("components", components.float())

    def forward(self, value: Shaped[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        standardised = super().forward(value).movedim(self.axis, -1)
        # The small components are differences of large numbers, which 16-bit floats cannot tell. Meta has no autocast.
        device = standardised.device.type
        with nullcontext() if device == "meta" else torch.autocast(device, enabled=False):
            return (standardised @ self.components).movedim(-1, self.axis)


def _components(statistics: Statistics) -> np.ndarray:
    """The matrix `[C, C]` that z is multiplied by, a component a column."""
    if statistics.covariance is None:
        raise ValueError("whitening needs the covariance of the channels")
    std = np.array(statistics.std)
    scale = np.where(std > 0, std, 1.0)
    variances, directions = np.linalg.eigh(np.array(statistics.covariance) / np.outer(scale, scale))
    # Eigenvectors come with either sign: the greatest entry is made positive.
    greatest = np.take_along_axis(directions, np.abs(directions).argmax(0)[np.newaxis], 0)
    directions = directions * np.where(greatest < 0, -1.0, 1.0)
    return (directions / np.sqrt(np.maximum(variances, 0) + RIDGE))[:, ::-1].copy()
