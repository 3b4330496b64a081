"""Windows of new rasters, from which a finished run of `patches` makes a map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fusionkit.contract import Sample
from fusionkit.errors import DataError
from fusionkit.flow import InputSpec
from fusionkit.scene import SceneWindows
from fusionkit_datasets.readers import SUFFIXES, rasters
from fusionkit_datasets.references import SceneRef, Scenes, as_list
from fusionkit_datasets.scenes import Layer, Place, Region, Scene

_BLOCK = 256
"""Side of the blocks that are held at a time."""


class PatchWindows(SceneWindows):
    """Windows around the pixels of rasters of one grid; a block of them is held at a time.

    Args:
        files: of the scene, by modality.
        inputs: the shapes that the run was trained with.
        sources: as in the recipe; `bands`, `nodata` and `fill` hold for the new files too.

    Raises:
        DataError: a file is missing, damaged or no raster, does not say where it lies, has other bands than it should,
            or lies elsewhere than the others.
    """

    def __init__(self, files: Mapping[str, Path], inputs: Mapping[str, InputSpec], *, sources: Mapping[str, Scenes]):
        self._references = {name: _reference(name, sources[name], path) for name, path in files.items()}
        places = []
        for name, reference in self._references.items():
            header, grid = rasters.header(reference.file, reference.bands)
            if grid is None:
                raise DataError("does not say where it lies: it has no CRS or no transform", reference.file)
            if header.shape[0] != inputs[name].shape[0]:
                message = f"has {header.shape[0]} bands; the run was trained with {inputs[name].shape[0]} of {name}"
                raise DataError(message, reference.file)
            places.append(Place(reference.file.name, (grid.height, grid.width), grid))
            places[0].check(places[-1])
        first = places[0].grid
        if first is None or first.transform.b or first.transform.d or first.transform.e > 0:
            raise DataError(
                "is rotated or not north-up; warp it, for example with `gdalwarp`", next(iter(files.values()))
            )
        self._size = next(iter(inputs[name].shape[1] for name in files))
        super().__init__(first, (self._size, self._size), stride=1, centred=True, modalities=files)
        self._held: tuple[int, int] | None = None
        self._scenes: dict[str, Scene] = {}

    def read(self, x: float, y: float, polygon: object = None) -> Sample:
        row, column = (int(np.floor(np.round(at, 6))) for at in self.grid.pixel(x, y))
        self._hold(row // _BLOCK, column // _BLOCK)
        return {name: scene.window(row, column, self._size) for name, scene in self._scenes.items()}

    def measured(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        found = np.zeros((height, width), dtype=bool)
        region = Region(top, left, height, width, (self.grid.height, self.grid.width))
        for reference in self._references.values():
            found |= Layer(Path(), reference, region).measured(slice(top, top + height), slice(left, left + width))
        return found

    def _hold(self, row: int, column: int) -> None:
        """Read a block and what the windows around its pixels reach beyond it."""
        if self._held == (row, column):
            return
        size = self.grid.height, self.grid.width
        (top, bottom), (left, right) = (
            (max(0, at * _BLOCK - self._size), min(length, (at + 1) * _BLOCK + self._size))
            for at, length in zip((row, column), size, strict=True)
        )
        region = Region(top, left, bottom - top, right - left, size)
        self._scenes = {name: Scene([Layer(Path(), reference, region)]) for name, reference in self._references.items()}
        self._held = row, column


def _reference(name: str, source: Scenes, path: Path) -> SceneRef:
    """A new file in the place of those that the run was trained with.

    Raises:
        DataError: it is no raster, or has to stand for several that differ in more than their file.
    """
    if SUFFIXES.get(path.suffix.lower()) != "raster":
        raise DataError("is no raster; a map is made of GeoTIFFs and the like, which say where they lie", path)
    told = {(tuple(one.bands or ()), one.nodata, one.fill) for one in as_list(source)}
    if len(told) > 1 or (len(as_list(source)) > 1 and next(iter(told))[0]):
        raise DataError(
            f"{name} is stacked of several scenes with options of their own, which one file cannot have", path
        )
    bands, nodata, fill = told.pop()
    return SceneRef.model_validate({"file": path, "bands": list(bands) or None, "nodata": nodata, "fill": fill})
