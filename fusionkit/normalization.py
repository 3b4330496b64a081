"""How values are scaled before an encoder reads them, by statistics of the training split alone."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from fusionkit.flow import InputSpec

QUANTILES = 129
"""So many describe a channel's distribution: steps of 1/128, finer than a few thousand samples can tell."""
RIDGE = 0.01
"""Added to the variances when whitening, as a share of a channel's; keeps directions of mere noise small."""


@dataclass(frozen=True)
class Statistics:
    """Per-channel mean and standard deviation of one modality, over the training split.

    Args:
        mean, std: one a channel.
        covariance: `[C, C]`, where the modality is to be whitened.
        quantiles: `[C, QUANTILES]` at equal steps from the least value to the greatest, where they are asked for.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...] | None = None
    quantiles: tuple[tuple[float, ...], ...] | None = None


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

    def forward(
        self, value: Shaped[Tensor, "B ..."], measured: Bool[Tensor, "B ..."] | None = None
    ) -> Float[Tensor, "B ..."]:
        """The values in the scale; those that were not measured are the mean.

        Args:
            value: of the modality.
            measured: of maps, where there is a measurement; None means everywhere.
        """
        scaled = (value.to(self.mean.dtype) - self.mean) / self.std
        return scaled if measured is None else scaled.masked_fill(~measured, 0)


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

    def forward(
        self, value: Shaped[Tensor, "B ..."], measured: Bool[Tensor, "B ..."] | None = None
    ) -> Float[Tensor, "B ..."]:
        standardised = super().forward(value, measured).movedim(self.axis, -1)
        # The small components are differences of large numbers, which 16-bit floats cannot tell. Meta has no autocast.
        device = standardised.device.type
        with nullcontext() if device == "meta" else torch.autocast(device, enabled=False):
            return (standardised @ self.components).movedim(-1, self.axis)


class Quantile(Standardize):
    """Each channel by its rank among the training values: uniform, with zero mean and unit deviation.

    With F the channel's distribution function over the training split, linear between its quantiles: sqrt(12) (F(x) -
    1/2), as scikit-learn's `QuantileTransformer` has it. A value that occurs often gets the middle of its ranks, at the
    ends too. What lies outside the training values is as the nearest of them. For odd distributions.

    Args:
        spec: the shape of the modality: a vector or a sequence.
        statistics: with the quantiles; None stands for channels that are uniform from 0 to 1.
    """

    quantiles: Tensor

    def __init__(self, spec: InputSpec, statistics: Statistics | None):
        super().__init__(spec, None)
        even = torch.linspace(0, 1, QUANTILES).repeat(spec.channels, 1)
        if statistics is not None and statistics.quantiles is None:
            raise ValueError("ranks need the quantiles of the channels")
        held = even if statistics is None else torch.tensor(statistics.quantiles)
        self.register_buffer("quantiles", held.float().contiguous())

    def forward(
        self, value: Shaped[Tensor, "B ..."], measured: Bool[Tensor, "B ..."] | None = None
    ) -> Float[Tensor, "B ..."]:
        channels = value.float().flatten(0, -2).T.contiguous()  # [C, values]; channels come last in vectors, sequences
        # Where values repeat, quantiles do: seen from the right and from the left they stand at other ranks.
        rank = (_rank(channels, self.quantiles) - _rank(-channels, -self.quantiles.flip(1)) + 1) / 2
        return ((rank - 0.5) * math.sqrt(12)).T.reshape(value.shape)


def _rank(value: Float[Tensor, "C N"], quantiles: Float[Tensor, "C Q"]) -> Float[Tensor, "C N"]:
    """The share of the distribution up to each value, linear between the quantiles; of repeated ones the last."""
    steps = quantiles.shape[1] - 1
    value = value.clamp(quantiles[:, :1], quantiles[:, -1:])
    above = torch.searchsorted(quantiles, value, right=True).clamp(1, steps)
    low, high = quantiles.gather(1, above - 1), quantiles.gather(1, above)
    width = high - low
    within = torch.where(width > 0, (value - low) / torch.where(width > 0, width, 1.0), 1.0)
    return (above - 1 + within) / steps


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
