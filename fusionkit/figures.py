"""Figures for slides and papers: confusion matrix, learning curves, and the fusion beside its baselines.

Drawn with matplotlib's object interface, so that no global state is touched and no display is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from fusionkit.headlines import LABELS
from fusionkit.lettering import bold, lettering, printable, warn_of_missing_glyphs, wrap, wrap_whole
from fusionkit.result import TableRow

DPI = 200
INK, SOFT, PALE = "#1f2933", "#66727f", "#eef1f4"
BLUE, ORANGE = "#1f6fb2", "#d1661a"

_BOTH = 14
"""Up to so many classes a cell holds percent and count; up to `_COUNT` the count; beyond, colour alone."""
_COUNT = 30


@dataclass(frozen=True)
class Curve:
    """The history of one trained model.

    Args:
        rows: one an epoch, with `epoch`, `train/loss`, `val/loss` and `val/oa`.
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
    totals = counts.sum(1)
    share = np.divide(counts, totals[:, np.newaxis], out=np.zeros(counts.shape), where=totals[:, np.newaxis] > 0)
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
        _heading(axes, title, subtitle, classes)
    return figure


def learning_curves(curves: Sequence[Curve], *, title: str = "Learning curves") -> Figure:
    """Loss of train and val, and OA of val, by epoch; a ring marks the epoch that validation chose.

    Args:
        curves: one, or one a fold.
        title: above.
    """
    with lettering():
        figure = Figure(figsize=(10.5, 3.9), layout="constrained")
        loss, accuracy = figure.subplots(1, 2)
        faint = 1.0 if len(curves) == 1 else 0.55
        for number, curve in enumerate(curves):
            epochs = [row["epoch"] for row in curve.rows]
            best = curve.rows[curve.best_epoch - 1]
            for axes, key, colour, name in (
                (loss, "train/loss", SOFT, "train"),
                (loss, "val/loss", BLUE, "val"),
                (accuracy, "val/oa", BLUE, "val"),
            ):
                label = name if number == 0 else None
                marker = "." if len(epochs) < 3 else None
                axes.plot(
                    epochs,
                    [row[key] for row in curve.rows],
                    color=colour,
                    lw=1.8,
                    alpha=faint,
                    label=label,
                    marker=marker,
                )
                if name == "val":
                    chosen = "chosen epoch" if number == 0 else None
                    axes.plot(best["epoch"], best[key], "o", ms=9, mfc="none", mec=ORANGE, mew=2, label=chosen)
        loss.set(ylabel="loss", xlabel="epoch")
        accuracy.set(ylabel="OA (val)", xlabel="epoch")
        for axes in (loss, accuracy):
            _plain(axes)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(frameon=False, labelcolor=INK)
        folds = f", {len(curves)} folds" if len(curves) > 1 else ""
        figure.suptitle(f"{title}{folds}", x=0.01, ha="left", color=INK, size=13, **bold(title))
    return figure


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
                    f"{found.value:.3f}",
                    (found.value, place),
                    (0, 7),
                    textcoords="offset points",
                    ha="center",
                    color=INK,
                    size=10,
                )
            axes.set_xlabel(LABELS[name])
            _plain(axes, across="x")
        panels[0].set(ylim=(len(rows) - 0.4, -0.75), yticks=range(len(rows)), yticklabels=[row.label for row in rows])
        if note:
            figure.supxlabel(note, x=0.99, ha="right", color=SOFT, size=9)
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


def _side(classes: int) -> float:
    """Width in cells of the columns n and PA."""
    return 1.0 if classes <= _COUNT else 1.6


def _type_size(cell: float) -> float:
    """Of names, in points."""
    return float(np.clip(17 * cell, 8.5, 14))


def _cells(axes: Axes, counts: np.ndarray, share: np.ndarray, point: float) -> None:
    """Percent and count of every cell that is not empty; `point` is its side in points."""
    for row, column in np.argwhere(counts > 0).tolist():
        count, part = str(counts[row, column]), share[row, column]
        colour = "white" if part > 0.4 else INK
        if len(counts) <= _BOTH:
            percent = _percent(part)
            strong = bold(percent) if row == column else {}
            _text(axes, column, row - 0.13, percent, 0.215 * point, colour, **strong)
            _text(axes, column, row + 0.2, count, min(0.155, 0.8 / len(count)) * point, colour)
        else:
            _text(axes, column, row, count, min(0.3, 1.4 / len(count)) * point, colour)


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
    _text(axes, n_at, ua_at, "OA", head, SOFT)
    rows = zip(hits.tolist(), counts.sum(1).tolist(), counts.sum(0).tolist(), strict=True)
    for k, (hit, n, called) in enumerate(rows):
        _text(axes, n_at, k, str(n), min(size, 1.5 * side * point / len(str(n))), INK)
        _text(axes, pa_at, k, _percent(hit / n, whole) if n else "–", size, INK)
        _text(axes, k, ua_at, _percent(hit / called, whole) if called else "–", size, INK)
    accuracy = _percent(hits.sum() / max(1, counts.sum()), whole)
    _text(axes, pa_at, ua_at, accuracy, size, "white", **bold(accuracy))


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


def _heading(axes: Axes, title: str, subtitle: str, classes: int) -> None:
    """Title, subtitle and what the numbers are, above the matrix at its left edge."""
    cells = "Cells: % of the reference class, count below. " if classes <= _BOTH else "Cells: count. "
    note = f"{cells if classes <= _COUNT else ''}PA, UA and OA in %"
    title, subtitle = printable(title), printable(subtitle)
    up = 39 if subtitle else 22
    lines = [(title, up + 20, 16, INK, bold(title)), (subtitle, 41, 11, SOFT, {}), (note, 24, 9, SOFT, {})]
    for text, up, size, colour, strong in lines:
        axes.annotate(
            text,
            (0, 1),
            (0, up),
            xycoords="axes fraction",
            textcoords="offset points",
            parse_math=False,
            size=size,
            color=colour,
            **strong,
        )


def _text(axes: Axes, x: float, y: float, text: str, size: float, colour: str, **strong: Any) -> None:
    axes.text(x, y, text, ha="center", va="center", size=size, color=colour, **strong)


def _plain(axes: Axes, across: Literal["x", "y"] = "y") -> None:
    axes.grid(axis=across, color=PALE, lw=1)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#c3cbd3")
    axes.tick_params(length=0, labelcolor=INK)
    axes.xaxis.label.set_color(SOFT)
    axes.yaxis.label.set_color(SOFT)


def _percent(share: float, whole: bool = False) -> str:
    """`87.3`, or `87` where there is little room; `100` has no decimals; what is not zero never reads as zero."""
    if whole or share == 1:
        return f"{100 * share:.0f}" if share == 0 or 100 * share >= 0.5 else "<1"
    return f"{100 * share:.1f}" if share == 0 or 100 * share >= 0.05 else "<0.1"
