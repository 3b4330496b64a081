"""Windows of new rasters, from which a finished run of `rasters` makes a map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rasterio.warp import transform_bounds, transform_geom
from rasterio.windows import Window

from fusionkit.contract import Sample
from fusionkit.errors import BadSample, DataError
from fusionkit.flow import InputSpec
from fusionkit.scene import MapGrid, SceneWindows, Shapes
from fusionkit_datasets.rasters_reading import Place, Promise, WindowReader
from fusionkit_datasets.rasters_sources import Grid, Opened, Source, open_raster
from fusionkit_datasets.rasters_vectors import Geometry, centre, read_features
from fusionkit_datasets.rasters_windows import Frame, PixelWindow, WindowSize, moved, size_in
from fusionkit_datasets.readers.common import by

_LOOKED_AT = 6
"""Windows along each side of the scene that are read first, to hold the values against their scale."""
_MOST = 1 << 22
"""Pixels of a source that are read at once to see what is measured."""


class RasterWindows(SceneWindows):
    """Windows of one scene; its grid is that of the reference, or of the first source that has a file.

    Args:
        files: of the scene, by modality.
        inputs: the shapes that the run was trained with.
        sources, masks, window: as in the recipe.
        common: the recipe's `grid`; None where each source keeps its own.
        centred: the labels were of pixels.

    Raises:
        DataError: a file is missing, damaged, has other bands or pixels than it should, or lies elsewhere.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        inputs: Mapping[str, InputSpec],
        *,
        sources: Mapping[str, Source],
        masks: Mapping[str, str],
        window: WindowSize,
        common: Grid | None,
        centred: bool,
    ):
        for name in files:
            if name in masks:
                raise DataError(f"{name} is made of polygons; give them as --polygons, and no --{name}")
        self._files = {name: files[name] for name in sources if name in files}
        self._masks = {name: like for name, like in masks.items() if name in inputs}
        wanted = window.of if isinstance(window, PixelWindow) else next(iter(sources))
        self._reference = wanted if wanted in self._files else next(iter(self._files))
        promises = {
            name: Promise(inputs[name].shape[0] - sources[name].polygon, _size(inputs[name])) for name in self._files
        }
        self._reader = WindowReader(sources, common, promises)
        opened = {
            name: open_raster(path, sources[name], askew=common is not None and name != self._reference)
            for name, path in self._files.items()
        }
        self._frame = Frame.of("", opened[self._reference])
        self.needs_polygons = bool(self._masks) or any(sources[name].polygon for name in self._files)
        for name, one in opened.items():
            if len(one.bands) != promises[name].bands:
                message = f"has {len(one.bands)} bands; the run was trained with {promises[name].bands} of {name}"
                raise DataError(message, one.path)
            self._hold_place(one)
        if common is None:
            self._hold_pixels(opened, window)
            grid = MapGrid(self._frame.crs, self._frame.transform, self._frame.height, self._frame.width)
        else:
            grid = self._frame.target(common)
        for one in opened.values():
            one.raster.close()
        shape = promises[self._reference].shape
        made = [name for name, like in self._masks.items() if like in self._files]
        stride = max(1, min(shape) // 2)
        super().__init__(grid, shape, stride=stride, centred=centred, modalities=[*self._files, *made])
        self._look()

    def read(self, x: float, y: float, polygon: Geometry | None = None) -> Sample:
        place = Place(self._frame, x, y, polygon)
        try:
            sample: Sample = {name: self._reader.cut(name, path, place) for name, path in self._files.items()}
            if any(value is not None for value in sample.values()):
                for name, like in self._masks.items():
                    sample[name] = self._reader.mask(like, self._files[like], place) if like in self._files else None
        except BadSample as error:  # of a raster it is always damage
            raise DataError(error.reason, error.path) from error
        return sample

    def measured(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        found = np.zeros((height, width), dtype=bool)
        for name, path in self._files.items():
            if found.all():
                break
            opened = self._reader.opened(name, path, self._frame)
            found |= self._seen(opened, self._reader.sources[name], (top, left), (height, width))
        return found

    def polygons(self, path: Path) -> Shapes:
        features = read_features(path)
        there = [
            geometry if geometry is not None and np.isfinite(centre(geometry)).all() else None
            for geometry in features.geometries
        ]
        for geometry in there:
            if geometry is not None and geometry["type"] not in ("Polygon", "MultiPolygon"):
                raise DataError(f"holds a {geometry['type']}, which has no inside", path)
        if features.crs != self.grid.crs:
            known = [one for one in there if one is not None]
            moved_there = iter(transform_geom(features.crs, self.grid.crs, known))  # together: one by one takes long
            there = [None if one is None else next(moved_there) for one in there]
        return Shapes(there, features.attributes)

    def _hold_place(self, opened: Opened) -> None:
        """Raise where a source shows other ground than the reference."""
        raster, frame = opened.raster, self._frame
        try:
            here = transform_bounds(raster.crs, frame.crs, *raster.bounds)
        except Exception as error:  # whatever GDAL and PROJ make of coordinates that the other CRS does not reach
            raise DataError(f"lies outside of {frame.crs.to_string()}: {error}", opened.path) from error
        left, bottom, right, top = frame.bounds
        if not (here[0] < right and left < here[2] and here[1] < top and bottom < here[3]):
            there = self._files[self._reference].name
            covers, other = (", ".join(f"{edge:.9g}" for edge in box) for box in (here, frame.bounds))
            raise DataError(f"lies elsewhere than {there}: it covers {covers}, and {there} {other}", opened.path)

    def _hold_pixels(self, opened: Mapping[str, Opened], window: WindowSize) -> None:
        """Raise where a source has pixels of another size than the run was trained with."""
        t = self._frame.transform
        if isinstance(window, PixelWindow):
            rows, columns = self._reader.promises[self._reference].shape
            size = -t.e * rows, t.a * columns
        else:
            size = window, window
        for name, one in opened.items():
            ground = size_in(one.raster.crs, size, self._frame)
            pixel, promised = one.raster.transform, self._reader.promises[name].shape
            exact = np.array([ground[0] / -pixel.e, ground[1] / pixel.a])
            if (np.abs(exact - promised) > 0.5 + 0.01 * np.array(promised)).any():
                message = f"a window has {by(np.round(exact).astype(int))} of its pixels; the run was trained with"
                raise DataError(f"{message} {by(promised)} of {name}: its pixels are of another size", one.path)

    def _look(self) -> None:
        """Hold the values of windows all over the scene against the scales."""
        t = self._frame.transform
        rows, columns = (
            np.linspace(0, length, _LOOKED_AT + 2)[1:-1] for length in (self._frame.height, self._frame.width)
        )
        places = [Place(self._frame, t.c + t.a * column, t.f + t.e * row) for row in rows for column in columns]
        for name, path in self._files.items():
            try:
                self._reader.look(name, [(path, place) for place in places])
            except DataError as error:
                raise DataError(f"{name}: {error.message}", path) from None

    def _seen(self, opened: Opened, source: Source, corner: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
        """Mask over pixels of the grid: where one source has a measurement in any of its bands."""
        rows, columns = self._pixels(opened, corner, shape)
        found = np.zeros(shape, dtype=bool)
        inside = (rows >= 0) & (rows < opened.raster.height) & (columns >= 0) & (columns < opened.raster.width)
        if not inside.any():
            return found
        top, left = rows[inside].min(), columns[inside].min()
        height, width = rows[inside].max() - top + 1, columns[inside].max() - left + 1
        if height * width > _MOST and max(shape) > 1:  # a source far finer than the map: in parts
            (row, column), (down, across) = corner, (shape[0] // 2, shape[1] // 2)
            if down >= across:
                parts = [((row, column), (down, shape[1])), ((row + down, column), (shape[0] - down, shape[1]))]
                return np.concatenate([self._seen(opened, source, *part) for part in parts], axis=0)
            parts = [((row, column), (shape[0], across)), ((row, column + across), (shape[0], shape[1] - across))]
            return np.concatenate([self._seen(opened, source, *part) for part in parts], axis=1)
        seen = _measured(opened, source, Window(left, top, width, height))
        found[inside] = seen[rows[inside] - top, columns[inside] - left]
        return found

    def _pixels(self, opened: Opened, corner: tuple[int, int], shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of the source's pixel in the middle of each pixel of the grid, `[height, width]` each; -1
        where there is none."""
        t, raster = self.grid.transform, opened.raster
        rows, columns = np.indices(shape)
        x = t.c + t.a * (columns + corner[1] + 0.5)
        y = t.f + t.e * (rows + corner[0] + 0.5)
        if raster.crs != self.grid.crs:
            across, along = moved(self.grid.crs, raster.crs, x.ravel(), y.ravel())
            x, y = across.reshape(shape), along.reshape(shape)
        t = raster.transform
        rows, columns = (y - t.f) / t.e, (x - t.c) / t.a
        known = np.isfinite(rows) & np.isfinite(columns)
        row, column = (np.where(known, np.floor(np.round(of, 6)), -1).astype(np.int64) for of in (rows, columns))
        return row, column


def _size(spec: InputSpec) -> tuple[int, int]:
    return spec.shape[1], spec.shape[2]


def _measured(opened: Opened, source: Source, window: Window) -> np.ndarray:
    """Mask `[H, W]` over a window: where any band has a measurement. The next band is read where one leaves a gap."""
    seen = np.zeros((window.height, window.width), dtype=bool)
    for band in opened.bands:
        try:
            found = opened.of_band(band).window(window.row_off, window.col_off, window.height, window.width)
        except Exception as error:  # damaged files make GDAL raise almost anything
            raise DataError(f"cannot be read: {str(error) or type(error).__name__}", opened.path) from error
        if found is None:
            break
        values, missing = found
        if source.scale:
            _, missing = source.scale.apply(values, missing)
        seen |= ~missing[0]
        if seen.all():
            break
    return seen
