"""Image files through Pillow, without its leniencies: what is not as promised is a bad sample."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from fusionkit.errors import BadSample

MODES = {1: ("L", "I;16", "I;16B", "I;16L"), 3: ("RGB", "1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"), 4: ("RGBA",)}
"""Pillow's modes from which each number of channels is taken: grey and palette images become RGB, and an alpha channel
is left out where three channels are wanted."""


def read_image(path: Path, channels: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read an image as `[channels, H, W]`, uint8, or uint16 for grey images of 16 bits.

    Args:
        path: the file.
        channels: 1 (grey), 3 (RGB) or 4 (RGB and alpha, or whatever the fourth is).
        size: height and width to resample to, bilinearly; as it is for None.

    Raises:
        BadSample: it is missing, empty, cut short, no image, or has other channels.
    """
    with open_image(path, channels) as image:
        try:
            image.load()
            converted = image.convert("RGB") if channels == 3 else image
            if size is not None:
                converted = converted.resize(size[::-1], Image.Resampling.BILINEAR)
            pixels = np.asarray(converted)
        except Exception as error:  # damaged files make decoders raise almost anything
            raise BadSample(f"the image cannot be read: {error}", path) from error
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)


def image_size(path: Path, channels: int) -> tuple[int, int]:
    """Height and width, from the file's header.

    Raises:
        BadSample: as for `read_image`, except for pixels.
    """
    with open_image(path, channels) as image:
        return image.height, image.width


def open_image(path: Path, channels: int) -> Image.Image:
    """Open an image, whose pixels are not decoded yet.

    Raises:
        BadSample: as for `read_image`, except for pixels.
    """
    try:
        if not path.is_file():
            raise BadSample("is a link to nowhere" if path.is_symlink() else "there is no such file", path)
        if path.stat().st_size == 0:
            raise BadSample("the file is empty (0 bytes)", path)
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise BadSample(f"cannot be read: {error.strerror}", path) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about EXIF data that nobody reads
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # twice its limit is an error
            image = Image.open(path)
    except Exception as error:
        raise BadSample(f"is no image: {error}", path) from error
    deep = any(";16" in str(tile.args) for tile in image.tile)
    if deep and (channels == 3 or image.mode not in MODES[1]):
        raise BadSample("the image has 16 bits a channel, of which 8 would be lost; read it as a raster", path)
    if image.mode not in MODES[channels]:
        raise BadSample(f"the image is {image.mode} ({len(image.getbands())} channels), not {channels} channels", path)
    return image
