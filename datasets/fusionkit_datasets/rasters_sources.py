"""The sources of `rasters`: their options, their files scene by scene, and windows read from open files."""

from __future__ import annotations

import glob
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from rasterio import Affine
from rasterio.enums import MaskFlags, Resampling
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.warp import calculate_default_transform
from rasterio.windows import Window

from fusionkit.errors import DataError
from fusionkit.options import DataPath
from fusionkit.scene import MapGrid
from fusionkit_datasets.rasters_scales import Scale
from fusionkit_datasets.readers import SUFFIXES
from fusionkit_datasets.readers.common import listed, reading
from fusionkit_datasets.references import Keys

ResamplingName = Literal["nearest", "bilinear", "cubic", "average", "mode"]
_CACHE_MEGABYTES = 256
"""Decoded blocks that GDAL keeps, a process: its default is a share of all memory, which many workers exceed."""
_OPEN_FILES = 256
"""Files held open, a process: systems allow 1,024."""
_REACH = 3
"""Pixels beyond a window that resampling may look at, at full resolution."""


class OfFile(Keys):
    """Options whose short form is `file` alone."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str) else value


class Source(OfFile):
    """One modality: a raster of the whole area, or one a scene. Short form: `file`."""

    file: DataPath
    """GeoTIFF, COG, VRT or whatever else GDAL reads; within `root`. With one file a scene: a path with `{scene}` or `*`
    for the scene's name (`RGB/{scene}.tif`), or a folder of rasters, each named as its scene."""
    bands: list[PositiveInt] | None = Field(None, min_length=1)
    """Bands, from 1. Default: all."""
    scale: Scale | None = None
    """What the numbers are: `{reflectance: 1e-4}`, the factor that makes them reflectance; `{sar: linear}` or
    `{sar: db}`, with `to: db` or `to: linear` to convert. It is held against the values. Default: left as they are."""
    nodata: float | None = None
    """The value that means that there is no measurement. Default: what the raster declares."""
    fill: float | None = None
    """What to put for missing pixels of a window that has others, in the units after `scale`: the treatment for models
    that know whole modalities to be absent, not pixels. Default: the pixels are marked as missing and hold 0."""
    resampling: ResamplingName | None = None
    """How it is warped to a common grid. Default: as `grid` says."""
    polygon: bool = False
    """Adds a last channel, 1 where the polygon of the window's label is and 0 elsewhere."""


class Grid(Keys):
    """The grid that all sources are brought to: that of the reference's CRS and upper left corner."""

    resolution: PositiveFloat
    """Size of a pixel, in units of the reference's CRS."""
    resampling: ResamplingName
    """How the sources are warped, unless they say it themselves."""


@dataclass(frozen=True)
class Opened:
    """An open raster and what reading it needs at hand.

    Args:
        path: the file.
        raster: the file, or its warped view.
        bands: that are read, from 1.
        nodata: as numbers of the raster's type; None where no value means that.
        masked: it has a mask, or a band of transparency, of its own.
        warp: how to make the warped view again, smaller; empty where it is the file.
        straight: whether the warped view is no more than the file at another resolution, every pixel with a value.
    """

    path: Path
    raster: DatasetReader
    bands: list[int]
    nodata: np.generic | None
    masked: bool
    warp: Mapping[str, Any] = field(default_factory=dict)
    straight: bool = False

    def of_band(self, band: int) -> Opened:
        """The same, of which one band is read."""
        return replace(self, bands=[band])

    def window(self, top: int, left: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Values `[C, height, width]` and where they are missing; None where the window lies wholly outside.

        What lies outside is missing and 0.
        """
        raster = self.raster
        first, last = max(top, 0), min(top + height, raster.height)
        start, end = max(left, 0), min(left + width, raster.width)
        if first >= last or start >= end:
            return None
        inside = Window(start, first, end - start, last - first)
        if not isinstance(raster, WarpedVRT):
            values, missing = self._read(raster, inside)
        elif (source := self._behind(inside)) is not None:  # what the warp would make of it, in half the time
            shape = (len(self.bands), int(inside.height), int(inside.width))
            how = self.warp["resampling"]
            values = raster.src_dataset.read(self.bands, window=source, out_shape=shape, resampling=how)
            missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(shape, dtype=bool)
        else:  # the whole view is made of broad blocks, of which most would be warped for nothing
            corner = raster.window_transform(inside)
            size = {"height": inside.height, "width": inside.width}
            with WarpedVRT(raster.src_dataset, transform=corner, **size, **self.warp) as view:
                values, missing = self._read(view, None)
        if values.shape[1:] == (height, width):
            return values, missing
        around = ((0, 0), (first - top, top + height - last), (start - left, left + width - end))
        return np.pad(values, around), np.pad(missing, around, constant_values=True)

    def _behind(self, inside: Window) -> Window | None:
        """The window of the file that a window of the view shows, where it can be read `straight`: none of the pixels
        that are resampled lies beyond the file's edge."""
        if not self.straight:
            return None
        source = self.raster.src_dataset
        view, own = self.raster.transform, source.transform
        across, down = view.a / own.a, view.e / own.e  # pixels of the file in one of the view
        left = (view.c - own.c) / own.a + inside.col_off * across
        top = (view.f - own.f) / own.e + inside.row_off * down
        width, height = inside.width * across, inside.height * down
        edge = _REACH * max(1, across, down)
        if min(left, top) < edge or left + width > source.width - edge or top + height > source.height - edge:
            return None
        return Window(left, top, width, height)

    def _read(self, raster: DatasetReader, inside: Window | None) -> tuple[np.ndarray, np.ndarray]:
        """Values and where they are missing."""
        values = raster.read(self.bands, window=inside)
        missing = np.zeros(values.shape, dtype=bool)
        if self.masked:
            missing = raster.read_masks(self.bands, window=inside) == 0
        if self.nodata is not None:
            missing |= values == self.nodata
        if values.dtype.kind == "f":
            missing |= np.isnan(values)
        return values, missing


class OpenFiles:
    """Rasters held open, per process: the least recently used is closed where there are too many."""

    def __init__(self) -> None:
        self._process, self._files = os.getpid(), OrderedDict[Any, Opened]()

    def get(self, path: Path, source: Source, target: MapGrid | None = None, default: str = "nearest") -> Opened:
        """A raster, opened once.

        Args:
            path: the file.
            source: its options.
            target: what to warp it to; None for its own grid.
            default: how, where the source does not say it.

        Raises:
            DataError: it is missing, damaged, or does not say where it lies.
        """
        if self._process != os.getpid():  # after a fork the parent's files would share its place in them
            self._process, self._files = os.getpid(), OrderedDict()
        key = (path, tuple(source.bands or ()), source.nodata, target, source.resampling or default)
        if key not in self._files:
            _set_up_gdal()
            self._files[key] = open_raster(path, source, target, default)
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)[1].raster.close()
        self._files.move_to_end(key)
        return self._files[key]

    def close(self) -> None:
        if self._process == os.getpid():
            for opened in self._files.values():
                opened.raster.close()
        self._files.clear()

    def __reduce__(self) -> tuple[Callable[[], OpenFiles], tuple[()]]:
        return OpenFiles, ()  # another process opens its own


@cache
def _set_up_gdal() -> None:
    """Once a process, so that rasterio does not do it for every read; a forked worker inherits it."""
    rasterio.Env(GDAL_CACHEMAX=_CACHE_MEGABYTES).__enter__()


def open_raster(
    path: Path, source: Source, target: MapGrid | None = None, default: str = "nearest", *, askew: bool = False
) -> Opened:
    """Open a raster, warped to `target` where there is one.

    Args:
        path: the file.
        source: its options.
        target: what to warp it to; None for its own grid.
        default: how, where the source does not say it.
        askew: its own grid may be rotated.

    Raises:
        DataError: it is missing, damaged, has no such band, or does not say where it lies.
    """
    with reading(path):
        raster = rasterio.open(path)
    if raster.crs is None:
        raise DataError("has no CRS; write it into the file, for example with `rio edit-info --crs EPSG:32617`", path)
    if target is None and not askew and not _upright(raster.transform):
        raise DataError("is rotated or not north-up; bring all sources to a common `grid`", path)
    known = list(raster.indexes)
    bands = source.bands or _measured(raster)
    if wrong := [band for band in bands if band not in known]:
        raise DataError(f"there is no band {listed(wrong)}; it has 1 to {len(known)}", path)
    nodata = source.nodata if source.nodata is not None else raster.nodata
    warp: dict[str, Any] = {}
    if target is not None and not _on(raster, target):
        warp = _warp(raster, target, nodata, Resampling[source.resampling or default])
        with reading(path):
            raster = WarpedVRT(raster, transform=target.transform, height=target.height, width=target.width, **warp)
    dtype = np.dtype(raster.dtypes[bands[0] - 1])
    of_band = raster.mask_flag_enums  # found anew at every look
    flags = {flag for number in bands for flag in of_band[number - 1]}
    masked = bool(flags & {MaskFlags.per_dataset, MaskFlags.alpha})
    straight = bool(warp) and _straight(raster.src_dataset, warp)
    return Opened(path, raster, bands, _as_type(nodata, dtype), masked, warp, straight)


def _measured(raster: DatasetReader) -> list[int]:
    """The bands but that of transparency."""
    return [n for n, what in zip(raster.indexes, raster.colorinterp, strict=True) if what.name != "alpha"]


def _upright(transform: Affine) -> bool:
    return transform.b == 0 == transform.d and transform.a > 0 > transform.e


def _on(raster: DatasetReader, target: MapGrid) -> bool:
    """Whether the raster's pixels are pixels of the target's grid, so that nothing has to be resampled."""
    here, there = raster.transform, target.transform
    if raster.crs != target.crs or not _upright(here) or not np.allclose((here.a, here.e), (there.a, there.e), 1e-9):
        return False
    apart = np.array([(here.c - there.c) / there.a, (here.f - there.f) / there.e])
    return bool(np.abs(apart - np.round(apart)).max() < 1e-3)


def _warp(raster: DatasetReader, target: MapGrid, nodata: float | None, how: Resampling) -> dict[str, Any]:
    """Options of a view in the target's CRS, in which all that the raster does not cover is missing."""
    dtype = raster.dtypes[0] if how in (Resampling.nearest, Resampling.mode) else _wide(raster)
    has_alpha = len(_measured(raster)) < raster.count
    unknown = nodata is None and not has_alpha
    # GDAL would guess it from the windows' sizes, so that a small window would be smoothed otherwise than a large one.
    pixel, _, _ = calculate_default_transform(raster.crs, target.crs, raster.width, raster.height, *raster.bounds)
    if raster.crs == target.crs and _upright(raster.transform):
        pixel = raster.transform
    beyond = np.nan if unknown and dtype.startswith("float") else nodata  # takes half the time of a band of alpha
    return {
        "crs": target.crs,
        "resampling": how,
        "src_nodata": nodata,
        "nodata": beyond,
        "add_alpha": unknown and beyond is None,
        "dtype": dtype,
        "XSCALE": pixel.a / target.transform.a,
        "YSCALE": pixel.e / target.transform.e,
    }


def _straight(source: DatasetReader, warp: Mapping[str, Any]) -> bool:
    """Whether reading the file at another resolution gives what warping it does, as of GDAL's common resamplings."""
    whole = warp["src_nodata"] is None and all(flags == [MaskFlags.all_valid] for flags in source.mask_flag_enums)
    alike = source.crs == warp["crs"] and _upright(source.transform)
    return whole and alike and source.dtypes[0] == warp["dtype"]


def _wide(raster: DatasetReader) -> str:
    """Interpolated whole numbers are no whole numbers."""
    return "float64" if any(name in ("float64", "int32", "uint32") for name in raster.dtypes) else "float32"


def _as_type(nodata: float | None, dtype: np.dtype) -> np.generic | None:
    """The value in the raster's own type; None where that cannot hold it, so that no pixel can be it."""
    if nodata is None or (dtype.kind == "f" and np.isnan(nodata)):
        return None  # NaN is missing anyway
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if np.isnan(nodata) or not limits.min <= nodata <= limits.max or nodata != int(nodata):
            return None
    with np.errstate(over="ignore"):
        number: np.generic = dtype.type(nodata)
        return number


def files_of(root: Path, file: Path) -> dict[str, Path] | Path:
    """The file of each scene, sorted by the scene's name; or the one file that shows all.

    Raises:
        DataError: nothing fits the pattern, or two files have one name.
    """
    path = root / file
    if path.is_dir():
        found = [one for one in sorted(path.iterdir()) if SUFFIXES.get(one.suffix.lower()) == "raster"]
        return _by_name([(one.stem, one) for one in found], path, "the folder holds no rasters")
    text = str(path)
    if "{scene}" not in text and "*" not in text:
        return path
    place = "{scene}" if "{scene}" in text else "*"
    regex = re.escape(text).replace(re.escape(place), "(?P<scene>[^/]+)", 1).replace(re.escape(place), "(?P=scene)")
    regex = regex.replace(re.escape("*"), "[^/]*")
    parts = [glob.escape(part) for part in re.split(r"\{scene\}|\*", text)]
    matches = [(re.fullmatch(regex, one), Path(one)) for one in sorted(glob.glob("*".join(parts)))]
    return _by_name([(m["scene"], one) for m, one in matches if m], path, "no file fits this pattern")


def _by_name(found: list[tuple[str, Path]], path: Path, none: str) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for name, one in found:
        if name in files:
            raise DataError(f"{files[name].name} and {one.name} are both of scene {name!r}", path)
        files[name] = one
    if not files:
        raise DataError(none, path)
    return files
