"""Spectra, pixel by pixel."""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Bool, Float
from pydantic import PositiveInt
from torch import Tensor, nn

from fusionkit.contract import Encoder
from fusionkit.errors import ShapeError
from fusionkit.flow import Features, InputSpec
from fusionkit.options import Probability
from fusionkit_encoders.convolution import Norm, make_norm


class Spectral(Encoder):
    """1x1 convolutions: each pixel's bands by themselves, at full resolution, every layer a stage.

    For small hyperspectral patches with few labels, where what tells classes apart is the spectrum and not its
    neighbourhood. Mind the normalisation: `normalize: whiten` lets small differences between bands count.

    Args:
        spec: `(C, H, W)`.
        width: of each layer and of the features.
        depth: number of layers.
        dropout: of whole channels, after each layer.
        norm: "batch", or "group" for batches of a few samples.

    Raises:
        ShapeError: the modality is no map.
    """

    def __init__(
        self,
        spec: InputSpec,
        *,
        width: PositiveInt = 128,
        depth: PositiveInt = 1,
        dropout: Probability = 0.1,
        norm: Norm = "batch",
    ):
        super().__init__(spec)
        if len(spec.shape) != 3:
            raise ShapeError(f"spectral reads maps C x H x W, not {spec}")
        for before, after in pairwise([spec.channels, *[width] * depth]):
            self.stages.append(
                nn.Sequential(
                    nn.Conv2d(before, after, 1, bias=False),
                    make_norm(norm, after, 2),
                    nn.ReLU(inplace=True),
                    nn.Dropout2d(dropout),
                )
            )

    def embed(self, value: Float[Tensor, "B C H W"], valid: Bool[Tensor, "B T"] | None) -> Features:
        return Features.from_map(value)
