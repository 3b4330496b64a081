"""Figure of a multi-label classifier: what it does with every label."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from fusionkit.drawing import BLUE, INK, PALE, SOFT, centred, heading, percent, row_shares
from fusionkit.lettering import bold, lettering, warn_of_missing_glyphs, wrap

MOST_MATRICES = 30
"""Beyond so many labels, bars of F1 take the place of the matrices."""
_WIDTH, _HEIGHT = 2.35, 3.3
"""Of one label's place in the grid, in cells: its matrix is 2 by 2, above it stands its name."""


def label_confusions(counts: np.ndarray, names: Sequence[str], *, title: str = "Labels", subtitle: str = "") -> Figure:
    """A grid of 2 x 2 confusion matrices, one a label, with percent of the reference row and counts.

    Beyond 30 labels nobody could read that, and the figure is a chart of the F1 of every label instead, best first. A
    label with a character that no font has gives a warning.

    Args:
        counts: `[K, 2, 2]`, rows are the reference (absent, there), columns the prediction.
        names: one a label, in any script.
        title, subtitle: above.
    """
    counts = np.asarray(counts)
    if counts.shape != (len(names), 2, 2) or not len(names):
        raise ValueError(f"{len(names)} names for counts of {counts.shape}")
    warn_of_missing_glyphs(names)
    with lettering():
        draw = _matrices if len(names) <= MOST_MATRICES else _bars
        return draw(counts, names, title, subtitle)


def _matrices(counts: np.ndarray, names: Sequence[str], title: str, subtitle: str) -> Figure:
    labels = len(names)
    down = ceil(labels / ceil(sqrt(1.8 * labels)))
    across = ceil(labels / down)
    cell = float(np.clip(9 / (_WIDTH * across), 0.58, 0.9))
    point = 72 * cell
    figure = Figure(figsize=(cell * _WIDTH * across, cell * _HEIGHT * down))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, _WIDTH * across), ylim=(_HEIGHT * down, 0), aspect="equal")
    axes.set_axis_off()
    share = row_shares(counts)
    for k, name in enumerate(names):
        row, column = divmod(k, across)
        left, top = column * _WIDTH, row * _HEIGHT + _HEIGHT - 2
        _matrix(axes, counts[k], share[k], left, top, point)
        size = float(np.clip(0.21 * point, 9, 12))
        shown = wrap(name, 2.2 * point / size, 3)
        axes.text(left, top - 0.34, shown, size=size, color=INK, va="bottom", parse_math=False, **bold(shown))
        axes.text(left, top - 0.08, _summary(counts[k]), size=0.85 * size, color=SOFT, va="bottom")
        for place, word in enumerate(("no", "yes")):
            if column == 0:
                axes.text(-0.12, top + place + 0.5, word, size=size, color=INK, ha="right", va="center")
            if k + across >= labels:
                axes.text(left + place + 0.5, top + 2.12, word, size=size, color=INK, ha="center", va="top")
    axes.text(-0.75, _HEIGHT * down / 2, "reference", size=11, color=SOFT, rotation=90, ha="right", va="center")
    axes.text(_WIDTH * across / 2, _HEIGHT * down + 0.5, "prediction", size=11, color=SOFT, ha="center", va="top")
    heading(axes, title, subtitle, "Cells: % of the reference, count below. n: samples that have the label", up=-16)
    return figure


def _matrix(axes: Axes, counts: np.ndarray, share: np.ndarray, left: float, top: float, point: float) -> None:
    """One label; `point` is the side of a cell in points."""
    edges = np.arange(3)
    norm = PowerNorm(0.6, 0, 1)
    axes.pcolormesh(left + edges, top + edges, share, cmap="Blues", norm=norm, edgecolors="white", linewidth=1)
    for row, column in np.ndindex(2, 2):
        if not counts[row, column]:
            continue
        count, part = str(counts[row, column]), float(share[row, column])
        shown = percent(part)
        colour = "white" if part > 0.4 else INK
        strong = bold(shown) if row == column else {}
        x, y = left + column + 0.5, top + row + 0.5
        centred(axes, x, y - 0.13, shown, 0.215 * point, colour, **strong)
        centred(axes, x, y + 0.2, count, min(0.17, 1.4 / len(count)) * point, colour)


def _bars(counts: np.ndarray, names: Sequence[str], title: str, subtitle: str) -> Figure:
    f1 = np.array([np.nan if (found := _f1(part)) is None else found for part in counts])
    order = np.argsort(-f1, kind="stable")  # undefined last
    figure = Figure(figsize=(9, 0.21 * len(names) + 0.4))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 1.14), ylim=(len(names) - 0.4, -0.6))
    axes.barh(range(len(names)), np.ones(len(names)), color=PALE, height=0.74)
    axes.barh(range(len(names)), np.nan_to_num(f1[order]), color=BLUE, height=0.74)
    for place, k in enumerate(order.tolist()):
        told = "–" if np.isnan(f1[k]) else f"{f1[k]:.2f}"
        axes.text(1.05, place, told, size=9, color=INK, ha="right", va="center")
        axes.text(1.14, place, f"{counts[k, 1].sum():,}", size=9, color=SOFT, ha="right", va="center")
    for x, head in ((1.05, "F1"), (1.14, "n")):
        axes.text(x, -0.7, head, size=9, color=SOFT, ha="right", va="bottom")
    axes.set_yticks(range(len(names)), [wrap(names[k], 24, 1) for k in order])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    heading(axes, title, subtitle, f"F1 of {len(names)} labels. n: samples that have the label")
    return figure


def _f1(counts: np.ndarray) -> float | None:
    (_, fp), (fn, tp) = counts.tolist()
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None


def _summary(counts: np.ndarray) -> str:
    f1 = _f1(counts)
    return f"n {counts[1].sum():,} · F1 {'–' if f1 is None else f'{f1:.2f}'}"
