"""Small patches: hyperspectral, LiDAR, SAR, multispectral."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Bool, Float
from pydantic import PositiveInt
from torch import Tensor, nn

from fusionkit.contract import Encoder
from fusionkit.errors import ShapeError
from fusionkit.flow import Features, InputSpec
from fusionkit.options import Probability
from fusionkit_encoders.convolution import Norm, make_norm, residual_stages


class PatchCNN(Encoder):
    """A stem over the bands, then three stages of 3x3 residual blocks of width, 2 width and 4 width channels.

    The features are a map of 4 width channels. The first stage halves sides longer than 16, the others those
    longer than 4; sides from one pixel up work.

    Args:
        spec: `(C, H, W)`.
        variant: the stem. "2d" reduces the bands by a 1x1 convolution. "spectral_spatial" first runs three 3-D
            convolutions over (band, row, column), which share their weights along the spectrum: HybridSN, Roy et al.,
            IEEE GRSL 2020, here with padding and a band stride of two, so that any patch and any number of bands fit.
        width: channels of the first stage.
        depth: residual blocks a stage.
        dropout: of whole channels, in every block and after the stem.
        norm: "batch", or "group" for batches of a few samples; but group norm evens out the level of each sample, and
            with it what sets dark from bright, low from high, few from many.

    Raises:
        ShapeError: the modality is no map.
    """

    def __init__(
        self,
        spec: InputSpec,
        *,
        variant: Literal["2d", "spectral_spatial"] = "2d",
        width: PositiveInt = 32,
        depth: PositiveInt = 1,
        dropout: Probability = 0.1,
        norm: Norm = "batch",
    ):
        super().__init__(spec)
        if len(spec.shape) != 3:
            raise ShapeError(f"patch_cnn reads maps C x H x W, not {spec}")
        bands, height, columns = spec.shape
        front: nn.Module = nn.Identity()
        if variant == "spectral_spatial":
            front = SpectralFront(bands, norm)
            bands = front.channels
        self.stem = nn.Sequential(
            front,
            nn.Conv2d(bands, width, 1, bias=False),
            make_norm(norm, width, 2),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
        )
        self.stages = residual_stages(
            (height, columns), width, (width, 2 * width, 4 * width), depth=depth, norm=norm, dropout=dropout
        )

    def embed(self, value: Float[Tensor, "B C H W"], valid: Bool[Tensor, "B T"] | None) -> Features:
        return Features.from_map(self.stem(value))


class SpectralFront(nn.Module):
    """Three 3-D convolutions over (band, row, column); bands and filters then become the channels of a map.

    Args:
        bands: channels of the input.
        norm: kind of norm.
    """

    filters = (8, 16, 32)
    lengths = (7, 5, 3)
    """Filters, and their extent along the spectrum, of HybridSN."""

    def __init__(self, bands: int, norm: Norm):
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for filters, length in zip(self.filters, self.lengths, strict=True):
            layers += [
                nn.Conv3d(before, filters, (length, 3, 3), (2, 1, 1), (length // 2, 1, 1), bias=False),
                make_norm(norm, filters, 3),
                nn.ReLU(inplace=True),
            ]
            before, bands = filters, (bands + 1) // 2
        self.layers = nn.Sequential(*layers)
        self.channels = before * bands

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        return self.layers(x.unsqueeze(1)).flatten(1, 2)
