"""The report of a run: one HTML file that opens offline and prints well, and the figures beside it."""

from __future__ import annotations

import shlex
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Template

from fusionkit.costs import cost_cells
from fusionkit.estimates import RESAMPLES, change, difference_text, p_text
from fusionkit.figures import Curve, confusion_figure, learning_curves, term_curves
from fusionkit.figures_baselines import baseline_figure
from fusionkit.figures_classes import MANY, frequent_classes
from fusionkit.figures_gap import gap_figure
from fusionkit.figures_grounding import overlaps
from fusionkit.figures_multilabel import label_confusions
from fusionkit.figures_regression import predicted_against_true
from fusionkit.figures_retrieval import recall_curves
from fusionkit.headlines import HEADLINES, LABELS, label, primary
from fusionkit.pages import template
from fusionkit.predictions import Predictions
from fusionkit.result import Result, estimate_text, figure_text
from fusionkit.retrieval import PROTOCOL
from fusionkit.runs import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fusionkit.describe import Description
    from fusionkit.survey import Bad

COMPARED = {
    "classification": ("oa", "macro_f1"),
    "multilabel": ("map", "macro_f1"),
    "regression": ("rmse", "r2"),
    "grounding": ("acc_50", "mean_iou"),
    "retrieval": ("mean_recall", "mean_map"),
}
"""The figures in which models are drawn and compared side by side."""
_IN_SUBTITLE = {
    "classification": ("oa", "kappa"),
    "multilabel": ("map", "micro_f1"),
    "regression": ("rmse", "r2"),
    "grounding": ("acc_50", "mean_iou"),
    "retrieval": ("forward_r1", "backward_r1"),
}
MOST_BAD = 10
"""So many bad samples are listed; the rest is in `bad_samples.csv`."""


@dataclass(frozen=True)
class ReportData:
    """Everything that the report tells.

    Args:
        result: the figures.
        predictions: of the fused model.
        confusion: counts `[K, K]`, or `[K, 2, 2]` of labels, rows are the reference; None of quantities.
        curves: the history of the fused model; one a fold.
        data: what was found in the data.
        bad: samples left out.
        provenance: as in `provenance.json`.
        resolved: the text of `resolved.yaml`.
        notes: what else the reader should know, for example a baseline that could not be.
        sections: titles and texts that plugins add.
        selected: the validation figure that chose the epoch; by default the task's own.
    """

    result: Result
    predictions: Predictions
    confusion: np.ndarray | None
    curves: Sequence[Curve]
    data: Description
    bad: Sequence[Bad]
    provenance: Mapping[str, Any]
    resolved: str
    notes: Sequence[str] = ()
    sections: Sequence[tuple[str, str]] = ()
    selected: str | None = None


def write_report(folder: RunFolder, data: ReportData) -> None:
    """Write the figures of `draw` as PNG and PDF, and `report.html`."""
    images = {}
    for stem, figure in draw(data).items():
        folder.write_figure(stem, figure)
        images[stem] = (folder.path / f"{stem}.png").read_bytes()
    folder.write_text("report.html", render(data, images))


def draw(data: ReportData) -> dict[str, Figure]:
    """The figures of a run by the stems of their file names: `confusion`, or `classes` of very many, `predicted` of
    quantities, `overlap` of boxes or `recall` and `gap` of a retrieval, `learning_curves`, `loss_terms` where there are
    several, and `baselines` where there are some."""
    result = data.result
    deciding = primary(result.task) if data.selected in (None, "loss") else data.selected
    figures = dict([_answers_figure(data)])
    if result.task == "retrieval" and not result.folds and (drawn := _gap(data)) is not None:
        figures["gap"] = drawn
    figures["learning_curves"] = learning_curves(data.curves, figure=deciding, label=label(deciding))
    if len(terms(data.curves)) > 1:
        figures["loss_terms"] = term_curves(data.curves)
    if result.baselines:
        note = f"{result.n:,} samples ({result.split}), 95 % intervals by {result.interval}"
        figures["baselines"] = baseline_figure(result.table(), figures=_compared(result), note=note)
    return figures


def _gap(data: ReportData) -> Figure | None:
    one, other = data.result.modalities
    title, subtitle = f"{data.result.name}: modality gap", f"embeddings of {one} and {other} ({data.result.split})"
    return gap_figure(data.predictions.answers, (one, other), title=title, subtitle=subtitle, seed=data.result.seed)


def terms(curves: Sequence[Curve]) -> list[str]:
    """The terms of the loss, as the histories name them."""
    names = [name for curve in curves for row in curve.rows for name in row if name.startswith("weighted/")]
    return [name.partition("/")[2] for name in dict.fromkeys(names)]


def _answers_figure(data: ReportData) -> tuple[str, Figure]:
    """What the answers are like: its name and the figure."""
    result, held = data.result, data.predictions
    shown = " · ".join(
        f"{LABELS[name]} {estimate_text(result.metrics[name], name)}" for name in _IN_SUBTITLE[result.task]
    )
    lines = {
        "title": f"{result.name}: {result.table()[-1].label}",
        "subtitle": f"{shown} · {result.n:,} samples ({result.split})",
    }
    if result.task == "regression":
        return "predicted", predicted_against_true(
            held.target, held.answers, result.classes, units=result.units, **lines
        )
    if result.task == "grounding":
        return "overlap", overlaps(held.target, held.answers, **lines)
    if result.task == "retrieval":
        one, other = result.modalities
        return "recall", recall_curves(held.target, held.answers, (one, other), **lines)
    assert data.confusion is not None  # noqa: S101 - classes and labels are counted
    if result.task == "classification" and len(result.classes) > MANY:
        return "classes", frequent_classes(data.confusion, result.classes, **lines)
    draw_counts = label_confusions if result.task == "multilabel" else confusion_figure
    return "confusion", draw_counts(data.confusion, result.classes, **lines)


def render(data: ReportData, images: Mapping[str, bytes]) -> str:
    """The report as one self-contained page of HTML.

    Args:
        data: what it tells.
        images: PNG files by the stems of `draw`.
    """
    sources = {stem: f"data:image/png;base64,{b64encode(image).decode()}" for stem, image in images.items()}
    return _template().render(
        data=data,
        result=data.result,
        images=sources,
        headlines=_headlines(data.result),
        compared=_compared(data.result),
        in_table=_in_table(data.result),
        deciding=data.result.deciding,
        unit=_unit(data.result),
        weights=_weights(data.curves),
        labels=LABELS | {name: label(name) for name in data.result.extra_metrics},
        resamples=RESAMPLES,
        most_bad=MOST_BAD,
        protocol=PROTOCOL,
        states=_states(data.curves, ("fusion/", "balance/", "loss/")),
        embeddings=_states(data.curves, ("embedding/",)),
        costs=_costs(data.result),
        provenance=_provenance(data.provenance),
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    return template(
        "report.html",
        change=change,
        difference=difference_text,
        p=p_text,
        share=figure_text,
        many=lambda value: value if isinstance(value, str) else f"{value:,}",
        number=lambda value: "–" if np.isnan(value) else f"{value:.4g}",
    )


def _headlines(result: Result) -> list[str]:
    """The headline figures, of a retrieval without classes those alone that need none; and the recipe's metrics."""
    names = (result.deciding, *(name for name in HEADLINES[result.task] if name != result.deciding))
    kept = [name for name in names if result.task != "retrieval" or result.metrics[name].value is not None]
    return [*kept, *result.extra_metrics]


def _in_table(result: Result) -> list[str]:
    """The figures in the table of modalities; the recipe's metrics have one of their own, to fit on a page."""
    names = dict.fromkeys((*result.table()[-1].figures, *_compared(result)))
    return [name for name in names if name not in result.extra_metrics]


def _compared(result: Result) -> tuple[str, ...]:
    """The figures in which the models of a run are drawn and compared side by side."""
    return tuple(dict.fromkeys((result.deciding, *COMPARED[result.task])))[:2]


def _unit(result: Result) -> str:
    """The unit of errors, where the quantities share one."""
    return result.units[0] if len(set(result.units)) == 1 else ""


def _weights(curves: Sequence[Curve]) -> list[tuple[str, list[float]]]:
    """A row a term of the loss: its weight and its value before and after weighting, in the chosen epoch.

    Of several folds, the mean.
    """

    def shown(key: str) -> float:
        values = [row[key] for row in (curve.rows[curve.best_epoch - 1] for curve in curves) if key in row]
        return sum(values) / len(values) if values else np.nan

    return [(name, [shown(f"{kind}/{name}") for kind in ("weight", "train", "weighted")]) for name in terms(curves)]


def _states(curves: Sequence[Curve], kinds: tuple[str, ...]) -> list[tuple[str, list[float]]]:
    """A row a figure of these kinds: in the first, the chosen and the last epoch.

    Of several folds, the mean; a fold that lacks the figure in that epoch is left out.
    """
    names = [name for curve in curves for row in curve.rows for name in row if name.startswith(kinds)]

    def shown(name: str, pick: Callable[[Curve], int]) -> float:
        values = [row[name] for row in (curve.rows[pick(curve)] for curve in curves) if name in row]
        return sum(values) / len(values) if values else np.nan

    picks: list[Callable[[Curve], int]] = [lambda _: 0, lambda curve: curve.best_epoch - 1, lambda _: -1]
    return [(name, [shown(name, pick) for pick in picks]) for name in dict.fromkeys(names)]


def _costs(result: Result) -> list[tuple[str, list[str]]]:
    """A row a model: parameters, multiply-adds, training time, samples a second."""
    costs = {name: baseline.cost for name, baseline in result.baselines.items()} | {"fusion": result.cost}
    return [(row.label, cost_cells(costs[row.name])) for row in result.table()]


def _provenance(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values to print; what is unknown is left out."""
    rows = [(key.replace("_", " "), _told(key, value)) for key, value in told.items() if key != "earlier"]
    if earlier := told.get("earlier"):
        rows.append(("resumed", f"after {len(earlier)} earlier sittings, which provenance.json describes"))
    return [(key, value) for key, value in rows if value]


def _told(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key == "command" and isinstance(value, (list, tuple)):
        return shlex.join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_told('', inner)}" for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        inner = [
            " ".join(_told("", part) for part in item.values()) if isinstance(item, Mapping) else _told("", item)
            for item in value
        ]
        return ", ".join(inner)
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
