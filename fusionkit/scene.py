"""Scenes that a finished run is asked about: windows of files that are given at prediction, and where they lie."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from rasterio import Affine
from rasterio.crs import CRS

from fusionkit.contract import Sample
from fusionkit.errors import RequestError


@dataclass(frozen=True)
class MapGrid:
    """The pixels of a raster or of a map.

    Args:
        crs: coordinate reference system.
        transform: from column and row to its coordinates.
        height, width: in pixels.
    """

    crs: CRS
    transform: Affine
    height: int
    width: int

    def pixel(self, x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of points in its CRS, from the upper left corner: 0.5 is the middle of the first.

        North must be up.
        """
        t = self.transform
        return (np.asarray(y) - t.f) / t.e, (np.asarray(x) - t.c) / t.a

    def same(self, other: MapGrid) -> bool:
        """Whether the corners are within half a pixel of each other."""
        # A transform is a 3 x 3 matrix, row by row, on (column, row, 1).
        corners = np.array([(0, self.width), (0, self.height), (1, 1)], dtype=np.float64)
        here, there = (np.reshape(tuple(grid.transform), (3, 3)) for grid in (self, other))
        moved = np.linalg.solve(here, there @ corners)
        return self.crs == other.crs and bool(np.abs(corners - moved).max() <= 0.5)


@dataclass(frozen=True)
class Shapes:
    """Polygons on the ground.

    Args:
        geometries: as in GeoJSON, in the CRS of the map; None where a feature has none.
        attributes: a row a feature.
    """

    geometries: list[dict[str, Any] | None]
    attributes: pd.DataFrame


class SceneWindows(ABC):
    """Windows of one scene, read from new files as the dataset reads those it was trained on.

    Args:
        grid: of the map that is to be made, north up: that of one of the files, or what the dataset brings all of
            them to.
        window: height and width of a window in pixels of the grid.
        stride: pixels between neighbouring windows, where the user says nothing.
        centred: the answer is of the pixel in the middle of the window; else it is of the whole window.
        modalities: that samples may hold: those of the files, and what is made of polygons.
    """

    def __init__(
        self, grid: MapGrid, window: tuple[int, int], *, stride: int, centred: bool, modalities: Iterable[str]
    ):
        self.grid, self.window, self.stride, self.centred = grid, window, stride, centred
        self.modalities = frozenset(modalities)

    needs_polygons: bool = False
    """True where a sample shows the polygon that it is of, so that there is nothing to read without one."""

    @abstractmethod
    def read(self, x: float, y: float, polygon: dict[str, Any] | None = None) -> Sample:
        """The sample whose window has its middle at a point.

        Args:
            x, y: in the CRS of the grid. A window of even size around the middle of a pixel reaches one pixel further
                up and left.
            polygon: that it is of, in the CRS of the grid.

        Returns:
            the modalities of the files given; None of one that has no measurement here.

        Raises:
            BadSample: the dataset would not take such a window; it gets no answer, is counted and told.
            DataError: a file is damaged here.
        """

    @abstractmethod
    def measured(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Mask `[height, width]` over pixels of the grid: where any of the files has a measurement.

        Raises:
            DataError: a file is damaged here.
        """

    def polygons(self, path: Path) -> Shapes:
        """Polygons from a file that the dataset can read.

        Raises:
            DataError: it is missing or damaged.
            RequestError: the dataset does not know polygons.
        """
        raise RequestError("the run's dataset does not know polygons; leave --polygons out")
