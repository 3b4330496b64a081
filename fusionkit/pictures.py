"""Maps of samples as small pictures for a page: three bands, stretched, with boxes or attention over them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from io import BytesIO

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image, ImageDraw

SIDE = 192
"""The longer side of a picture in pixels."""
_UNMEASURED = (238, 241, 244)


def picture(value: Shaped[np.ndarray, "C H W"]) -> Image.Image:
    """The first three bands of a map as red, green and blue, or its first one as grey where it has fewer.

    Three bands of bytes are shown as they are; all else is stretched, each band from its 2nd to its 98th percentile.
    What was not measured is pale.

    Args:
        value: the map; it may be a masked array.
    """
    bands = value[:3] if len(value) >= 3 else value[:1]
    measured = np.logical_not(np.logical_or.reduce(np.ma.getmaskarray(bands)))
    held = np.ma.getdata(bands)
    if not (held.dtype == np.uint8 and len(value) == 3):
        held = np.stack([_stretched(band.astype(np.float64), measured) for band in held])
    pixels = np.broadcast_to(held, (3, *held.shape[1:])).transpose(1, 2, 0).astype(np.uint8)
    pixels = np.where(measured[..., np.newaxis], pixels, np.array(_UNMEASURED, np.uint8))
    image = Image.fromarray(pixels)
    scale = SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)


def _stretched(band: Float[np.ndarray, "H W"], measured: Shaped[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    if not measured.any():
        return np.zeros_like(band)
    low, high = np.percentile(band[measured], [2, 98])
    stretched: np.ndarray = ((np.where(measured, band, low) - low) / (high - low or 1.0)).clip(0, 1) * 255
    return stretched


def with_boxes(image: Image.Image, boxes: Mapping[str, np.ndarray]) -> Image.Image:
    """The picture with boxes drawn into it, the first one broad, so that others on it leave it to be seen.

    Args:
        image: it stays as it is.
        boxes: by their colour, left, top, right and bottom as shares of the image `[4]`.
    """
    drawn = image.copy()
    pen = ImageDraw.Draw(drawn)
    for number, (colour, box) in enumerate(boxes.items()):
        left, top, right, bottom = (np.clip(box, 0, 1) * np.array([*image.size, *image.size])).tolist()
        if right > left and bottom > top:
            pen.rectangle(
                (left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=2 if number else 5
            )
    return drawn


def with_attention(image: Image.Image, weights: Float[np.ndarray, "h w"]) -> Image.Image:
    """The picture, as it is where the weights are greatest, and at a fifth of its light where they are zero."""
    share = weights / (weights.max() or 1.0)
    smooth = Image.fromarray(share.astype(np.float32)).resize(image.size, Image.Resampling.BILINEAR)
    light = 0.2 + 0.8 * np.asarray(smooth)[..., np.newaxis]
    return Image.fromarray((np.asarray(image) * light).clip(0, 255).astype(np.uint8))


def source(image: Image.Image, side: int = SIDE) -> str:
    """The picture as a `data:` URI, no larger than this."""
    held = image.copy()
    held.thumbnail((side, side))
    file = BytesIO()
    held.save(file, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"
