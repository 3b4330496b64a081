"""The files of a map: GeoTIFFs written tile by tile, and what tells GIS programs the names and colours of classes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from matplotlib.colors import to_rgb
from rasterio.enums import ColorInterp
from rasterio.io import DatasetWriter

from fusionkit.scene import MapGrid

TILE = 256
"""Side of the tiles."""
# Colours that people with any kind of colour blindness tell apart: "Safe" of CARTOColors (CC BY 3.0), after Paul Tol.
# fmt: off
_COLOURS = (
    "#88ccee", "#cc6677", "#ddcc77", "#117733", "#332288", "#aa4499",
    "#44aa99", "#999933", "#882255", "#661100", "#6699cc", "#888888",
)
# fmt: on
_SHADES = (0.0, -0.35, 0.35)
"""Where there are more classes than colours, the colours come again darker, then lighter."""


def colours(count: int) -> list[tuple[int, int, int]]:
    """A colour a class, red, green and blue from 0 to 255; all different for 36 classes or fewer."""
    found = []
    for number in range(count):
        shade = _SHADES[number // len(_COLOURS) % len(_SHADES)]
        part = np.array(to_rgb(_COLOURS[number % len(_COLOURS)]))
        part = part * (1 + shade) if shade < 0 else part + (1 - part) * shade
        red, green, blue = np.round(part * 255).astype(int).tolist()
        found.append((red, green, blue))
    return found


def nodata_of(classes: int) -> tuple[str, int]:
    """The type that holds the classes, and its greatest number, which means that there is none."""
    return ("uint8", 255) if classes < 256 else ("uint16", 65535)


def open_classes(path: Path, grid: MapGrid, names: Sequence[str], tags: Mapping[str, str]) -> DatasetWriter:
    """A new GeoTIFF of class indices with a colour table.

    Args:
        path: where it is written.
        grid: its pixels.
        names: of the classes.
        tags: its metadata.
    """
    dtype, nodata = nodata_of(len(names))
    file = _open(path, grid, 1, dtype, nodata, predictor=2)
    file.write_colormap(1, {k: (*rgb, 255) for k, rgb in enumerate(colours(len(names)))} | {nodata: (0, 0, 0, 0)})
    file.colorinterp = (ColorInterp.palette,)
    file.set_band_description(1, "class")
    file.update_tags(**tags)
    file.update_tags(1, **{f"CLASS_{k}": name for k, name in enumerate(names)})
    return file


def open_values(path: Path, grid: MapGrid, names: Sequence[str], tags: Mapping[str, str]) -> DatasetWriter:
    """A new GeoTIFF of 32-bit floats, a band a name; NaN where there is no value.

    Args:
        path: where it is written.
        grid: its pixels.
        names: of the bands.
        tags: its metadata.
    """
    file = _open(path, grid, len(names), "float32", float("nan"), predictor=3)
    file.update_tags(**tags)
    for band, name in enumerate(names, 1):
        file.set_band_description(band, name)
    return file


def _open(path: Path, grid: MapGrid, bands: int, dtype: str, nodata: float, predictor: int) -> DatasetWriter:
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "crs": grid.crs,
        "transform": grid.transform,
        "height": grid.height,
        "width": grid.width,
        "count": bands,
        "dtype": dtype,
        "nodata": nodata,
    }
    tiles = {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "compress": "deflate", "predictor": predictor}
    return rasterio.open(path, "w", **profile, **tiles, interleave="band", bigtiff="IF_SAFER")


def sidecar(names: Sequence[str], counts: np.ndarray) -> bytes:
    """GDAL's `.aux.xml` of a map of classes: category names, and a table with count, name and colour of each.

    Args:
        names: of the classes.
        counts: pixels of each.
    """
    root = ET.Element("PAMDataset")
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    categories = ET.SubElement(band, "CategoryNames")
    for name in names:
        ET.SubElement(categories, "Category").text = name
    table = ET.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    # Types and usages by GDAL's numbers: 0 integer, 2 text; 5 value, 1 count, 2 name, 6 to 8 red, green and blue.
    fields = [("Value", 0, 5), ("Count", 0, 1), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8)]
    for index, (title, kind, usage) in enumerate(fields):
        field = ET.SubElement(table, "FieldDefn", index=str(index))
        for key, value in (("Name", title), ("Type", kind), ("Usage", usage)):
            ET.SubElement(field, key).text = str(value)
    for k, (name, rgb) in enumerate(zip(names, colours(len(names)), strict=True)):
        row = ET.SubElement(table, "Row", index=str(k))
        for value in (k, int(counts[k]), name, *rgb):
            ET.SubElement(row, "F").text = str(value)
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=False)  # GDAL would take it for the root
