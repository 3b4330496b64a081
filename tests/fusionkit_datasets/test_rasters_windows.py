"""Windows: the pixels nearest to the ground window, by trying all; one grid over all scenes."""

from __future__ import annotations

import numpy as np
import pytest
from fusionkit_datasets.rasters_windows import Frame, corner, positions, shape_in_pixels, size_in
from rasterio import Affine
from rasterio.crs import CRS

UTM17, UTM18 = CRS.from_epsg(32617), CRS.from_epsg(32618)


@pytest.mark.parametrize("size", [1, 4, 5])
@pytest.mark.parametrize("pixel", [0.1, 1.0, 30.0])
def test_corner_is_the_nearest(size: int, pixel: float):
    transform = Affine(pixel, 0, 542055, 0, -pixel, 4134999)
    for x, y in np.random.default_rng(0).uniform(0, 50, (200, 2)):
        top, left = corner(542055 + x * pixel, 4134999 - y * pixel, (size, size), transform)
        tries = np.arange(-10, 60)
        assert left == tries[np.abs(tries + size / 2 - x).argmin()]
        assert top == tries[np.abs(tries + size / 2 - y).argmin()]


def test_corner_of_exact_places():
    transform = Affine(0.1, 0, 542055, 0, -0.1, 4134999)  # 0.1 has no exact double
    for pixel in range(200):
        edge, middle = 542055 + pixel * 0.1, 542055 + (pixel + 0.5) * 0.1
        assert corner(edge, 4134999, (80, 80), transform) == (-40, pixel - 40)
        assert corner(middle, 4134999, (1, 5), transform)[1] == pixel - 2
        assert corner(middle, 4134999, (1, 4), transform)[1] == pixel - 2, "one pixel further left"


def test_shapes():
    assert shape_in_pixels((8, 8), Affine(0.1, 0, 0, 0, -0.1, 0)) == (80, 80)
    assert shape_in_pixels((8, 8), Affine(3, 0, 0, 0, -30, 0)) == (1, 3)


def test_size_in_degrees():
    frame = Frame("", UTM17, Affine(10, 0, 500000, 0, -10, 4134999), 10, 10)
    height, width = size_in(CRS.from_epsg(4326), (1000, 1000), frame)
    assert height == pytest.approx(1000 / 111_000, rel=0.01)
    assert width == pytest.approx(1000 / 111_320 / np.cos(np.radians(37.36)), rel=0.01)
    assert size_in(UTM17, (1000, 900), frame) == (1000, 900)


def test_positions_over_scenes():
    one = Frame("a", UTM17, Affine(10, 0, 0, 0, -10, 1000), 100, 100)
    two = Frame("b", UTM17, Affine(10, 0, 900, 0, -10, 1000), 100, 100)
    three = Frame("c", UTM18, Affine(10, 0, 0, 0, -10, 1000), 100, 100)
    scene, x, y = np.array([0, 1, 2, 2]), np.array([955.0, 955, 955, 965]), np.array([500.0, 500, 900, 500])
    found = positions([one, two, three], scene, x, y, 8)
    assert found[0].tolist() == found[1].tolist() == [50, 95], "one place on the ground"
    assert found[2, 0] >= 50 + 8 * 100
    assert (found[3] - found[2]).tolist() == [40, 1]
