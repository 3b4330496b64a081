"""Where the windows of a map lie, and how the answers of those that overlap are blended.

Rows and columns are apart: a window's weight at a pixel is the product of two, so the blend of a block of answers A
`[I, J, K]` is `R A C' / R known C'`, with the weights R `[H, I]` and C `[W, J]`. Where windows lie depends on the size
of the scene alone, so a map is the same in whatever blocks it is made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal.windows import cosine


@dataclass(frozen=True)
class Axis:
    """The windows along the rows or the columns of a map.

    Args:
        middles: of each window, in pixels from the edge, sorted.
        starts: the first pixel of each that its answer is for; it may lie before the edge.
        profile: the weight of the answer at that pixel and those that follow.
    """

    middles: np.ndarray
    starts: np.ndarray
    profile: np.ndarray

    @classmethod
    def of_windows(cls, length: int, window: int, stride: int) -> Axis:
        """Windows within the scene, the last one at its edge; their answers fade towards their own edges."""
        starts = _stepped(length - window, stride)
        return cls(starts + window / 2, starts, cosine(window) ** 2)

    @classmethod
    def of_pixels(cls, length: int, stride: int) -> Axis:
        """Windows around pixels, whose answers are for that pixel; between two of them it is interpolated."""
        pixels = np.arange(0, length, stride)
        return cls(pixels + 0.5, pixels - (stride - 1), 1 - np.abs(np.arange(1 - stride, stride)) / stride)

    def __len__(self) -> int:
        return len(self.starts)

    def over(self, start: int, stop: int) -> tuple[slice, np.ndarray]:
        """The windows that have a say in the pixels from `start` to `stop`, and their weights `[pixels, windows]`."""
        reach = len(self.profile)
        first = int(np.searchsorted(self.starts, start - reach, side="right"))
        last = int(np.searchsorted(self.starts, stop, side="left"))
        within = np.arange(start, stop)[:, None] - self.starts[first:last]
        weights = np.where((within >= 0) & (within < reach), self.profile[within.clip(0, reach - 1)], 0.0)
        return slice(first, last), weights


def _stepped(last: int, stride: int) -> np.ndarray:
    """0, stride, ... and the last position."""
    regular = np.arange(0, last + 1, stride)
    return regular if regular[-1] == last else np.append(regular, last)


def blend(answers: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The weighted mean of the answers that have a say at each pixel, `[K, H, W]`; NaN where there is none.

    Args:
        answers: `[I, J, K]`, NaN of windows without one.
        rows, columns: weights `[H, I]` and `[W, J]`.
    """
    known = ~np.isnan(answers[..., 0])
    held = np.where(known[..., None], answers, 0).astype(np.float64)
    along = np.tensordot(rows, held, axes=(1, 0))  # [H, J, K]
    total = np.einsum("hjk,wj->khw", along, columns, optimize=True)
    weight = rows @ known.astype(np.float64) @ columns.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 0, total / weight, np.nan).astype(np.float32)
