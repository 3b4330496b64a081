"""Figures of an ablation: every variant with its interval, and the difference of two confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure

from fusionkit.ablation import Ablation, Row
from fusionkit.drawing import BLUE, INK, ORANGE, SOFT, centred, heading, plain
from fusionkit.estimates import Estimate, change
from fusionkit.headlines import ERRORS, LABELS
from fusionkit.lettering import lettering, warn_of_missing_glyphs, wrap
from fusionkit.result import figure_text

_APART = LinearSegmentedColormap.from_list("apart", [ORANGE, "#ffffff", BLUE])
_NUMBERS = 30
"""Up to so many columns the cells hold numbers."""


def ablation_figure(found: Ablation) -> Figure:
    """Each variant's mean with its interval and its seeds, and beside it the difference to the reference.

    The reference is orange, baselines are grey. A name with a character that no font has gives a warning.
    """
    rows, name = found.rows, found.primary
    warn_of_missing_glyphs([row.name for row in rows])
    with lettering():
        figure = Figure(figsize=(10.5, 1.5 + 0.5 * len(rows)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for place, row in enumerate(rows):
            colour = ORANGE if row.name == found.reference else SOFT if row.is_baseline else BLUE
            held = row.metrics[name]
            values = [figures[name] for figures in row.figures.values()]
            if held is not None:
                _point(left, place, held.estimate, figure_text(held.mean, name), colour)
            if len(values) > 1:
                left.plot(values, [place] * len(values), "|", color=INK, ms=9, mew=1, alpha=0.6, zorder=3)
            if row.against is not None:
                gap = row.against.differences[name]
                shown = [None if v is None else v * _scale(name) for v in (gap.value, gap.low, gap.high)]
                _point(right, place, Estimate(*shown), change(name, gap.value), colour)
        right.axvline(0, color=ORANGE, lw=1.2, zorder=0)
        unit = "" if name in ERRORS or name == "r2" else " (points)"
        left.set_xlabel(LABELS[name])
        right.set_xlabel(f"{LABELS[name]} minus {wrap(found.reference, 24, 1)}{unit}", parse_math=False)
        for axes in (left, right):
            plain(axes, across="x")
        labels = [wrap(row.name, 18, 2) for row in rows]
        left.set(ylim=(len(rows) - 0.4, -0.75), yticks=range(len(rows)))
        left.set_yticklabels(labels, parse_math=False)
        note = f"{found.n:,} samples ({found.split}); bars: 95 % for other seeds and samples; ticks: seeds"
        figure.supxlabel(note, x=0.99, ha="right", color=SOFT, size=9)
    return figure


def _scale(name: str) -> float:
    return 1.0 if name in ERRORS or name == "r2" else 100.0


def _point(axes: Axes, place: int, found: Estimate, text: str, colour: str) -> None:
    if found.value is None:
        return
    if found.low is not None and found.high is not None:
        ends = [found.low, found.high]
        axes.plot(ends, [place, place], color=colour, lw=3, alpha=0.45, solid_capstyle="butt")
    axes.plot(found.value, place, "o", color=colour, ms=8)
    axes.annotate(text, (found.value, place), (0, 8), textcoords="offset points", ha="center", color=INK, size=10)


def counts_apart(first: Row, second: Row) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """First minus second, summed over the seeds that both have.

    Returns:
        counts and shares of the rows (the reference classes) in points, both `[K, K]`, of labels `[K, 4]`: true
        negatives, false positives, false negatives, true positives; and the seeds.

    Raises:
        ValueError: they have no confusion matrix or share no seed.
    """
    held, base = first.confusion, second.confusion
    if held is None or base is None:
        raise ValueError("there is no confusion matrix of quantities, boxes and embeddings")
    seeds = tuple(seed for seed in held if seed in base)
    if not seeds:
        raise ValueError(f"{first.name} and {second.name} share no seed")
    one, other = (np.sum([counts[seed] for seed in seeds], axis=0) for counts in (held, base))
    apart = one - other
    totals = other.sum(-1, keepdims=True)
    shares = np.divide(100 * apart, totals, out=np.zeros(apart.shape), where=totals > 0)
    return (apart, shares, seeds) if apart.ndim == 2 else (apart.reshape(-1, 4), shares.reshape(-1, 4), seeds)


def confusion_difference(first: Row, second: Row, names: Sequence[str]) -> Figure:
    """What the first variant answers more often than the second (blue) or less often (orange), by reference class.

    Cells hold the difference in points of the reference class and, below, in samples over all seeds.

    Args:
        first, second: with confusion matrices and a seed in common.
        names: of the classes or labels.
    """
    counts, shares, seeds = counts_apart(first, second)
    of_labels = (first.confusion or {})[seeds[0]].ndim == 3
    columns = ("rightly\nwithout", "wrongly\nwith", "wrongly\nwithout", "rightly\nwith") if of_labels else tuple(names)
    warn_of_missing_glyphs(names)
    high, wide = counts.shape
    cell = float(np.clip(8.4 / max(high, wide), 0.2, 1.0))
    reach = max(float(np.abs(shares).max()), 1e-9)
    with lettering():
        figure = Figure(figsize=(cell * wide + 1, cell * high + 1))
        axes = figure.add_axes((0, 0, cell * wide / (cell * wide + 1), cell * high / (cell * high + 1)))
        axes.pcolormesh(
            shares, cmap=_APART, norm=TwoSlopeNorm(0, -reach, reach), edgecolors="#dde3e8", linewidth=0.6 * cell
        )
        axes.set(xlim=(0, wide), ylim=(high, 0), aspect="equal")
        if max(high, wide) <= _NUMBERS:
            for row, column in zip(*np.nonzero(counts), strict=True):
                colour = "white" if abs(shares[row, column]) > 0.75 * reach else INK
                centred(axes, column + 0.5, row + 0.4, f"{shares[row, column]:+.1f}", 13 * cell, colour)
                centred(axes, column + 0.5, row + 0.72, f"{counts[row, column]:+d}", 9.5 * cell, colour)
        size = float(np.clip(13 * cell, 5, 11))
        width = 12 if cell > 0.5 else 20
        axes.set_yticks(np.arange(high) + 0.5, [wrap(name, 16, 2) for name in names], size=size, parse_math=False)
        turned = 0 if of_labels or cell > 0.9 else 60
        axes.set_xticks(
            np.arange(wide) + 0.5,
            [name if of_labels else wrap(name, width if turned else 6, 2) for name in columns],
            size=size,
            rotation=turned,
            ha="right" if turned else "center",
            rotation_mode="anchor" if turned else "default",
            parse_math=False,
        )
        axes.tick_params(length=0, labelcolor=INK)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_ylabel("label" if of_labels else "reference", color=SOFT)
        axes.set_xlabel("" if of_labels else "prediction", color=SOFT)
        note = f"points of the reference class, and samples summed over {len(seeds)} seeds; blue: more often"
        if len(seeds) == 1:
            note = "points of the reference class, and samples; blue: more often"
        heading(axes, first.name, f"minus {second.name}", note, up=-14)
    return figure
