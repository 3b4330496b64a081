"""Made-up plots."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fusionkit_plot_files.plot_file import write_plot

CROPS = ("barley", "maize", "rape")
SIDE, BANDS = 8, 24


def make_plots(folder: Path, plots: int, seed: int, progress: Callable[[int, int], None] | None) -> None:
    """Write plots and their table: a crop has a brightness of its own, and a peak in its spectrum."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    bands = np.arange(BANDS)
    rows = []
    for number in range(plots):
        crop = number % len(CROPS)
        image = random.poisson(200 + 60 * crop, (3, SIDE, SIDE))
        peak = np.exp(-((bands - 6 * (crop + 1)) ** 2) / 8)
        spectrum = (0.2 + 0.1 * peak + 0.05 * random.standard_normal(BANDS)).astype(np.float32)
        name = f"{number:03}.plot"
        write_plot(folder / name, image, None if number % 7 == 6 else spectrum)
        rows.append((name, CROPS[crop]))
        if progress is not None:
            progress(number + 1, plots)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "class"), *rows])
