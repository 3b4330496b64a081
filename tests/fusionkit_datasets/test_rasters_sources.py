"""Sources: which file is of which scene, and how many stay open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from fusionkit_datasets import rasters_sources
from fusionkit_datasets.rasters_sources import OpenFiles, Source, files_of, open_raster
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.windows import Window
from scipy.ndimage import map_coordinates

from fusionkit.errors import DataError
from fusionkit.scene import MapGrid


@pytest.mark.parametrize(
    ("pattern", "scenes"),
    [
        ("a/{scene}_rgb.tif", {"x": "a/x_rgb.tif", "y_2": "a/y_2_rgb.tif"}),
        ("a/*_rgb.tif", {"x": "a/x_rgb.tif", "y_2": "a/y_2_rgb.tif"}),
        ("{scene}/{scene}.tif", {"z": "z/z.tif"}),
        ("{scene}/z*.tif", {"z": "z/z.tif"}),
        ("b[1]", {"p": "b[1]/p.tif", "q": "b[1]/q.vrt"}),
        ("b[1]/{scene}.tif", {"p": "b[1]/p.tif"}),
    ],
)
def test_files_of_scenes(pattern: str, scenes: dict[str, str], tmp_path: Path):
    for name in ("a/x_rgb.tif", "a/y_2_rgb.tif", "a/x_dsm.tif", "z/z.tif", "b[1]/p.tif", "b[1]/q.vrt", "b[1]/p.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert files_of(tmp_path, Path(pattern)) == {scene: tmp_path / name for scene, name in scenes.items()}


def test_one_file_of_all(tmp_path: Path):
    assert files_of(tmp_path, Path("a.tif")) == tmp_path / "a.tif"


def test_two_files_of_one_scene(tmp_path: Path):
    (tmp_path / "a.tif").touch()
    (tmp_path / "a.vrt").touch()
    with pytest.raises(DataError, match=r"a\.tif and a\.vrt are both of scene 'a'"):
        files_of(tmp_path, Path("."))


def test_few_files_stay_open(tmp_path: Path, geotiff, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rasters_sources, "_OPEN_FILES", 2)
    files = OpenFiles()
    source = Source(file=Path("any"))
    paths = [geotiff(tmp_path / f"{n}.tif", np.full((1, 4, 4), n, np.uint8)) for n in range(3)]
    first, second = files.get(paths[0], source), files.get(paths[1], source)
    assert files.get(paths[0], source) is first
    third = files.get(paths[2], source)
    assert [opened.raster.closed for opened in (first, second, third)] == [False, True, False]
    assert files.get(paths[1], source).window(0, 0, 1, 1)[0].tolist() == [[[1]]]


def test_transparency_is_a_mask_and_no_band(tmp_path: Path, geotiff):
    values = np.full((4, 4, 4), 200, np.uint8)
    values[3, 0] = 0
    opened = open_raster(geotiff(tmp_path / "a.tif", values, photometric="RGB", alpha="YES"), Source(file=Path("any")))
    assert opened.bands == [1, 2, 3]
    _, missing = opened.window(0, 0, 4, 4)
    assert missing[:, 0].all()
    assert not missing[:, 1:].any()


@pytest.mark.parametrize("nodata", [-9999, 300, 0.5, float("nan")])
def test_nodata_that_the_type_cannot_hold(nodata: float, tmp_path: Path, geotiff):
    source = Source(file=Path("any"), nodata=nodata) if nodata == nodata else Source(file=Path("any"))
    opened = open_raster(geotiff(tmp_path / "a.tif", np.arange(16, dtype=np.uint8).reshape(1, 4, 4)), source)
    assert not opened.window(0, 0, 4, 4)[1].any()


def test_nodata_of_floats_as_text(tmp_path: Path, geotiff):
    values = np.zeros((1, 4, 4), np.float32)
    values[0, 1, 1] = -3.4e38
    opened = open_raster(geotiff(tmp_path / "a.tif", values, nodata=-3.3999999521443642e38), Source(file=Path("any")))
    assert np.argwhere(opened.window(0, 0, 4, 4)[1]).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("how", ["nearest", "mode", "bilinear", "cubic", "average"])
@pytest.mark.parametrize("resolution", [5, 7.3, 10, 20, 30, 40])
def test_reading_straight_is_warping(tmp_path: Path, how: str, resolution: float):
    """Windows in the middle and at the edges, against GDAL's warp of the whole view."""
    path, random = tmp_path / "a.tif", np.random.default_rng(0)
    profile = {"driver": "GTiff", "dtype": "float32", "count": 2, "height": 90, "width": 80, "crs": "EPSG:32617"}
    with rasterio.open(path, "w", **profile, transform=from_origin(400_003, 4_000_000, 20, 20)) as file:
        file.write(random.normal(size=(2, 90, 80)).astype(np.float32))
    target = MapGrid(CRS.from_epsg(32617), from_origin(400_000, 4_000_000, resolution, resolution), 300, 300)
    opened = open_raster(path, Source(file=path), target, how)
    assert opened.straight
    read = {"straight": 0, "warped": 0}
    for top, left in [(0, 0), *random.integers(0, int(1500 / resolution), (30, 2)).tolist()]:
        found = opened.window(top, left, 12, 10)
        assert found is not None
        read["warped" if opened._behind(Window(left, top, 10, 12)) is None else "straight"] += 1
        expected = replace(opened, straight=False).window(top, left, 12, 10)
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
        whole = opened.raster.read(window=Window(left, top, 10, 12), boundless=False)
        np.testing.assert_allclose(found[0][~found[1]], whole[~np.isnan(whole)], atol=1e-6)
    assert all(read.values())


def test_only_whole_rasters_are_read_straight(tmp_path: Path):
    profile = {"driver": "GTiff", "dtype": "float32", "count": 1, "height": 9, "width": 9, "crs": "EPSG:32617"}
    for name, more in {"hole": {"nodata": 0}, "whole": {}, "numbers": {"dtype": "uint8"}}.items():
        with rasterio.open(tmp_path / name, "w", **profile | more, transform=from_origin(0, 90, 10, 10)) as file:
            file.write(np.ones((1, 9, 9), np.uint8))
    here = MapGrid(CRS.from_epsg(32617), from_origin(0, 90, 5, 5), 18, 18)
    away = MapGrid(CRS.from_epsg(32618), from_origin(0, 90, 5, 5), 18, 18)

    def straight(name: str, target: Target, how: str) -> bool:
        return open_raster(tmp_path / name, Source(file=tmp_path / name), target, how).straight

    assert straight("whole", here, "bilinear")
    assert straight("numbers", here, "nearest")
    assert not straight("numbers", here, "bilinear")  # interpolated numbers are no whole ones
    assert not straight("hole", here, "bilinear")
    assert not straight("whole", away, "bilinear")


def test_small_windows_are_interpolated_like_large_ones(tmp_path: Path):
    """Half a pixel beside its own grid, against SciPy: GDAL's own guess would smooth windows of a few pixels."""
    path, values = tmp_path / "a.tif", np.random.default_rng(0).normal(size=(90, 80)).astype(np.float32)
    profile = {"driver": "GTiff", "dtype": "float32", "count": 1, "height": 90, "width": 80, "crs": "EPSG:32617"}
    with rasterio.open(path, "w", **profile, transform=from_origin(400_010, 4_000_000, 20, 20), nodata=-9999) as file:
        file.write(values, 1)
    target = MapGrid(CRS.from_epsg(32617), from_origin(400_000, 4_000_000, 20, 20), 90, 80)
    opened = open_raster(path, Source(file=path), target, "bilinear")
    assert not opened.straight
    for size in (5, 12, 60):
        found = opened.window(17, 13, size, size)
        assert found is not None
        rows, columns = np.meshgrid(17 + np.arange(size), 12.5 + np.arange(size), indexing="ij")
        np.testing.assert_allclose(found[0][0], map_coordinates(values, [rows, columns], order=1), atol=1e-6)
