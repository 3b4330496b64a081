"""Points and polygons with attributes: GeoJSON and CSV as they are, all else through pyogrio."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rasterio.crs import CRS
from rasterio.features import bounds

from fusionkit.errors import DataError, suggestion
from fusionkit_datasets.readers.common import listed, reading

TEXT, JSON = (".csv", ".tsv"), (".geojson", ".json")
_WGS84 = "OGC:CRS84"
"""The CRS of a GeoJSON file that names none (RFC 7946)."""

Geometry = dict[str, Any]
"""As in GeoJSON: `type` and `coordinates`."""


@dataclass(frozen=True)
class Features:
    """What a file of points or polygons holds.

    Args:
        path: the file.
        crs: of the coordinates.
        geometries: None where a feature has none.
        attributes: a row a feature.
    """

    path: Path
    crs: CRS
    geometries: list[Geometry | None]
    attributes: pd.DataFrame


def read_features(
    path: Path, *, layer: str | None = None, crs: str | None = None, x: str = "x", y: str = "y"
) -> Features:
    """Read one file.

    Args:
        path: CSV or TSV with coordinates, GeoJSON, or a format of pyogrio: GeoPackage, shapefile, ...
        layer: of a file with several; default: the first.
        crs: of the coordinates, where the file does not say it.
        x, y: the columns of a CSV that hold the coordinates.

    Raises:
        DataError: it is missing, damaged or empty, or its CRS is unknown.
    """
    suffix = path.suffix.lower()
    with reading(path):
        if suffix in TEXT:
            geometries, attributes = _read_text(path, x, y)
            declared = None
        elif suffix in JSON:
            geometries, attributes, declared = _read_geojson(path)
        else:
            geometries, attributes, declared = _read_vector(path, layer)
    if not geometries:
        raise DataError("holds no features", path)
    return Features(path, _crs(crs or declared, path), geometries, attributes)


def read_table(path: Path) -> pd.DataFrame:
    """A delimited table; empty fields are missing, and words such as NA stay words.

    Raises:
        DataError: it is missing, damaged or empty.
    """
    with reading(path):
        table = pd.read_csv(
            path, sep="," if path.suffix.lower() == ".csv" else "\t", na_values=[""], keep_default_na=False
        )
    if table.empty:
        raise DataError("holds no rows", path)
    return table


def column_of(table: pd.DataFrame, name: str, path: Path) -> pd.Series:
    """A column by its name.

    Raises:
        DataError: there is none.
    """
    if name not in table.columns:
        raise DataError(f"there is no column {name!r}{suggestion(name, map(str, table.columns))}", path)
    return table[name]


def centre(geometry: Geometry | None) -> tuple[float, float]:
    """The middle of the geometry's box; NaN where there is none."""
    if geometry is None or not _has_points(geometry):
        return np.nan, np.nan
    left, bottom, right, top = bounds(geometry)
    return (left + right) / 2, (bottom + top) / 2


def _has_points(geometry: Geometry) -> bool:
    """Whether it holds coordinates at all, each of them finite."""
    try:
        values = np.array(list(_numbers(geometry.get("coordinates"))), dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return len(values) > 1 and bool(np.isfinite(values).all())


def _numbers(coordinates: Any) -> Any:
    if isinstance(coordinates, list | tuple):
        for part in coordinates:
            yield from _numbers(part)
    else:
        yield coordinates


def _crs(name: str | None, path: Path) -> CRS:
    if name is None:
        raise DataError("does not say its CRS; write `crs`, for example `crs: EPSG:32617`", path)
    try:
        return CRS.from_user_input(name)
    except Exception as error:
        raise DataError(f"{name!r} is no CRS: {error}", path) from None


def _read_text(path: Path, x: str, y: str) -> tuple[list[Geometry | None], pd.DataFrame]:
    table = read_table(path)
    across, along = (pd.to_numeric(column_of(table, name, path), errors="coerce") for name in (x, y))
    points: list[Geometry | None] = [
        {"type": "Point", "coordinates": point} for point in zip(across.tolist(), along.tolist(), strict=True)
    ]
    return points, table.drop(columns=[x, y])


def _read_geojson(path: Path) -> tuple[list[Geometry | None], pd.DataFrame, str]:
    content = json.loads(path.read_text(encoding="utf-8"))
    features = content.get("features") if isinstance(content, dict) else None
    if not isinstance(features, list):
        raise DataError("is no GeoJSON FeatureCollection", path)
    crs = (content.get("crs") or {}).get("properties", {}).get("name", _WGS84)
    if crs.upper().endswith("CRS84"):
        crs = _WGS84
    attributes = pd.DataFrame([feature.get("properties") or {} for feature in features])
    return [feature.get("geometry") for feature in features], attributes, crs


def _read_vector(path: Path, layer: str | None) -> tuple[list[Geometry | None], pd.DataFrame, str | None]:
    try:
        import pyogrio
        import shapely
    except ImportError:
        message = "such a file needs pyogrio and shapely: `pip install fusionkit-geo[vector]`, or convert it to GeoJSON"
        raise DataError(message, path) from None
    layers = [str(name) for name in pyogrio.list_layers(path)[:, 0]]
    if layer is not None and layer not in layers:
        raise DataError(f"there is no layer {layer!r}; it has {listed(layers)}", path)
    meta, _, coded, fields = pyogrio.raw.read(path, layer=layer or layers[0])
    shapes = shapely.from_wkb(coded, on_invalid="ignore")
    geometries = [None if one is None else json.loads(shapely.to_geojson(shapely.force_2d(one))) for one in shapes]
    return geometries, pd.DataFrame(dict(zip(meta["fields"], fields, strict=True))), meta["crs"]
