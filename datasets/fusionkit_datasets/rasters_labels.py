"""The labels of `rasters`: where each sample is, and its class, from rasters or from points and polygons."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import pandas as pd
from pydantic import Discriminator, PositiveInt, Tag
from rasterio.crs import CRS
from rasterio.warp import transform_geom

from fusionkit.errors import BadSample, DataError
from fusionkit.options import DataPath
from fusionkit_datasets.labels import unique
from fusionkit_datasets.rasters_sources import OfFile, Opened, Source, files_of, open_raster
from fusionkit_datasets.rasters_vectors import Features, Geometry, centre, column_of, read_features, read_table
from fusionkit_datasets.rasters_windows import Frame, moved
from fusionkit_datasets.readers import SUFFIXES
from fusionkit_datasets.readers.common import reading
from fusionkit_datasets.references import Keys

_ROWS = 1024
"""Rows of a label raster that are held in memory at a time."""


class RasterLabels(OfFile):
    """Classes from a raster, one a scene or one for all. Short form: `file`."""

    file: DataPath
    """The raster; with one file a scene as for a source. A sample is a pixel, and its class that of its pixel."""
    band: PositiveInt = 1
    """Band, from 1."""
    stride: PositiveInt = 1
    """Takes every so manieth pixel of every so manieth row."""


class Join(Keys):
    """A table with further attributes of the points or polygons."""

    file: DataPath
    """A CSV or TSV file."""
    key: str
    """The column that table and vector file share."""


class VectorLabels(OfFile):
    """Classes from points or polygons: a sample is one of them, its window around the middle of its box. Short form:
    `file`."""

    file: DataPath
    """GeoPackage, shapefile, GeoJSON or a CSV with coordinates; several by a pattern (`crowns_*.shp`)."""
    column: str = "label"
    """The column with the classes, of the file or of `table`."""
    table: Join | None = None
    """Where further columns are."""
    id: str | None = None
    """The column that names the samples. Default: they are numbered, file by file."""
    layer: str | None = None
    """Layer of a GeoPackage. Default: the first."""
    crs: str | None = None
    """CRS of the coordinates, where the file does not say it, as a CSV never does: `EPSG:32617`."""
    x: str = "x"
    """The column of a CSV that holds eastings or longitudes."""
    y: str = "y"
    """The column of a CSV that holds northings or latitudes."""


def _form(value: Any) -> str:
    if isinstance(value, RasterLabels | VectorLabels):
        return "raster" if isinstance(value, RasterLabels) else "vector"
    file = value.get("file", "") if isinstance(value, dict) else value
    suffix = Path(str(file)).suffix.lower()
    return "raster" if SUFFIXES.get(suffix) == "raster" or not suffix else "vector"


Labels: TypeAlias = Annotated[
    Annotated[RasterLabels, Tag("raster")] | Annotated[VectorLabels, Tag("vector")], Discriminator(_form)
]


@dataclass
class Labelled:
    """Places with their raw labels.

    Args:
        scene: position of the frame that each lies in.
        x, y: in the frame's CRS.
        raw: numbers, or words, empty where there is none.
        ids: unique.
        columns: further facts.
        polygons: in the frame's CRS; empty for rasters.
        bad: what was found and is no sample, or one without a label.
    """

    scene: np.ndarray
    x: np.ndarray
    y: np.ndarray
    raw: np.ndarray
    ids: list[str]
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    polygons: list[Geometry] = field(default_factory=list)
    bad: list[tuple[str, BadSample]] = field(default_factory=list)


def from_raster(root: Path, labels: RasterLabels, frames: Sequence[Frame], ignore: Sequence[int | str]) -> Labelled:
    """A sample at every labelled pixel (of a stride) whose middle lies in a scene.

    Raises:
        DataError: a label raster is missing, damaged, has other than whole numbers, or lies elsewhere.
    """
    files = files_of(root, labels.file)
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("scene", "x", "y", "raw", "row", "column")}
    bad, held = [], None
    for number, frame in enumerate(frames):
        path = files.get(frame.scene) if isinstance(files, dict) else files
        if path is None:
            bad.append((frame.scene, BadSample("this scene has no file of labels", root / labels.file)))
            continue
        if path != held:  # one raster may be of many scenes
            opened, held = open_raster(path, Source(file=path, bands=[labels.band])), path
            with reading(path), opened.raster:
                rows, columns, raw = _labelled_pixels(opened, labels.stride, ignore)
                t, crs = opened.raster.transform, opened.raster.crs
        x, y = moved(crs, frame.crs, t.c + t.a * (columns + 0.5), t.f + t.e * (rows + 0.5))
        inside = frame.contains(x, y)
        if (isinstance(files, dict) or len(frames) == 1) and not inside.all():
            reason = f"{(~inside).sum()} labelled pixels lie outside of the scene"
            bad.append((f"{frame.scene or 'labels'}: outside", BadSample(reason, path)))
        values = (np.full(len(rows), number), x, y, raw, rows, columns)
        for name, value in zip(found, values, strict=True):
            found[name].append(value[inside])
    joined = {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in found.items()}
    if len(joined["x"]) == 0:
        raise DataError("no labelled pixel lies in a scene; see that both cover the same ground", root / labels.file)
    scene = joined["scene"].astype(np.int64)
    prefix = [f"{frame.scene}_" if frame.scene else "" for frame in frames]
    ids = [
        f"{prefix[number]}{row}_{column}"
        for number, row, column in zip(scene.tolist(), joined["row"].tolist(), joined["column"].tolist(), strict=True)
    ]
    return Labelled(scene, joined["x"], joined["y"], joined["raw"], unique(ids), bad=bad)


def _labelled_pixels(opened: Opened, stride: int, ignore: Sequence[int | str]) -> tuple[np.ndarray, ...]:
    """Row, column and raw value of each labelled pixel, in strips, so that a large raster is not held whole."""
    raster, parts = opened.raster, []
    ignored = [int(value) for value in ignore if str(value).lstrip("-").isdigit()]
    for top in range(0, raster.height, _ROWS * stride):
        strip = opened.window(top, 0, min(_ROWS * stride, raster.height - top), raster.width)
        if strip is None:
            continue
        values, missing = (array[0, ::stride, ::stride] for array in strip)
        rows, columns = np.nonzero(~missing & ~np.isin(values, ignored))
        parts.append((top + rows * stride, columns * stride, values[rows, columns]))
    rows, columns, raw = (np.concatenate(part) for part in zip(*parts, strict=True))
    return rows, columns, raw


def from_vectors(root: Path, labels: VectorLabels, frames: Sequence[Frame]) -> Labelled:
    """A sample at every point or polygon whose middle lies in a scene: the first one, where scenes overlap.

    Raises:
        DataError: a file is missing, damaged, lacks a column or a CRS, or nothing lies in a scene.
    """
    pattern = root / labels.file
    paths = [Path(one) for one in sorted(glob.glob(str(pattern)))] if "*" in str(pattern) else [pattern]
    if not paths:
        raise DataError("no file fits this pattern", pattern)
    read = [read_features(path, layer=labels.layer, crs=labels.crs, x=labels.x, y=labels.y) for path in paths]
    scene, x, y = (np.concatenate(part) for part in zip(*(_placed(one, frames) for one in read), strict=True))
    attributes = pd.concat([one.attributes for one in read], ignore_index=True)
    if labels.table is not None:
        attributes = _joined(attributes, root / labels.table.file, labels, paths[0])
    classes = _plain(column_of(attributes, labels.column, paths[0]))
    numbered = [f"{one.path.stem}_{row}" for one in read for row in range(len(one.geometries))]
    names = numbered if labels.id is None else _plain(column_of(attributes, labels.id, paths[0])).astype(str).tolist()
    ids = unique(name or number for name, number in zip(names, numbered, strict=True))
    path_of = np.repeat(np.arange(len(read)), [len(one.geometries) for one in read])
    bad = []
    for i in np.flatnonzero(scene < 0).tolist():
        reason = "has no geometry" if np.isnan(x[i]) else f"({x[i]:.9g}, {y[i]:.9g}) lies in none of the scenes"
        bad.append((ids[i], BadSample(reason, paths[path_of[i]])))
    inside = np.flatnonzero(scene >= 0)
    if len(inside) == 0:
        raise DataError(_elsewhere(read[0], frames), paths[0])
    unlabelled = classes == "" if classes.dtype.kind == "U" else np.isnan(classes.astype(np.float64))
    for i in inside[unlabelled[inside]].tolist():
        bad.append((ids[i], BadSample(f"has no {labels.column}, so it is used in no split", paths[path_of[i]])))
    geometries = [geometry for one in read for geometry in one.geometries]
    crs = [one.crs for one in read]
    return Labelled(
        scene=scene[inside],
        x=x[inside],
        y=y[inside],
        raw=classes[inside],
        ids=[ids[i] for i in inside.tolist()],
        columns={str(name): _plain(attributes[name])[inside] for name in attributes.columns},
        polygons=[_carried(geometries[i], crs[path_of[i]], frames[scene[i]].crs) for i in inside.tolist()],
        bad=bad,
    )


def _placed(features: Features, frames: Sequence[Frame]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each feature the position of its scene, -1 for none, and its middle in that scene's CRS."""
    middles = np.array([centre(geometry) for geometry in features.geometries], dtype=np.float64)
    known = np.flatnonzero(np.isfinite(middles).all(1))
    scene, x, y = np.full(len(middles), -1), middles[:, 0].copy(), middles[:, 1].copy()
    carried: list[tuple[CRS, np.ndarray, np.ndarray]] = []
    for number, frame in enumerate(frames):
        there = next((points for points in carried if points[0] == frame.crs), None)
        if there is None:
            there = (frame.crs, *moved(features.crs, frame.crs, middles[known, 0], middles[known, 1]))
            carried.append(there)
        inside = frame.contains(there[1], there[2]) & (scene[known] < 0)
        scene[known[inside]] = number
        x[known[inside]], y[known[inside]] = there[1][inside], there[2][inside]
    return scene, x, y


def _joined(attributes: pd.DataFrame, path: Path, labels: VectorLabels, vector: Path) -> pd.DataFrame:
    """The attributes with the columns of a table, by the first row of each key.

    Raises:
        DataError: a column is missing, or rows of one key are of different classes.
    """
    key = labels.table.key if labels.table else ""
    table = read_table(path)
    keys = column_of(table, key, path).astype(str)
    wanted = column_of(attributes, key, vector).astype(str)
    if labels.column in table.columns:
        classes = table.groupby(keys)[labels.column].nunique()
        if (classes > 1).any():
            raise DataError(f"the rows of {key} {classes.idxmax()!r} are of different {labels.column}", path)
    table = table[[name for name in table.columns if name not in attributes.columns]]
    first = table[~keys.duplicated()].set_axis(keys[~keys.duplicated()])
    return pd.concat([attributes, first.reindex(wanted).reset_index(drop=True)], axis=1)


def _plain(values: pd.Series) -> np.ndarray:
    """Numbers, or words with nothing as the empty one."""
    if values.dtype.kind in "biuf":
        return values.to_numpy()
    words: np.ndarray = values.fillna("").astype(str).to_numpy().astype(np.str_)
    return words


def _carried(geometry: Geometry | None, source: CRS, target: CRS) -> Geometry:
    if geometry is None:
        raise ValueError("a feature in a scene has a geometry")
    return geometry if source == target else transform_geom(source, target, geometry)


def _elsewhere(features: Features, frames: Sequence[Frame]) -> str:
    middles = np.array([centre(geometry) for geometry in features.geometries])
    low, high = np.nanmin(middles, axis=0), np.nanmax(middles, axis=0)
    bounds = ", ".join(f"{value:.9g}" for value in frames[0].bounds)
    return (
        f"nothing lies in a scene: these are at ({low[0]:.9g}, {low[1]:.9g}) to ({high[0]:.9g}, {high[1]:.9g}) in "
        f"{features.crs.to_string()}, and the first scene covers {bounds} in {frames[0].crs.to_string()}"
    )
