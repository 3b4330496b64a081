"""Figure of the fusion beside its baselines."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from fusionkit.drawing import BLUE, INK, ORANGE, SOFT, plain
from fusionkit.headlines import ERRORS, LABELS
from fusionkit.lettering import lettering
from fusionkit.result import TableRow


def baseline_figure(rows: Sequence[TableRow], *, figures: Sequence[str] = ("oa", "macro_f1"), note: str = "") -> Figure:
    """The models of the table of modalities side by side, with their intervals; the last row, the fusion, stands out.

    Args:
        rows: as from `Result.table`.
        figures: which headline figures, a panel each.
        note: below, for example how the intervals were made.
    """
    with lettering():
        figure = Figure(figsize=(10.5, 1.3 + 0.46 * len(rows)), layout="constrained")
        panels = figure.subplots(1, len(figures), sharey=True, squeeze=False)[0]
        for axes, name in zip(panels, figures, strict=True):
            for place, row in enumerate(rows):
                found = row.metrics[name]
                if found.value is None:
                    continue
                colour = ORANGE if place == len(rows) - 1 else BLUE
                if found.low is not None and found.high is not None:
                    axes.plot(
                        [found.low, found.high], [place, place], color=colour, lw=3, alpha=0.45, solid_capstyle="butt"
                    )
                axes.plot(found.value, place, "o", color=colour, ms=8)
                axes.annotate(
                    f"{found.value:.3g}" if name in ERRORS else f"{found.value:.3f}",
                    (found.value, place),
                    (0, 7),
                    textcoords="offset points",
                    ha="center",
                    color=INK,
                    size=10,
                )
            axes.set_xlabel(LABELS[name])
            plain(axes, across="x")
        panels[0].set(ylim=(len(rows) - 0.4, -0.75), yticks=range(len(rows)), yticklabels=[row.label for row in rows])
        if note:
            figure.supxlabel(note, x=0.99, ha="right", color=SOFT, size=9)
    return figure
