"""What all figures share: colours, plain axes, a heading, texts and percentages."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes

from fusionkit.lettering import bold, printable

INK, SOFT, PALE = "#1f2933", "#66727f", "#eef1f4"
BLUE, ORANGE = "#1f6fb2", "#d1661a"


def heading(axes: Axes, title: str, subtitle: str, note: str, up: float = 0) -> None:
    """Title, subtitle and what the numbers are, above the axes at their left edge, `up` points higher."""
    title, subtitle = printable(title), printable(subtitle)
    top = 59 if subtitle else 42
    lines = [(title, top, 16, INK, bold(title)), (subtitle, 41, 11, SOFT, {}), (note, 24, 9, SOFT, {})]
    for text, height, size, colour, strong in lines:
        axes.annotate(
            text,
            (0, 1),
            (0, up + height),
            xycoords="axes fraction",
            textcoords="offset points",
            parse_math=False,
            size=size,
            color=colour,
            **strong,
        )


def centred(axes: Axes, x: float, y: float, text: str, size: float, colour: str, **strong: Any) -> None:
    axes.text(x, y, text, ha="center", va="center", size=size, color=colour, **strong)


def plain(axes: Axes, across: Literal["x", "y"] = "y") -> None:
    axes.grid(axis=across, color=PALE, lw=1)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#c3cbd3")
    axes.tick_params(length=0, labelcolor=INK)
    axes.xaxis.label.set_color(SOFT)
    axes.yaxis.label.set_color(SOFT)


def percent(share: float, whole: bool = False) -> str:
    """`87.3`, or `87` where there is little room; `100` has no decimals; what is not zero never reads as zero."""
    if whole or share == 1:
        return f"{100 * share:.0f}" if share == 0 or 100 * share >= 0.5 else "<1"
    return f"{100 * share:.1f}" if share == 0 or 100 * share >= 0.05 else "<0.1"


def row_shares(counts: np.ndarray) -> np.ndarray:
    """Counts `[..., K, K]` as shares of their rows; zero in rows without samples."""
    totals = counts.sum(-1, keepdims=True)
    return np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
