"""Scenes and maps of one place: read from arrays or rasters, cut into windows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rasterio.windows import Window

from fusionkit.errors import DataError
from fusionkit.scene import MapGrid
from fusionkit_datasets import readers
from fusionkit_datasets.layout import SCENE, Layout, LayoutError, lay_out, take
from fusionkit_datasets.missing import settle
from fusionkit_datasets.readers import rasters
from fusionkit_datasets.readers.common import by
from fusionkit_datasets.references import MapRef, SceneRef


@dataclass(frozen=True)
class Place:
    """Where something is said to lie, to compare it with others.

    Args:
        name: for messages.
        size: rows and columns.
        grid: coordinates; None for arrays.
    """

    name: str
    size: tuple[int, int]
    grid: MapGrid | None

    def check(self, other: Place) -> None:
        """Raise a `DataError` where the other has not the same pixels."""
        if self.size != other.size:
            message = f"{self.name} is {by(self.size)} pixels (rows x columns), {other.name} is {by(other.size)}"
            raise DataError(f"{message}; they must be the same, or say the order of the axes with `axes`")
        if self.grid and other.grid and not self.grid.same(other.grid):
            message = f"{self.name} and {other.name} have as many pixels, but their coordinates are not the same"
            raise DataError(f"{message}; bring them onto one grid, for example with `gdalwarp`")


@dataclass(frozen=True)
class Region:
    """A part of a raster that is held in place of the whole.

    Args:
        top, left: its first row and column.
        height, width: in pixels.
        of: rows and columns of the whole.
    """

    top: int
    left: int
    height: int
    width: int
    of: tuple[int, int]


class Layer:
    """One scene as `[C, H, W]`, with what is missing in it.

    Args:
        root, reference: where it is.
        region: of a raster, the part that is held; rows and columns are counted in the whole all the same.

    Raises:
        DataError: it cannot be read.
    """

    def __init__(self, root: Path, reference: SceneRef, region: Region | None = None):
        self._path, self._fill, self._nodata = root / reference.file, reference.fill, reference.nodata
        missing = None
        if readers.format_of(reference) == "raster":
            window = region and Window(region.left, region.top, region.width, region.height)
            array, missing = rasters.load(self._path, reference.bands, window=window)
        else:
            array = readers.load(root, reference)
        layout = _layout(reference, array.shape, self._path)
        self.values = layout.arrange(array)
        self._missing = None if missing is None or self._nodata is not None else layout.arrange(missing)
        self._corner = (region.top, region.left) if region else (0, 0)
        self.size: tuple[int, int] = region.of if region else self.values.shape[1:]

    def cut(self, rows: slice | np.ndarray, columns: slice | np.ndarray) -> np.ndarray | None:
        """A window; None where nothing in it is valid.

        Raises:
            BadSample: a part of it is missing, and no `fill` is given.
        """
        values, missing = self._read(rows, columns)
        return settle(values, missing, self._fill, self._path)

    def measured(self, rows: slice, columns: slice) -> np.ndarray:
        """Mask `[H, W]`: where any channel has a measurement."""
        values, missing = self._read(rows, columns)
        known = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, dtype=bool)
        measured: np.ndarray = np.logical_or.reduce(known if missing is None else known & ~missing, axis=0)
        return measured

    def _read(self, rows: slice | np.ndarray, columns: slice | np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        rows, columns = _moved(rows, self._corner[0]), _moved(columns, self._corner[1])
        values = self.values[:, rows, columns]
        if self._nodata is not None:
            return values, values == self._nodata
        return values, None if self._missing is None else self._missing[:, rows, columns]


class Scene:
    """One modality: layers stacked along the channels."""

    def __init__(self, layers: list[Layer]):
        self._layers = layers
        self.size = layers[0].size

    def window(self, row: int, column: int, size: int) -> np.ndarray | None:
        """The window of `size` x `size` pixels around a pixel, reflected at the border."""
        top, left = row - size // 2, column - size // 2
        height, width = self.size
        if top >= 0 and left >= 0 and top + size <= height and left + size <= width:
            return self._cut(slice(top, top + size), slice(left, left + size))
        return self._cut(*np.ix_(_reflected(top, size, height), _reflected(left, size, width)))

    def _cut(self, rows: slice | np.ndarray, columns: slice | np.ndarray) -> np.ndarray | None:
        values = [layer.cut(rows, columns) for layer in self._layers]
        present = [value for value in values if value is not None]
        if len(present) < len(values):
            return None
        return present[0] if len(present) == 1 else np.concatenate(present)


def _moved(where: slice | np.ndarray, start: int) -> slice | np.ndarray:
    """Positions along an axis of the whole, along that of a part that starts further on."""
    return slice(where.start - start, where.stop - start) if isinstance(where, slice) else where - start


def _reflected(start: int, size: int, length: int) -> np.ndarray:
    """Positions `start` to `start + size` of an axis that is mirrored at its ends, which are not repeated."""
    if length == 1:
        return np.zeros(size, dtype=np.int64)
    folded = np.arange(start, start + size) % (2 * length - 2)
    return np.minimum(folded, 2 * length - 2 - folded)


def scene_header(root: Path, reference: SceneRef) -> tuple[int, Place]:
    """Channels and place of a scene, without reading it.

    Raises:
        DataError: it is missing or damaged, or is no scene.
    """
    path, grid = root / reference.file, None
    kind = readers.format_of(reference)
    if kind == "raster":
        found, grid = rasters.header(path, reference.bands)
        shape = found.shape
    elif reference.bands is not None:
        raise DataError("`bands` is for rasters; take channels with `axis` and `index`", path)
    elif kind == "text":  # how many rows it has only reading tells
        shape = readers.load(root, reference).shape
    else:
        shape = readers.header(root, reference).shape
    channels, height, width = _layout(reference, shape, path).shape
    return channels, Place(str(reference), (height, width), grid)


def read_map(root: Path, reference: MapRef) -> tuple[np.ndarray, Place]:
    """One number a pixel, `[H, W]`; NaN where a raster has none.

    Raises:
        DataError: it cannot be read, or is no map.
    """
    path, grid = root / reference.file, None
    if readers.format_of(reference) == "raster":
        band = [reference.band or 1]
        grid = rasters.header(path, band)[1]
        array, missing = rasters.load(path, band)
        values = array[0] if missing is None else np.where(missing[0], np.nan, array[0])
    elif reference.band is not None:
        raise DataError("`band` is for rasters", path)
    else:
        try:
            values = take(readers.load(root, reference), reference.axis, reference.index)
        except LayoutError as error:
            raise DataError(f"{reference}: {error}", path) from None
        if values.ndim != 2:
            raise DataError(f"{reference} is {by(values.shape)}; a map has rows and columns", path)
    return values, Place(str(reference), (values.shape[0], values.shape[1]), grid)


def _layout(reference: SceneRef, shape: tuple[int, ...], path: Path) -> Layout:
    default = {3: "chw"} if readers.format_of(reference) == "raster" else SCENE
    try:
        return lay_out(shape, reference.axes, reference.axis, reference.index, default=default)
    except LayoutError as error:
        raise DataError(f"{reference}: {error}", path) from None
