"""Photographs brought to one size, and boxes that stay on what they show."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageOps
from pydantic import PositiveInt

from fusionkit.errors import BadSample
from fusionkit_datasets.images import open_image

Fit: TypeAlias = Literal["crop", "squash"]
Size: TypeAlias = PositiveInt | tuple[PositiveInt, PositiveInt]
"""Height and width, or the side of a square."""


@dataclass(frozen=True)
class Framing:
    """How images become `[3, height, width]`, uint8: upright by their EXIF data, RGB, resampled bicubically.

    Args:
        height, width: of the result.
        fit: `crop` takes the greatest centred window of the result's proportions: the shorter side is resized and what
            is too long is cut off at both ends. `squash` takes the whole image and changes its proportions.
    """

    height: int
    width: int
    fit: Fit

    @classmethod
    def of(cls, size: int | tuple[int, int], fit: Fit) -> Framing:
        height, width = (size, size) if isinstance(size, int) else size
        return cls(height, width, fit)

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.height, self.width

    def window(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom, in pixels, of what is shown of an image of this size."""
        if self.fit == "squash":
            return 0, 0, width, height
        scale = min(width / self.width, height / self.height)
        shown_width, shown_height = scale * self.width, scale * self.height
        left, top = (width - shown_width) / 2, (height - shown_height) / 2
        return left, top, left + shown_width, top + shown_height

    def read(self, path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
        """Read an image as `[3, height, width]`, uint8.

        Args:
            path: the file: grey and palette images become RGB, an alpha channel is left out.
            size: the height and width that it has to have; any for None.

        Raises:
            BadSample: it is missing, empty, cut short, no image, of 16 bits, or has another size.
        """
        with open_image(path, 3) as image:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # about EXIF data and palettes with transparency
                    ImageOps.exif_transpose(image, in_place=True)
                    found = image.height, image.width
                    shown = image.convert("RGB").resize(
                        (self.width, self.height), Image.Resampling.BICUBIC, box=self.window(*found)
                    )
            except Exception as error:  # damaged files make decoders raise almost anything
                raise BadSample(f"the image cannot be read: {error}", path) from error
        if size is not None and found != size:
            seen, told = (f"{height} x {width}" for height, width in (found, size))
            raise BadSample(f"the image is {seen}, and {told} where its boxes were drawn", path)
        return np.moveaxis(np.asarray(shown), 2, 0)

    def framed(self, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
        """A box in pixels of an image of this height and width, as shares of the result's width and height, `[4]`.

        What is cut off of the image is cut off of the box.

        Raises:
            BadSample: it is no box, reaches beyond the image by more than a pixel, or nothing of it is shown.
        """
        corners, (height, width) = np.array(box), size
        if not np.isfinite(corners).all() or not (corners[:2] < corners[2:]).all():
            raise BadSample(f"{_written(box)} is no box: left, top, right, bottom")
        if corners.min() < -1 or corners[2] > width + 1 or corners[3] > height + 1:
            raise BadSample(f"the box {_written(box)} reaches beyond the image: {width} wide, {height} high")
        left, top, right, bottom = self.window(height, width)
        shares = (corners - [left, top, left, top]) / [right - left, bottom - top, right - left, bottom - top]
        shares = shares.clip(0, 1)
        if not (shares[:2] < shares[2:]).all():
            raise BadSample(f"the box {_written(box)} is cut off with the rim of the image; `fit: squash` keeps all")
        return shares


def upright_size(path: Path) -> tuple[int, int]:
    """Height and width of an image, upright by its EXIF data, from the file's header.

    Raises:
        BadSample: as for `Framing.read`, except for pixels.
    """
    with open_image(path, 3) as image:
        try:
            lying = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        except Exception as error:
            raise BadSample(f"the image cannot be read: {error}", path) from error
        return (image.width, image.height) if lying else (image.height, image.width)


def _written(box: tuple[float, ...]) -> str:
    return ", ".join(f"{corner:g}" for corner in box)
