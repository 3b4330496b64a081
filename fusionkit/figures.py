"""Figures for slides and papers: confusion matrix, learning curves and the terms of the loss.

Drawn with matplotlib's object interface, so that no global state is touched and no display is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from fusionkit.drawing import BLUE, INK, ORANGE, PALE, SOFT, centred, heading, percent, plain, row_shares
from fusionkit.lettering import bold, lettering, warn_of_missing_glyphs, wrap, wrap_whole

DPI = 200

_BOTH = 14
"""Up to so many classes a cell holds percent and count; up to `_COUNT` the count; beyond, colour alone."""
_COUNT = 30


@dataclass(frozen=True)
class Curve:
    """The history of one trained model.

    Args:
        rows: one an epoch, with `epoch`, `train/loss`, `val/loss`, and `val/FIGURE` for each headline figure.
        best_epoch: the one chosen by validation.
    """

    rows: Sequence[Mapping[str, float]]
    best_epoch: int


def confusion_figure(
    counts: np.ndarray, class_names: Sequence[str], *, title: str = "Confusion matrix", subtitle: str = ""
) -> Figure:
    """A confusion matrix with counts, row percentages, and PA, UA and OA at its edges.

    Colour is the share of the reference class. Cells hold percent and count up to 14 classes, the count up to 30, and
    nothing beyond. A class with a character that no font has gives a warning.

    Args:
        counts: `[K, K]`, rows are the reference.
        class_names: one a class, in any script.
        title, subtitle: above the matrix.
    """
    counts = np.asarray(counts)
    classes = len(class_names)
    if counts.shape != (classes, classes):
        raise ValueError(f"{classes} names for a matrix of {counts.shape}")
    warn_of_missing_glyphs(class_names)
    share = row_shares(counts)
    cell = float(np.clip(8.4 / classes, 0.185, 1.5))
    width, height = cell * (classes + _side(classes) * 2 + 0.4), cell * (classes + 1.2)
    with lettering():
        figure = Figure(figsize=(width + 1, height + 1))  # names stand outside; `save` makes the page fit
        axes = figure.add_axes((0, 0, width / (width + 1), height / (height + 1)))
        axes.set(xlim=(-0.5, classes + _side(classes) * 2 - 0.1), ylim=(classes + 0.7, -0.5), aspect="equal")
        edges = np.arange(classes + 1) - 0.5
        image = axes.pcolormesh(
            edges, edges, share, cmap="Blues", norm=PowerNorm(0.6, 0, 1), edgecolors="white", linewidth=0.9 * cell
        )
        if classes <= _COUNT:
            _cells(axes, counts, share, 72 * cell)
        _edges(axes, counts, 72 * cell)
        _names(axes, class_names, cell)
        if classes > _BOTH:
            bar = figure.colorbar(image, ax=axes, fraction=0.012, pad=0.02, aspect=60, format="{x:.0%}")
            bar.set_label("share of the reference class", color=SOFT, size=11)
            bar.set_ticks([0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1])
            bar.outline.set_visible(False)
            bar.ax.tick_params(length=0, labelcolor=SOFT, labelsize=10)
        heading(axes, title, subtitle, _note(classes))
    return figure


def learning_curves(
    curves: Sequence[Curve], *, figure: str = "oa", label: str = "OA", title: str = "Learning curves"
) -> Figure:
    """Loss of train and val, and a figure of val, by epoch; a ring marks the epoch that validation chose.

    Args:
        curves: one, or one a fold.
        figure: which headline figure.
        label: how it is printed.
        title: above.
    """
    with lettering():
        drawn = Figure(figsize=(10.5, 3.9), layout="constrained")
        left, right = drawn.subplots(1, 2)
        _lines(left, curves, "train/loss", SOFT, "train")
        for axes, key in ((left, "val/loss"), (right, f"val/{figure}")):
            _lines(axes, curves, key, BLUE, "val")
            for number, curve in enumerate(curves):
                best = curve.rows[curve.best_epoch - 1]
                chosen = "chosen epoch" if number == 0 else None
                axes.plot(best["epoch"], best[key], "o", ms=9, mfc="none", mec=ORANGE, mew=2, label=chosen)
            _by_epoch(axes)
            axes.legend(frameon=False, labelcolor=INK)
        left.set(ylabel="loss")
        right.set(ylabel=f"{label} (val)")
        _title_of_curves(drawn, title, curves)
    return drawn


def term_curves(curves: Sequence[Curve], *, title: str = "Terms of the loss") -> Figure:
    """Each term of the loss by epoch, before and after weighting, and its weight; a panel a term.

    A weight that never changes stands beside the name of its term, else it is a line with an axis of its own.

    Args:
        curves: one, or one a fold. Their rows have `train/TERM`, `weighted/TERM` and `weight/TERM`, where a term was
            measured in the epoch.
        title: above.

    Raises:
        ValueError: no row has a term.
    """
    rows = [row for curve in curves for row in curve.rows]
    terms = list(
        dict.fromkeys(key.removeprefix("weighted/") for row in rows for key in row if key.startswith("weighted/"))
    )
    if not terms:
        raise ValueError("no row has a term of the loss")
    across = min(3, len(terms))
    down = -(-len(terms) // across)
    with lettering():
        figure = Figure(figsize=(max(5.5, 3.5 * across), 0.4 + 2.5 * down), layout="constrained")
        panels = figure.subplots(down, across, sharex=True, squeeze=False).ravel()
        for axes, term in zip(panels, terms, strict=False):
            _lines(axes, curves, f"train/{term}", "#b4bec8", "before weighting", width=3.2)
            _lines(axes, curves, f"weighted/{term}", BLUE, "after weighting")
            weights = {row[f"weight/{term}"] for row in rows if f"weight/{term}" in row}
            constant = f", weight {weights.pop():.3g}" if len(weights) == 1 else ""
            name = wrap(f"{term}{constant}", 19, 2)
            axes.set_title(name, loc="left", color=INK, size=11, parse_math=False, **bold(name))
            _by_epoch(axes)
            axes.tick_params(labelbottom=True)
            if weights:
                beside = axes.twinx()
                _lines(beside, curves, f"weight/{term}", ORANGE, "weight", dashed=True)
                plain(beside)
                beside.grid(visible=False)
                beside.set_ylim(bottom=min(0, min(weights)))
                beside.tick_params(labelcolor=ORANGE)
        for axes in panels[len(terms) :]:
            axes.remove()
        told = {str(line.get_label()): line for axes in figure.axes for line in axes.lines}
        handles = [line for label, line in told.items() if not label.startswith("_")]
        figure.legend(handles=handles, loc="outside upper right", ncols=3, frameon=False, labelcolor=INK)
        _title_of_curves(figure, title, curves)
    return figure


def save(figure: Figure, file: BinaryIO, kind: str, dpi: int = DPI) -> None:
    """Write a figure as `png` or `pdf`; text in a PDF stays text. The same figure gives the same bytes."""
    with lettering():
        FigureCanvasAgg(figure)
        figure.savefig(
            file,
            format=kind,
            dpi=dpi,
            bbox_inches="tight",
            pad_inches=0.2,
            facecolor="white",
            metadata={"Creator": "fusionkit", "CreationDate": None} if kind == "pdf" else {"Software": "fusionkit"},
        )


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """A figure as the bytes of a PNG."""
    file = BytesIO()
    save(figure, file, "png", dpi)
    return file.getvalue()


def _lines(
    axes: Axes,
    curves: Sequence[Curve],
    key: str,
    colour: str,
    label: str,
    *,
    width: float = 1.8,
    dashed: bool = False,
) -> None:
    """A line a curve through the epochs that have the key; the first has the label."""
    for number, curve in enumerate(curves):
        rows = [row for row in curve.rows if key in row]
        axes.plot(
            [row["epoch"] for row in rows],
            [row[key] for row in rows],
            color=colour,
            lw=width,
            ls="--" if dashed else "-",
            alpha=1.0 if len(curves) == 1 else 0.55,
            marker="." if len(rows) < 3 else None,
            label=label if number == 0 else None,
        )


def _by_epoch(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    plain(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _title_of_curves(figure: Figure, title: str, curves: Sequence[Curve]) -> None:
    folds = f", {len(curves)} folds" if len(curves) > 1 else ""
    figure.suptitle(f"{title}{folds}", x=0.01, ha="left", color=INK, size=13, **bold(title))


def _side(classes: int) -> float:
    """Width in cells of the columns n and PA."""
    return 1.0 if classes <= _COUNT else 1.6


def _note(classes: int) -> str:
    """What the numbers are."""
    cells = "Cells: % of the reference class, count below. " if classes <= _BOTH else "Cells: count. "
    return f"{cells if classes <= _COUNT else ''}PA, UA and OA in %"


def _type_size(cell: float) -> float:
    """Of names, in points."""
    return float(np.clip(17 * cell, 8.5, 14))


def _cells(axes: Axes, counts: np.ndarray, share: np.ndarray, point: float) -> None:
    """Percent and count of every cell that is not empty; `point` is its side in points."""
    for row, column in np.argwhere(counts > 0).tolist():
        count, part = str(counts[row, column]), share[row, column]
        colour = "white" if part > 0.4 else INK
        if len(counts) <= _BOTH:
            whole = percent(part)
            strong = bold(whole) if row == column else {}
            centred(axes, column, row - 0.13, whole, 0.215 * point, colour, **strong)
            centred(axes, column, row + 0.2, count, min(0.155, 0.8 / len(count)) * point, colour)
        else:
            centred(axes, column, row, count, min(0.3, 1.4 / len(count)) * point, colour)


def _edges(axes: Axes, counts: np.ndarray, point: float) -> None:
    """n and PA at the right, UA below, OA in the corner."""
    classes, hits, whole = len(counts), np.diagonal(counts), len(counts) > _BOTH
    side = _side(classes)
    size = point * (0.19 if not whole else 0.3 if classes <= _COUNT else 0.48)
    head = min(size, 12)
    n_at, pa_at, ua_at = classes - 0.3 + side / 2, classes - 0.2 + side * 1.5, classes + 0.15
    for x in (n_at, pa_at):
        axes.add_patch(Rectangle((x - side / 2, -0.5), side, classes, color=PALE, lw=0))
    axes.add_patch(Rectangle((-0.5, classes - 0.3), classes, 0.9, color=PALE, lw=0))
    axes.add_patch(Rectangle((pa_at - side / 2, classes - 0.3), side, 0.9, color=BLUE, lw=0))
    for x, name in ((n_at, "n"), (pa_at, "PA")):
        axes.annotate(name, (x, -0.5), (0, 5), textcoords="offset points", ha="center", size=head, color=SOFT)
    centred(axes, n_at, ua_at, "OA", head, SOFT)
    rows = zip(hits.tolist(), counts.sum(1).tolist(), counts.sum(0).tolist(), strict=True)
    for k, (hit, n, called) in enumerate(rows):
        centred(axes, n_at, k, str(n), min(size, 1.5 * side * point / len(str(n))), INK)
        centred(axes, pa_at, k, percent(hit / n, whole) if n else "–", size, INK)
        centred(axes, k, ua_at, percent(hit / called, whole) if called else "–", size, INK)
    accuracy = percent(hits.sum() / max(1, counts.sum()), whole)
    centred(axes, pa_at, ua_at, accuracy, size, "white", **bold(accuracy))


def _names(axes: Axes, class_names: Sequence[str], cell: float) -> None:
    """Class names at both axes; those below lie level where they fit into their cells, else they are turned."""
    classes, size = len(class_names), _type_size(cell)
    names = [wrap(name, 16, 2 if cell * 72 > 2.4 * size else 1) for name in class_names]
    level = [wrap_whole(name, 0.95 * cell * 72 / size, 2) for name in class_names]
    axes.set_yticks([*range(classes), classes + 0.15], [*names, "UA"], va="center")
    if None not in level:
        axes.set_xticks(range(classes), [str(name) for name in level])
    elif classes > _BOTH:
        axes.set_xticks(range(classes), names, rotation=90)
    else:
        turn = 50 if any("\n" in name for name in names) else 40
        axes.set_xticks(range(classes), names, rotation=turn, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0, labelsize=size, labelcolor=INK, pad=5)
    for label in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        label.set_parse_math(False)
        label.set_linespacing(1.05)
    axes.get_yticklabels()[-1].set_color(SOFT)
    spread = classes + 2 * _side(classes) + 0.4
    axes.set_xlabel("prediction", size=size, color=SOFT, labelpad=8, x=0.5 * classes / spread)
    axes.set_ylabel("reference", size=size, color=SOFT, labelpad=8, y=1 - 0.5 * classes / (classes + 1.2))
    axes.spines[:].set_visible(False)
