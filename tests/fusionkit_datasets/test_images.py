"""Images: equal to Pillow's and rasterio's pixels; nothing damaged gets through."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from fusionkit_datasets.images import image_size, read_image
from PIL import Image

from fusionkit.errors import BadSample

RGB = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)


def test_rgb(tmp_path: Path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", 3)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, RGB.transpose(2, 0, 1))
    assert image_size(tmp_path / "a.png", 3) == (9, 7)


def test_jpeg_is_as_pillow_decodes_it(tmp_path: Path):
    Image.fromarray(RGB).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        np.testing.assert_array_equal(read_image(tmp_path / "a.jpg", 3), np.asarray(image).transpose(2, 0, 1))


def test_grey_palette_and_alpha_become_rgb(tmp_path: Path):
    Image.fromarray(RGB[..., 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png", 3), np.stack([RGB[..., 0]] * 3))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png", 1), RGB[None, ..., 0])
    palette = Image.fromarray(RGB).quantize(8)
    palette.save(tmp_path / "palette.png")
    expected = np.asarray(palette.convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png", 3), expected)
    four = np.dstack([RGB, RGB[..., :1]])
    Image.fromarray(four).save(tmp_path / "four.png")
    np.testing.assert_array_equal(read_image(tmp_path / "four.png", 3), RGB.transpose(2, 0, 1))
    np.testing.assert_array_equal(read_image(tmp_path / "four.png", 4), four.transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_kept(suffix: str, tmp_path: Path):
    deep = np.arange(63, dtype=np.uint16).reshape(9, 7) * 1000
    path = tmp_path / f"a.{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        driver = {"png": "PNG", "tif": "GTiff"}[suffix]
        with rasterio.open(path, "w", driver=driver, width=7, height=9, count=1, dtype="uint16") as file:
            file.write(deep[None])
    found = read_image(path, 1)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found[0], deep)
    assert read_image(path, 1, (4, 5)).shape == (1, 4, 5)


def test_sixteen_bits_of_rgb_would_be_halved(tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(tmp_path / "a.png", "w", driver="PNG", width=7, height=9, count=3, dtype="uint16") as file:
            file.write(RGB.transpose(2, 0, 1).astype(np.uint16) * 200)
    with pytest.raises(BadSample, match="16 bits a channel"):
        read_image(tmp_path / "a.png", 3)


def test_size(tmp_path: Path):
    blocks = np.kron(RGB, np.ones((10, 10, 1), np.uint8))
    Image.fromarray(blocks).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", 3, (9, 7))
    assert found.shape == (3, 9, 7)
    # A block's centre keeps most of its colour, so rows and columns were not confused.
    assert np.corrcoef(found.ravel(), RGB.transpose(2, 0, 1).ravel())[0, 1] > 0.9


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_every_truncated_jpeg_is_bad(options: dict, tmp_path: Path):
    Image.fromarray(RGB).save(tmp_path / "a.jpg", **options)
    data = (tmp_path / "a.jpg").read_bytes()
    for length in range(0, len(data), 3):
        (tmp_path / "a.jpg").write_bytes(data[:length])
        with pytest.raises(BadSample):
            read_image(tmp_path / "a.jpg", 3)


def test_truncated_png_is_bad(tmp_path: Path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    for length in range(1, len(data) - 40, 5):
        (tmp_path / "a.png").write_bytes(data[:length])
        with pytest.raises(BadSample):
            read_image(tmp_path / "a.png", 3)


def test_bad_files(tmp_path: Path):
    with pytest.raises(BadSample, match="no such file"):
        read_image(tmp_path / "a.png", 3)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(BadSample, match="0 bytes"):
        read_image(tmp_path / "a.png", 3)
    (tmp_path / "a.png").write_bytes(b"<html>not found</html>")
    with pytest.raises(BadSample, match="no image"):
        read_image(tmp_path / "a.png", 3)
    Image.fromarray(RGB).save(tmp_path / "a.png")
    with pytest.raises(BadSample, match=r"RGB \(3 channels\), not 1 channels"):
        read_image(tmp_path / "a.png", 1)


def test_a_bomb_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(BadSample, match="decompression bomb"):
        read_image(tmp_path / "a.png", 3)
