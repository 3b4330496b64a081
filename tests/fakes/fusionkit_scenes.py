"""Scenes for tests of maps: a run whose answers are known, and windows of an array that a test gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from rasterio import Affine
from rasterio.crs import CRS

from fusionkit.contract import Sample
from fusionkit.errors import BadSample
from fusionkit.flow import Batch, InputSpec, Task
from fusionkit.saved import SavedRun
from fusionkit.scene import MapGrid, SceneWindows

GRID = Affine(10, 0, 1000, 0, -10, 2000)


def shares(mean: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities that depend on the mean of a window alone, `[..., K]`."""
    logits = np.cos(mean[..., None] * (1 + np.arange(classes)))
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


class Known(SavedRun):
    """A run that answers by the mean of the first modality; absent ones are let pass where they are named."""

    @classmethod
    def of(
        cls,
        dataset: Any,
        inputs: Mapping[str, InputSpec],
        names: tuple[str, ...] = ("grass", "trees", "water"),
        kind: Any = "classification",
        absences: tuple[str, ...] = (),
    ) -> Known:
        recipe: Any = SimpleNamespace(dataset=SimpleNamespace(build=lambda: dataset, name="fake"))
        run: Any = SimpleNamespace(name="fake-run", absences=absences)
        return cls(run, recipe, dict(inputs), Task(kind, names))

    @property
    def absences(self) -> dict[str, str]:
        return dict.fromkeys(self.run.absences, "left out in training")

    def answers(self, batch: Batch) -> np.ndarray:
        first = next(name for name in self.inputs if batch.present[name].any())
        mean = batch.inputs[first].double().flatten(1).mean(1).numpy()
        return shares(mean, self.task.outputs).astype(np.float32)


class ArrayWindows(SceneWindows):
    """Windows of an array `[H, W]`, one modality; NaN is not measured, and a window of nothing else is absent."""

    def __init__(self, values: np.ndarray, window: tuple[int, int], centred: bool = False):
        grid = MapGrid(CRS.from_epsg(32617), GRID, *values.shape)
        stride = 1 if centred else max(1, min(window) // 2)
        super().__init__(grid, window, stride=stride, centred=centred, modalities=["image"])
        self.values = values
        self._around = np.pad(values, [(side, side) for side in window], mode="edge")

    def read(self, x: float, y: float, polygon: Any = None) -> Sample:
        row, column = (2000 - y) / 10, (x - 1000) / 10
        height, width = self.window
        top, left = (int(np.ceil(np.round(at - side / 2 - 0.5, 6))) for at, side in ((row, height), (column, width)))
        cut = self._around[top + height : top + 2 * height, left + width : left + 2 * width]
        if np.isnan(cut).all():
            return {"image": None}
        if np.isnan(cut).any():
            raise BadSample("a part is missing")
        return {"image": cut[None].astype(np.float32)}

    def measured(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        return ~np.isnan(self.values[top : top + height, left : left + width])


class Cuts:
    """A dataset whose windows a test has made."""

    def __init__(self, windows: SceneWindows | None):
        self.windows = windows

    def windows_of(self, files: Mapping[str, Path], inputs: Mapping[str, InputSpec]) -> SceneWindows | None:
        return self.windows
