"""A run's answers for windows of a scene: one by one for polygons, or row by row for a map, blended tile by tile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from fusionkit.contract import Sample
from fusionkit.errors import BadSample
from fusionkit.loading import hold_against
from fusionkit.mapping_files import TILE
from fusionkit.mapping_grid import Axis, blend
from fusionkit.saved import SavedRun
from fusionkit.scene import SceneWindows

_BATCH_BYTES, _MOST = 1 << 24, 1024
"""A batch has as many windows as hold 16 MB, and no more than these."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of the map's pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Place:
    """The middle of a window in the map's CRS, and the polygon that it is of."""

    x: float
    y: float
    polygon: dict[str, Any] | None = None


class Answers:
    """Asks a run about windows.

    Args:
        saved: the run.
        windows: the scene.

    Attributes:
        asked: windows so far.
        empty: those of them where nothing is measured.
        refused: why others have no answer, and how many.
    """

    def __init__(self, saved: SavedRun, windows: SceneWindows):
        self._saved, self._windows = saved, windows
        self.asked, self.empty, self.refused = 0, 0, Counter[str]()
        self.width = saved.task.outputs
        size = sum(4 * int(np.prod(spec.shape)) for spec in saved.inputs.values())
        self._batch = max(1, min(_MOST, _BATCH_BYTES // size))

    def of(self, places: Iterable[Place]) -> Iterator[np.ndarray]:
        """Answers `[n, K]`, batch by batch, in the order of the places; NaN where there is none."""
        left = iter(places)
        while batch := list(islice(left, self._batch)):
            yield self._of_batch(batch)

    def of_rows(self, rows: range, along: Axis, across: Axis) -> np.ndarray:
        """Answers for whole rows of windows, `[n, J, K]`.

        They are asked for by upright strips, so that the blocks of tiled files are read once.
        """
        t, found = self._windows.grid.transform, np.empty((len(rows), len(across), self.width), np.float32)
        order = _by_strips(len(rows), across)
        xs, ys = t.c + t.a * across.middles, t.f + t.e * along.middles
        places = (Place(float(xs[column]), float(ys[rows[row]])) for row, column in _by_strips(len(rows), across))
        for answers in self.of(places):
            at = np.array(list(islice(order, len(answers))))
            found[at[:, 0], at[:, 1]] = answers
        return found

    def _of_batch(self, places: Sequence[Place]) -> np.ndarray:
        found = np.full((len(places), self.width), np.nan, dtype=np.float32)
        samples, rows = [], []
        for row, place in enumerate(places):
            sample = self._read(place)
            if sample is not None:
                samples.append(sample)
                rows.append(row)
        if samples:
            answers = self._saved.answers(self._saved.batch(samples))
            finite = np.isfinite(answers).all(1)
            if not finite.all():
                self.refused["the model's answer is no finite number"] += int((~finite).sum())
            found[rows] = np.where(finite[:, None], answers, np.nan)
        self.asked += len(places)
        return found

    def _read(self, place: Place) -> Sample | None:
        try:
            sample = self._windows.read(place.x, place.y, place.polygon)
            for name, spec in self._saved.inputs.items():
                hold_against(name, sample.get(name), spec)
        except BadSample as bad:
            self.refused[bad.reason] += 1
            return None
        if all(value is None for value in sample.values()):
            self.empty += 1
            return None
        return sample


def _by_strips(rows: int, across: Axis) -> Iterator[tuple[int, int]]:
    """Row and column of every window: strip by strip, as wide as a tile, and within them row by row."""
    strips = (across.middles // TILE).astype(int)
    for strip in np.unique(strips).tolist():
        columns = np.flatnonzero(strips == strip).tolist()
        for row in range(rows):
            for column in columns:
                yield row, column


def tiles(windows: SceneWindows) -> Iterator[Tile]:
    """The tiles of the map, row by row."""
    height, width = windows.grid.height, windows.grid.width
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            yield Tile(top, left, min(TILE, height - top), min(TILE, width - left))


def blended(
    answers: Answers, windows: SceneWindows, stride: int, tell: Callable[[int, int], None]
) -> Iterator[tuple[Tile, np.ndarray]]:
    """Each tile and the blended answers of the windows over it, `[K, H, W]`; NaN where there is none.

    No more rows of answers are held than reach into one row of tiles.

    Args:
        answers: of the run.
        windows: the scene.
        stride: pixels between neighbouring windows.
        tell: `(done, total)` of the rows of windows.
    """
    grid = windows.grid
    along, across = (
        Axis.of_pixels(length, stride) if windows.centred else Axis.of_windows(length, size, stride)
        for length, size in zip((grid.height, grid.width), windows.window, strict=True)
    )
    held, first = np.empty((0, len(across), answers.width), np.float32), 0
    rows = (slice(0, 0), np.empty((0, 0)))
    for tile in tiles(windows):
        if tile.left == 0:
            rows = along.over(tile.top, tile.top + tile.height)
            fresh = answers.of_rows(range(first + len(held), rows[0].stop), along, across)
            held, first = np.concatenate([held[rows[0].start - first :], fresh]), rows[0].start
            tell(rows[0].stop, len(along))
        columns, weights = across.over(tile.left, tile.left + tile.width)
        yield tile, blend(held[:, columns], rows[1], weights)
