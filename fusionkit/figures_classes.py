"""Figure of very many classes, whose confusion nobody could read: how often the most frequent ones are found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fusionkit.drawing import BLUE, INK, heading, percent, plain
from fusionkit.lettering import lettering, warn_of_missing_glyphs, wrap

MANY = 100
"""Beyond so many classes there is no matrix to be read."""
SHOWN = 30


def frequent_classes(counts: np.ndarray, class_names: Sequence[str], *, title: str = "", subtitle: str = "") -> Figure:
    """PA of the classes that most samples are of, the most frequent first.

    Args:
        counts: `[K, K]`, rows are the reference.
        class_names: one a class, in any script.
        title, subtitle: above.

    Raises:
        ValueError: not as many names.
    """
    counts = np.asarray(counts)
    if counts.shape != (len(class_names), len(class_names)):
        raise ValueError(f"{len(class_names)} names for a matrix of {counts.shape}")
    samples = counts.sum(1)
    first = np.argsort(-samples, kind="stable")[:SHOWN]
    first = first[samples[first] > 0]
    names = [class_names[k] for k in first.tolist()]
    warn_of_missing_glyphs(names)
    found = counts[first, first] / samples[first]
    note = f"the {len(first)} most frequent of {len(class_names):,} classes; behind the bars the samples of each"
    with lettering():
        figure = Figure(figsize=(7, 0.8 + 0.26 * len(first)))
        axes = figure.add_subplot()
        places = np.arange(len(first))
        axes.barh(places, found, color=BLUE, alpha=0.75)
        for place, share, n in zip(places.tolist(), found.tolist(), samples[first].tolist(), strict=True):
            text = f"{percent(share)} %   {n:,}"
            axes.annotate(text, (share, place), (5, 0), textcoords="offset points", va="center", color=INK, size=9)
        axes.set(xlim=(0, 1), ylim=(len(first) - 0.4, -0.6), xlabel="PA")
        axes.set_yticks(places, [wrap(name, 28, 1) for name in names], parse_math=False)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        plain(axes, across="x")
        heading(axes, title, subtitle, note)
    return figure
