"""Figure of a retrieval: how far down the list what belongs to a query is found."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fusionkit.drawing import BLUE, INK, ORANGE, PALE, SOFT, heading, plain
from fusionkit.lettering import lettering, printable
from fusionkit.retrieval import rank, recalls

MOST = 50
"""The curves end at this K, or where there are no more candidates."""


def recall_curves(
    target: np.ndarray,
    answers: np.ndarray,
    modalities: tuple[str, str],
    *,
    title: str = "Retrieval",
    subtitle: str = "",
) -> Figure:
    """R@K over K in both directions, and what chance would find of single right candidates.

    Args:
        target, answers: as for `fusionkit.retrieval.rank`.
        modalities: the names of the first and the second.
        title, subtitle: above.

    Raises:
        ValueError: as for `fusionkit.retrieval.rank`.
    """
    forward, backward = rank(target, answers)
    most = min(MOST, max(len(forward.rows), len(backward.rows)))
    cutoffs = np.arange(1, most + 1)
    ways = zip(recalls(target, answers, most), (BLUE, ORANGE), (modalities, modalities[::-1]), strict=True)
    with lettering():
        figure = Figure(figsize=(6.5, 4.2))
        axes = figure.add_subplot()
        for found, colour, (query, candidate) in ways:
            axes.plot(cutoffs, found, color=colour, lw=2, label=printable(f"{query} → {candidate}"))
        chance = np.minimum(1, cutoffs / len(forward.rows))
        axes.plot(cutoffs, chance, color=SOFT, lw=1, ls=":", label=printable(f"chance, {query} → {candidate}"))
        axes.set(xlabel="K", ylabel="found among the first K", xlim=(1, most), ylim=(0, None))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        plain(axes)
        axes.grid(visible=True, color=PALE)
        axes.legend(labelcolor=INK, fontsize=9, framealpha=0.65, edgecolor="none")
        heading(axes, title, subtitle, "", up=-16)
    return figure
