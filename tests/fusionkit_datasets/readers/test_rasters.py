"""Rasters: equal to rasterio's reading; what is missing in them; grids compared."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from fusionkit_datasets.readers import rasters
from rasterio import Affine

from fusionkit.errors import DataError

VALUES = np.random.default_rng(0).integers(0, 1000, size=(3, 6, 8)).astype(np.int16)


def write(path: Path, values: np.ndarray, **profile) -> Path:
    profile = {"crs": "EPSG:32617", "transform": Affine(10, 0, 500000, 0, -10, 4000000)} | profile
    count, height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=values.dtype, **profile
    ) as file:
        file.write(values)
    return path


def test_all_bands_and_some(tmp_path: Path):
    path = write(tmp_path / "a.tif", VALUES)
    values, missing = rasters.load(path)
    np.testing.assert_array_equal(values, VALUES)
    assert missing is None
    assert rasters.header(path)[0].shape == (3, 6, 8)
    np.testing.assert_array_equal(rasters.load(path, [3, 1])[0], VALUES[[2, 0]])
    assert rasters.header(path, [3, 1])[0].shape == (2, 6, 8)


def test_nodata_is_missing(tmp_path: Path):
    values = VALUES.copy()
    values[1, 2, 3] = -9999
    found, missing = rasters.load(write(tmp_path / "a.tif", values, nodata=-9999))
    assert missing is not None
    np.testing.assert_array_equal(np.argwhere(missing), [[1, 2, 3]])
    np.testing.assert_array_equal(found, values)


def test_masked_pixels_are_missing(tmp_path: Path):
    path = write(tmp_path / "a.tif", VALUES)
    mask = np.full((6, 8), 255, np.uint8)
    mask[0, 0] = 0
    with rasterio.open(path, "r+") as file:
        file.write_mask(mask)
    _, missing = rasters.load(path)
    assert missing is not None
    np.testing.assert_array_equal(np.argwhere(missing), [[0, 0, 0], [1, 0, 0], [2, 0, 0]])


def test_resampled(tmp_path: Path):
    blocks = np.kron(np.arange(12).reshape(1, 3, 4), np.ones((1, 2, 2))).astype(np.float32)
    values, _ = rasters.load(write(tmp_path / "a.tif", blocks), size=(3, 4))
    assert values.shape == (1, 3, 4)
    assert abs(values - np.arange(12).reshape(1, 3, 4)).max() < 1.5


def test_refused(tmp_path: Path):
    path = write(tmp_path / "a.tif", VALUES)
    with pytest.raises(DataError, match="no band 4; it has 1 to 3"):
        rasters.load(path, [1, 4])
    with pytest.raises(DataError, match="no such file"):
        rasters.header(tmp_path / "b.tif")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 100])
    with pytest.raises(DataError, match="cannot be read"):
        rasters.load(path)
    path.write_bytes(b"no raster")
    with pytest.raises(DataError, match="cannot be read"):
        rasters.header(path)


def test_a_raster_without_a_place_is_welcome(tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(tmp_path / "a.tif", VALUES, crs=None, transform=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rasters.header(tmp_path / "a.tif")[1] is None


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({}, True),
        ({"transform": Affine(10, 0, 500004, 0, -10, 4000000)}, True),  # 0.4 pixels
        ({"transform": Affine(10, 0, 500010, 0, -10, 4000000)}, False),
        ({"transform": Affine(12, 0, 500000, 0, -10, 4000000)}, False),
        ({"crs": "EPSG:32618"}, False),
    ],
)
def test_grids(changed: dict, same: bool, tmp_path: Path):
    one = rasters.header(write(tmp_path / "a.tif", VALUES))[1]
    other = rasters.header(write(tmp_path / "b.tif", VALUES, **changed))[1]
    assert one is not None
    assert other is not None
    assert one.same(other) is same
