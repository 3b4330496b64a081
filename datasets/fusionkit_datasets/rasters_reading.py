"""One window of one source of `rasters`: read, held against its promise, scaled, its missing pixels dealt with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rasterio import Affine
from rasterio.features import rasterize
from rasterio.warp import transform_geom

from fusionkit.errors import BadSample, DataError
from fusionkit_datasets.missing import settle
from fusionkit_datasets.rasters_sources import Grid, Opened, OpenFiles, Source
from fusionkit_datasets.rasters_vectors import Geometry
from fusionkit_datasets.rasters_windows import Frame, corner, moved
from fusionkit_datasets.readers.common import blamed_on


@dataclass(frozen=True)
class Promise:
    """What is promised of a modality: its bands and the pixels of its windows.

    Args:
        bands: how many are read.
        shape: rows and columns of a window.
        pixel: height and width of a pixel, which all files of the modality share; None where nobody knows.
    """

    bands: int
    shape: tuple[int, int]
    pixel: tuple[float, float] | None = None


@dataclass(frozen=True)
class Place:
    """A window's middle on the ground.

    Args:
        frame: the scene.
        x, y: in the CRS of its reference.
        polygon: that the sample is of, in the same CRS; None where it is of none.
    """

    frame: Frame
    x: float
    y: float
    polygon: Geometry | None = None


@dataclass(frozen=True)
class Raw:
    """A window as it is in the file.

    Args:
        values: `[C, H, W]`.
        missing: where there is no measurement, of the same shape.
        opened: from where.
        transform: from its columns and rows to coordinates of the source's CRS.
    """

    values: np.ndarray
    missing: np.ndarray
    opened: Opened
    transform: Affine


class WindowReader:
    """Reads windows of the sources, each at its own grid or warped to a common one.

    Args:
        sources: the options of each modality.
        grid: the common grid; None where each source keeps its own.
        promises: of each modality.
    """

    def __init__(self, sources: Mapping[str, Source], grid: Grid | None, promises: Mapping[str, Promise]):
        self.sources, self.grid, self.promises = sources, grid, promises
        self._open = OpenFiles()

    def opened(self, name: str, path: Path, frame: Frame) -> Opened:
        """A file, held against what was promised.

        Raises:
            BadSample: it is damaged, or has other bands or pixels.
        """
        source, promised = self.sources[name], self.promises[name]
        try:
            if self.grid:
                opened = self._open.get(path, source, frame.target(self.grid), self.grid.resampling)
            else:
                opened = self._open.get(path, source)
        except DataError as error:
            raise BadSample(error.message, path) from error
        if len(opened.bands) != promised.bands:
            raise BadSample(f"has {len(opened.bands)} bands, not {promised.bands} as the first file of {name}", path)
        pixel = (-opened.raster.transform.e, opened.raster.transform.a)
        if not self.grid and promised.pixel is not None and not np.allclose(pixel, promised.pixel, rtol=0.01):
            was, should = (" x ".join(f"{side:g}" for side in sides) for sides in (pixel, promised.pixel))
            raise BadSample(f"its pixels are {was}, not {should} as in the first file of {name}", path)
        return opened

    def raw(self, name: str, path: Path, place: Place) -> Raw | None:
        """The window around a place as it is in the file; None where it lies wholly outside.

        Raises:
            BadSample: it cannot be read.
        """
        opened, shape = self.opened(name, path, place.frame), self.promises[name].shape
        raster, x, y = opened.raster, place.x, place.y
        if raster.crs != place.frame.crs:
            (x,), (y,) = moved(place.frame.crs, raster.crs, np.array([x]), np.array([y]))
            if not np.isfinite([x, y]).all():
                return None
        top, left = corner(x, y, shape, raster.transform)
        try:
            window = opened.window(top, left, *shape)
        except Exception as error:  # damaged files make GDAL raise almost anything
            raise BadSample(f"cannot be read: {str(error) or type(error).__name__}", opened.path) from error
        if window is None:
            return None
        t = raster.transform
        return Raw(*window, opened, Affine(t.a, 0, t.c + t.a * left, 0, t.e, t.f + t.e * top))

    def cut(self, name: str, path: Path, place: Place) -> np.ndarray | None:
        """One modality of a sample; a masked array where a part is missing and nothing is to be put there.

        Raises:
            BadSample: it cannot be read.
        """
        found = self.raw(name, path, place)
        if found is None:
            return None
        values, missing, source = found.values, found.missing, self.sources[name]
        if source.scale:
            values, missing = source.scale.apply(values, missing)
        if missing.all():
            return None
        if not missing.any():
            value: np.ndarray = values
        elif source.fill is not None:
            filled = settle(values, missing, source.fill)
            value = values if filled is None else filled
        else:
            value = np.ma.MaskedArray(np.where(missing, values.dtype.type(0), values), missing)
        if not source.polygon:
            return value
        join = np.ma.concatenate if isinstance(value, np.ma.MaskedArray) else np.concatenate
        return join([value, _inside(place, found)])

    def mask(self, like: str, path: Path, place: Place) -> np.ndarray | None:
        """1 inside the place's polygon and 0 outside, on the pixels of a modality, `[1, H, W]`; None as for `cut`."""
        found = self.raw(like, path, place)
        return None if found is None else _inside(place, found)

    def look(self, name: str, windows: Sequence[tuple[Path, Place]]) -> bool:
        """Hold the values of some windows against the scale.

        Returns:
            False where no measurement is in any of them, though none is damaged.

        Raises:
            DataError: they do not fit.
        """
        seen, damaged = [], 0
        for path, place in windows:
            try:
                found = self.raw(name, path, place)
            except BadSample:  # told when the sample is read
                damaged += 1
                continue
            if found is not None and not found.missing.all():
                seen.append(found.values[~found.missing])
        scale = self.sources[name].scale
        if seen and scale:
            with blamed_on("inputs", name, "scale"):
                scale.check(np.concatenate(seen))
        return bool(seen) or damaged > 0


def _inside(place: Place, found: Raw) -> np.ndarray:
    """1 at the pixels that the place's polygon touches, 0 elsewhere, `[1, H, W]`."""
    polygon, crs = place.polygon, found.opened.raster.crs
    if crs != place.frame.crs:
        polygon = transform_geom(place.frame.crs, crs, polygon)
    shape = found.values.shape[1:]
    return rasterize([polygon], out_shape=shape, transform=found.transform, all_touched=True, dtype="uint8")[None]
