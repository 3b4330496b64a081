"""Polygons that a run is asked about: their places, their answers painted on a map, and a table of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from rasterio import Affine
from rasterio.features import bounds, rasterize
from rasterio.warp import transform_geom

from fusionkit.mapping_answers import Answers, Place, Tile, tiles
from fusionkit.scene import MapGrid, SceneWindows, Shapes

_WGS84 = "OGC:CRS84"
"""The CRS of GeoJSON (RFC 7946)."""


class Polygons:
    """Polygons and the answers for them.

    Args:
        shapes: the polygons, in the map's CRS.
        answers: of the run.
        grid: of the map; a polygon whose middle lies outside of it has no answer.

    Attributes:
        found: the answers `[n, K]`, NaN where there is none.
        notes: why there is none; empty where there is one.
    """

    def __init__(self, shapes: Shapes, answers: Answers, grid: MapGrid):
        self._shapes, self._grid = shapes, grid
        count = len(shapes.geometries)
        self._boxes = np.array([_box(one) for one in shapes.geometries], dtype=np.float64).reshape(count, 4)
        x, y = (self._boxes[:, 0] + self._boxes[:, 2]) / 2, (self._boxes[:, 1] + self._boxes[:, 3]) / 2
        rows, columns = grid.pixel(x, y)
        inside = (rows >= 0) & (rows < grid.height) & (columns >= 0) & (columns < grid.width)
        places = (Place(x[i], y[i], shapes.geometries[i]) for i in np.flatnonzero(inside).tolist())
        self.found = np.full((count, answers.width), np.nan, dtype=np.float32)
        if inside.any():
            self.found[inside] = np.concatenate(list(answers.of(places)))
        answered = ~np.isnan(self.found[:, 0])
        why = np.where(np.isnan(x), "has no geometry", np.where(inside, "no window to answer from", "lies outside"))
        self.notes = np.where(answered, "", why)

    def painted(self, windows: SceneWindows) -> Iterator[tuple[Tile, np.ndarray]]:
        """Each tile and the answers of the polygons over it, `[K, H, W]`; NaN outside. Small ones lie on top."""
        left, bottom, right, top = self._boxes.T
        size = (right - left) * (top - bottom)
        order = [i for i in np.argsort(-size, kind="stable").tolist() if not self.notes[i]]
        for tile in tiles(windows):
            t = self._grid.transform
            t = Affine(t.a, 0, t.c + t.a * tile.left, 0, t.e, t.f + t.e * tile.top)
            ends = t.c + t.a * tile.width, t.f + t.e * tile.height
            over = [i for i in order if left[i] < ends[0] and right[i] > t.c and bottom[i] < t.f and top[i] > ends[1]]
            values = np.full((self.found.shape[1], tile.height, tile.width), np.nan, dtype=np.float32)
            if over:
                painted = rasterize(
                    [(self._shapes.geometries[i], i + 1) for i in over],
                    out_shape=(tile.height, tile.width),
                    transform=t,
                    dtype="uint32",
                )
                inside = painted > 0
                values[:, inside] = self.found[painted[inside].astype(np.int64) - 1].T
            yield tile, values

    def rings(self) -> list[np.ndarray]:
        """The outlines of those with an answer, columns and rows of the map `[n, 2]` of each."""
        found = []
        for geometry, note in zip(self._shapes.geometries, self.notes.tolist(), strict=True):
            if geometry is None or note:
                continue
            parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
            for ring in (ring for part in parts for ring in part):
                points = np.array(ring, dtype=np.float64)
                rows, columns = self._grid.pixel(points[:, 0], points[:, 1])
                found.append(np.stack([columns, rows], axis=1))
        return found

    def table(self, names: tuple[str, ...]) -> pd.DataFrame:
        """A row a polygon: what its file says of it, the prediction, the probability of each class, and a note."""
        answered = self.notes == ""
        best = np.where(answered, np.nan_to_num(self.found).argmax(1), -1)
        told: dict[str, Any] = {"prediction": ["" if k < 0 else names[k] for k in best.tolist()]}
        told |= {f"p_{name}": self.found[:, k] for k, name in enumerate(names)}
        told |= {"note": self.notes.tolist()}
        kept = self._shapes.attributes.drop(columns=list(told), errors="ignore").reset_index(drop=True)
        return pd.concat([kept, pd.DataFrame(told)], axis=1)

    def geojson(self, names: tuple[str, ...]) -> bytes:
        """The same with geometries, in longitude and latitude."""
        rows = json.loads(self.table(names).to_json(orient="records", date_format="iso"))
        there = [geometry for geometry in self._shapes.geometries if geometry is not None]
        moved = iter(transform_geom(self._grid.crs, _WGS84, there, precision=8))  # together: one by one takes long
        features = [
            {"type": "Feature", "geometry": None if geometry is None else next(moved), "properties": row}
            for geometry, row in zip(self._shapes.geometries, rows, strict=True)
        ]
        return json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False).encode()


def _box(geometry: dict[str, Any] | None) -> tuple[float, ...]:
    return (np.nan,) * 4 if geometry is None else bounds(geometry)
