"""Figure of a grounding: how well boxes overlap."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fusionkit.drawing import BLUE, INK, ORANGE, PALE, heading, plain
from fusionkit.grounding import THRESHOLD, iou
from fusionkit.lettering import lettering

_BINS = 20


def overlaps(target: np.ndarray, answers: np.ndarray, *, title: str = "Grounding", subtitle: str = "") -> Figure:
    """The share of phrases found over the IoU that is asked for, and how many phrases have which IoU.

    The area under the curve is the mean IoU. In orange the IoU of 0.5, from which on a phrase counts as found.

    Args:
        target, answers: as for `fusionkit.grounding.iou`.
        title, subtitle: above.

    Raises:
        ValueError: as for `fusionkit.grounding.iou`, or there are no samples.
    """
    found = np.sort(iou(target, answers))
    if not len(found):
        raise ValueError("there are no samples")
    with lettering():
        figure = Figure(figsize=(9.6, 4.2))  # the heading stands outside; `save` makes the page fit
        curve, bars = figure.subplots(1, 2, gridspec_kw={"wspace": 0.25})
        _curve(curve, found)
        _bars(bars, found)
        heading(curve, title, subtitle, "", up=-16)
    return figure


def _curve(axes: Axes, found: np.ndarray) -> None:
    """The share of the sorted overlaps that reach each threshold."""
    at, first = np.unique(found, return_index=True)
    shares = 1 - first / len(found)
    axes.step(np.concatenate([[0], at, [1]]), np.concatenate([[1], shares, [shares[-1] * (at[-1] == 1)]]), BLUE, lw=2)
    share = float((found >= THRESHOLD).mean())
    axes.plot([THRESHOLD, THRESHOLD], [0, share], color=ORANGE, lw=1.2, ls="--")
    axes.plot(THRESHOLD, share, "o", color=ORANGE, ms=6, zorder=5)
    side = "left" if share < 0.85 else "right"
    axes.annotate(
        f"Acc@{THRESHOLD} {share:.3f}",
        (THRESHOLD, share),
        (8 if side == "left" else -8, 8 if side == "left" else -14),
        textcoords="offset points",
        ha=side,
        color=INK,
    )
    axes.set(xlabel="IoU asked for", ylabel="phrases found", xlim=(0, 1), ylim=(0, 1.04))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    plain(axes)
    axes.grid(visible=True, color=PALE)


def _bars(axes: Axes, found: np.ndarray) -> None:
    """How many overlap by how much."""
    axes.hist(found, bins=_BINS, range=(0, 1), color=BLUE, alpha=0.75)
    axes.axvline(THRESHOLD, color=ORANGE, lw=1.2, ls="--")
    axes.set(xlabel="IoU", ylabel="phrases", xlim=(0, 1))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    plain(axes)
