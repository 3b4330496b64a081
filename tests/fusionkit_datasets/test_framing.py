"""Photographs of one size: equal to Pillow's and torchvision's; what is damaged is told, other kinds are put right."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from fusionkit_datasets.framing import Framing, upright_size
from PIL import Image, ImageOps
from torchvision.transforms import functional as F

from fusionkit.errors import BadSample

SMOOTH = np.asarray(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)).resize((90, 60))
)
"""60 x 90 without sharp edges."""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.fromarray(SMOOTH).save(path)
    return path


@pytest.mark.parametrize("size", [(32, 32), (20, 40), (40, 20), (60, 90), (100, 110)])
def test_crop_is_the_greatest_centred_window(size: tuple[int, int], photo: Path):
    found = Framing.of(size, "crop").read(photo)
    assert found.dtype == np.uint8
    assert found.shape == (3, *size) == Framing.of(size, "crop").shape
    with Image.open(photo) as image:
        expected = ImageOps.fit(image, size[::-1], Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(found, np.asarray(expected).transpose(2, 0, 1))


def test_crop_is_shorter_side_and_centre_crop(photo: Path):
    """Torchvision's two steps, where no size is rounded between them."""
    with Image.open(photo) as image:
        two_steps = F.center_crop(F.resize(image, [20], F.InterpolationMode.BICUBIC), [20, 20])
    found = Framing.of(20, "crop").read(photo).transpose(1, 2, 0)
    np.testing.assert_allclose(found.astype(int), np.asarray(two_steps).astype(int), atol=1)


def test_squash_keeps_everything(photo: Path):
    with Image.open(photo) as image:
        expected = np.asarray(image.resize((16, 24), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    np.testing.assert_array_equal(Framing.of((24, 16), "squash").read(photo), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_by_exif(orientation: int, tmp_path: Path):
    """A camera held in eight ways: pixels are turned as `ImageOps.exif_transpose` says, and so is the size."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    Image.fromarray(SMOOTH).save(path, exif=exif, quality=95)
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
    assert upright_size(path) == (upright.height, upright.width) == ((90, 60) if orientation >= 5 else (60, 90))
    found = Framing.of((upright.height, upright.width), "squash").read(path)
    np.testing.assert_array_equal(found, np.asarray(upright).transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK"])
def test_other_colours_become_rgb(mode: str, tmp_path: Path):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image = Image.fromarray(SMOOTH).convert(mode)
    image.save(path, **({"quality": 100, "subsampling": 0} if mode == "CMYK" else {}))
    found = Framing.of((60, 90), "squash").read(path)
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1).astype(int)
    np.testing.assert_allclose(found, expected, atol=8 if mode == "CMYK" else 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_refused(channels: int, tmp_path: Path):
    """No rule tells how to make 8 of them: reflectances fill a few of the 16, photographs all."""
    values = np.arange(channels * 54, dtype=np.uint16).reshape(channels, 6, 9) * 300
    profile = {"driver": "PNG", "width": 9, "height": 6, "count": channels, "dtype": "uint16"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it does not say where it lies
        with rasterio.open(tmp_path / "a.png", "w", **profile) as file:
            file.write(values)
    with pytest.raises(BadSample, match="16 bits a channel"):
        Framing.of(4, "crop").read(tmp_path / "a.png")


def test_a_transparent_palette_and_a_broken_exif_are_no_noise(tmp_path: Path, recwarn: pytest.WarningsRecorder):
    palette = Image.fromarray(SMOOTH).quantize(8)
    palette.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    Framing.of(4, "crop").read(tmp_path / "a.png")
    Image.fromarray(SMOOTH).save(tmp_path / "b.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    Framing.of(4, "crop").read(tmp_path / "b.jpg")
    assert not recwarn.list


def test_damage(tmp_path: Path):
    framing, path = Framing.of(8, "crop"), tmp_path / "a.jpg"
    with pytest.raises(BadSample, match="no such file"):
        framing.read(path)
    path.write_bytes(b"")
    with pytest.raises(BadSample, match="0 bytes"):
        framing.read(path)
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(BadSample, match="no image"):
        framing.read(path)
    Image.fromarray(SMOOTH).save(path)
    whole = path.read_bytes()
    for length in range(1, len(whole) - 2, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(BadSample):
            framing.read(path)
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(BadSample, match="a link to nowhere"):
        framing.read(tmp_path / "link.jpg")
    with pytest.raises(BadSample, match="name too long"):
        framing.read(tmp_path / ("a" * 300 + ".jpg"))
    with pytest.raises(BadSample, match="no such file"):
        framing.read(tmp_path / "a\0.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for ever
    with pytest.raises(BadSample, match="no such file"):
        framing.read(tmp_path / "pipe.jpg")


def test_a_bomb_is_not_inflated(tmp_path: Path):
    """A PNG of 2 billion pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 40_000, 8, 2, 0, 0, 0)
    path = tmp_path / "a.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    with pytest.raises(BadSample, match="decompression bomb"):
        Framing.of(8, "crop").read(path)


@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_a_box_stays_on_what_it_shows(fit, tmp_path: Path):
    """A red rectangle: where it is red in the result is where its box says."""
    pixels = np.zeros((120, 200, 3), np.uint8)
    pixels[30:90, 60:140, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    framing = Framing.of((64, 48), fit)
    x1, y1, x2, y2 = framing.framed((60, 30, 140, 90), (120, 200)) * [48, 64, 48, 64]
    rows, columns = np.nonzero(framing.read(tmp_path / "a.png")[0] > 127)
    np.testing.assert_allclose((rows.min(), rows.max() + 1), (y1, y2), atol=0.51)
    np.testing.assert_allclose((columns.min(), columns.max() + 1), (x1, x2), atol=0.51)


def test_boxes_by_hand():
    squash, crop = Framing.of((10, 10), "squash"), Framing.of((10, 10), "crop")
    np.testing.assert_allclose(squash.framed((0, 0, 200, 100), (100, 200)), [0, 0, 1, 1])
    np.testing.assert_allclose(squash.framed((50, 25, 100, 50), (100, 200)), [0.25, 0.25, 0.5, 0.5])
    # Of 100 x 200, the crop shows the columns from 50 to 150.
    np.testing.assert_allclose(crop.framed((75, 25, 100, 50), (100, 200)), [0.25, 0.25, 0.5, 0.5])
    np.testing.assert_allclose(crop.framed((0, 0, 100, 100), (100, 200)), [0, 0, 0.5, 1])
    np.testing.assert_allclose(crop.framed((40, -0.5, 160, 100.5), (100, 200)), [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((10, 10, 10, 20), "no box"),
        ((20, 10, 10, 20), "no box"),
        ((0, 0, np.nan, 5), "no box"),
        ((0, 0, np.inf, 5), "no box"),
        ((0, 0, 210, 50), "reaches beyond the image: 200 wide, 100 high"),
        ((-5, 0, 20, 50), "reaches beyond"),
        ((0, 0, 40, 50), "cut off with the rim of the image; `fit: squash`"),
    ],
)
def test_bad_boxes(box: tuple, reason: str):
    with pytest.raises(BadSample, match=reason):
        Framing.of(10, "crop").framed(box, (100, 200))


def test_an_image_of_another_size_than_its_boxes(photo: Path):
    framing = Framing.of(8, "crop")
    framing.read(photo, (60, 90))
    with pytest.raises(BadSample, match="is 60 x 90, and 90 x 60 where its boxes"):
        framing.read(photo, (90, 60))
