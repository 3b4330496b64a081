"""Rasters through rasterio: GeoTIFF and whatever else GDAL knows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader
from rasterio.windows import Window

from fusionkit.errors import DataError
from fusionkit.scene import MapGrid
from fusionkit_datasets.readers.common import Header, check_header, listed, reading


def header(path: Path, bands: Sequence[int] | None = None) -> tuple[Header, MapGrid | None]:
    """Shape `[C, H, W]` and place of a raster.

    Raises:
        DataError: it is missing or damaged, or has no such band.
    """
    with _open(path) as raster:
        numbers = _bands(raster, bands, path)
        dtype = np.result_type(*[raster.dtypes[number - 1] for number in numbers])
        shape = (len(numbers), raster.height, raster.width)
        georeferenced = raster.crs is not None and not raster.transform.is_identity
        grid = MapGrid(raster.crs, raster.transform, raster.height, raster.width) if georeferenced else None
        return check_header(Header(shape, dtype), path.name, path), grid


def load(
    path: Path,
    bands: Sequence[int] | None = None,
    size: tuple[int, int] | None = None,
    window: Window | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Values `[C, H, W]`, and where they are missing by the raster's own nodata value or mask (None: nowhere).

    Args:
        path: the file.
        bands: from 1; all for None.
        size: height and width to resample to, bilinearly; as it is for None.
        window: the part that is read; all for None.

    Raises:
        DataError: it is missing or damaged, or has no such band.
    """
    with _open(path) as raster:
        numbers = _bands(raster, bands, path)
        shape = (len(numbers), *size) if size else None
        # GDAL leaves missing pixels out of the interpolation.
        values = raster.read(numbers, window=window, masked=True, out_shape=shape, resampling=Resampling.bilinear)
    missing = np.ma.getmaskarray(values)
    return values.data, missing if missing.any() else None


@contextmanager
def _open(path: Path) -> Iterator[DatasetReader]:
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # arrays without a place are welcome
        with rasterio.open(path) as raster:
            yield raster


def _bands(raster: DatasetReader, bands: Sequence[int] | None, path: Path) -> list[int]:
    known = list(raster.indexes)
    if bands is None:
        return known
    if wrong := [band for band in bands if band not in known]:
        raise DataError(f"there is no band {listed(wrong)}; it has 1 to {len(known)}", path)
    return list(bands)
