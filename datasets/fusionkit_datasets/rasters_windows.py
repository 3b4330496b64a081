"""Where windows lie: on the ground, in the pixels of each source, and to one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np
from pydantic import Discriminator, PositiveFloat, PositiveInt, Tag
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.warp import transform as transform_points

from fusionkit.scene import MapGrid
from fusionkit_datasets.rasters_sources import Grid, Opened
from fusionkit_datasets.references import Keys

_ROUNDING = 6
"""Decimals of a pixel to which its coordinates are taken as exact."""
_APART = 1000
"""Windows between scenes of different CRS: more than any buffer."""


class PixelWindow(Keys):
    """A window by the pixels of one modality, which is the reference then."""

    pixels: PositiveInt
    """Height and width."""
    of: str
    """The modality."""


WindowSize: TypeAlias = Annotated[
    Annotated[PositiveFloat, Tag("size")] | Annotated[PixelWindow, Tag("pixels")],
    Discriminator(lambda value: "pixels" if isinstance(value, dict | PixelWindow) else "size"),
]
"""Side of the windows on the ground, in units of the reference's CRS; or `{pixels: 64, of: MODALITY}`."""


@dataclass(frozen=True)
class Frame:
    """The reference of one scene: where it lies, and in what pixels.

    Args:
        scene: its name; empty where there is one scene.
        crs, transform, height, width: of the reference's raster.
    """

    scene: str
    crs: CRS
    transform: Affine
    height: int
    width: int

    @classmethod
    def of(cls, scene: str, opened: Opened) -> Frame:
        raster = opened.raster
        return cls(scene, raster.crs, raster.transform, raster.height, raster.width)

    @property
    def centre(self) -> tuple[float, float]:
        left, bottom, right, top = self.bounds
        return (left + right) / 2, (bottom + top) / 2

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top."""
        t = self.transform
        return t.c, t.f + t.e * self.height, t.c + t.a * self.width, t.f

    def contains(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Mask over points in its CRS."""
        left, bottom, right, top = self.bounds
        inside: np.ndarray = (x >= left) & (x < right) & (y > bottom) & (y <= top)
        return inside

    def target(self, grid: Grid) -> MapGrid:
        """The common grid over this scene."""
        t, r = self.transform, grid.resolution
        height = int(np.ceil(np.round(-t.e * self.height / r, _ROUNDING)))
        width = int(np.ceil(np.round(t.a * self.width / r, _ROUNDING)))
        return MapGrid(self.crs, Affine(r, 0, t.c, 0, -r, t.f), height, width)


def shape_in_pixels(size: tuple[float, float], transform: Affine) -> tuple[int, int]:
    """Rows and columns nearest to a height and width on the ground, at least one."""
    return max(1, round(size[0] / -transform.e)), max(1, round(size[1] / transform.a))


def size_in(crs: CRS, size: tuple[float, float], frame: Frame) -> tuple[float, float]:
    """A height and width on the ground, in units of another CRS, at the frame's centre."""
    if crs == frame.crs:
        return size
    (x, y), (height, width) = frame.centre, size
    xs, ys = x + np.array([0, 0, -width / 2, width / 2]), y + np.array([-height / 2, height / 2, 0, 0])
    across, along = (np.asarray(values) for values in transform_points(frame.crs, crs, xs, ys))
    length = np.hypot(np.diff(across), np.diff(along))
    return float(length[0]), float(length[2])


def corner(x: float, y: float, shape: tuple[int, int], transform: Affine) -> tuple[int, int]:
    """Top row and left column of the window of `shape` whose middle is nearest to a point.

    A window of even size around the middle of a pixel reaches one pixel further up and left.
    """
    row, column = (y - transform.f) / transform.e, (x - transform.c) / transform.a
    first = np.round([row - shape[0] / 2 - 0.5, column - shape[1] / 2 - 0.5], _ROUNDING)
    top, left = np.ceil(first).astype(int).tolist()
    return top, left


def positions(frames: Sequence[Frame], scene: np.ndarray, x: np.ndarray, y: np.ndarray, window: int) -> np.ndarray:
    """Row and column `[n, 2]` of points in one grid of reference pixels over all scenes.

    Scenes of one CRS lie in it as on the ground, so that windows of two scenes overlap only where the scenes do.
    Those of different CRS are set apart, each further down than all before.

    Args:
        frames: the scenes.
        scene: position in `frames` of each point.
        x, y: in the CRS of its scene.
        window: size in pixels.
    """
    found = np.zeros((len(x), 2), dtype=np.int64)
    origins: list[Frame] = []
    origin_of = []
    for frame in frames:
        origin = next((number for number, known in enumerate(origins) if known.crs == frame.crs), len(origins))
        if origin == len(origins):
            origins.append(frame)
        origin_of.append(origin)
    number = np.array(origin_of, dtype=np.int64)[scene]
    below = 0
    for origin, frame in enumerate(origins):
        of = number == origin
        if not of.any():
            continue
        t = frame.transform
        grid = np.stack([(y[of] - t.f) / t.e, (x[of] - t.c) / t.a], axis=1)
        rows = np.floor(np.round(grid, _ROUNDING)).astype(np.int64)
        rows[:, 0] += below - (rows[:, 0].min() if origin else 0)
        found[of] = rows
        below = int(rows[:, 0].max()) + _APART * window
    return found


def moved(source: CRS, target: CRS, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points in another CRS; infinite where it does not reach."""
    if source == target or len(x) == 0:
        return x, y
    xs, ys = transform_points(source, target, x, y)
    return np.asarray(xs), np.asarray(ys)
