"""The table of an ablation as text: cells, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from fusionkit.ablation import Ablation, Contrast, Row
from fusionkit.ablation_metrics import Spread
from fusionkit.costs import HEADS, cost_cells
from fusionkit.estimates import change, p_text
from fusionkit.headlines import ERRORS, HEADLINES, IN_TABLE, LABELS, label
from fusionkit.result import figure_text
from fusionkit.seeds import OverSeeds


def in_table(found: Ablation) -> list[str]:
    """The figures that stand in the table: the one that decides, those of the table of modalities, and the metrics of
    the recipes."""
    names = dict.fromkeys((found.primary, *IN_TABLE[found.task], *found.extra))
    return [name for name in names if any(row.over_seeds(name) is not None for row in found.rows)]


def heads(found: Ablation) -> list[str]:
    """Over the columns of `rows`."""
    unit = "" if found.primary in ERRORS else ", points"
    difference = f"{LABELS[found.primary]} minus {found.reference}{unit}"
    return ["variant", "seeds", *map(label, in_table(found)), difference, "p", "p (Holm)", "verdict"]


def rows(found: Ablation) -> list[list[str]]:
    """As printed: variant, seeds, figures as mean ± standard deviation over seeds with the interval of the first, the
    difference to the reference with its interval, p, adjusted p, and the verdict in words."""
    return [[row.name, str(len(row.seeds)), *_figures(found, row), *_against(found, row)] for row in found.rows]


def _figures(found: Ablation, row: Row) -> list[str]:
    cells = []
    for name in in_table(found):
        text = spread_text(row.over_seeds(name), name)
        if name == found.primary and (held := row.metrics[name]) is not None:
            text += f" [{figure_text(held.low, name)}, {figure_text(held.high, name)}]"
        cells.append(text)
    return cells


def _against(found: Ablation, row: Row) -> list[str]:
    against = row.against
    if against is None:
        return ["", "", "", "reference" if row.name == found.reference else "not compared"]
    told = [difference_cell(found, against), plain_p(against.p_value), plain_p(against.adjusted)]
    return [*told, against.words]


def difference_cell(found: Ablation, against: Contrast) -> str:
    """The difference in the figure that decides with its interval, in points or its unit: `+3.4 [+1.2, +5.5]`."""
    held = against.differences[found.primary]
    text = change(found.primary, held.value)
    if held.low is None:
        return text
    return f"{text} [{change(found.primary, held.low)}, {change(found.primary, held.high)}]"


def plain_p(value: float) -> str:
    """`0.034` or `< 0.001`."""
    return p_text(value).removeprefix("p = ").removeprefix("p ")


def spread_text(held: OverSeeds | Spread | None, figure: str) -> str:
    """For example `0.786 ± 0.012`: mean and standard deviation over seeds."""
    if held is None:
        return "–"
    text = figure_text(held.mean, figure)
    return text if held.deviation is None else f"{text} ± {figure_text(held.deviation, figure)}"


def cost_rows(found: Ablation) -> list[list[str]]:
    """A row a variant: what it takes, under `fusionkit.costs.HEADS`; means over its seeds, of the memory the most."""
    return [[row.name, *cost_cells(row.cost)] for row in found.rows]


def markdown(found: Ablation, legend: Sequence[str]) -> str:
    """The table of figures, and what a reader should know below."""
    lines = [*_lines(heads(found), rows(found)), "", *(f"- {line}" for line in [*legend, *found.notes])]
    return "\n".join(lines) + "\n"


def costs_markdown(found: Ablation) -> str:
    return "\n".join(_lines(["variant", *HEADS], cost_rows(found))) + "\n"


def table_csv(found: Ablation) -> str:
    """Every number, a row a variant, with all digits and nothing that changes from one sitting to the next."""
    axes = list(dict.fromkeys(axis for row in found.rows for axis in row.levels))
    figures = HEADLINES[found.task]
    of_figure = [f"{name}{part}" for name in figures for part in ("", "_sd", "_low", "_high")]
    of_figure += [f"{name}{part}" for name in found.extra for part in ("", "_sd")]
    differences = [f"{name}_difference{part}" for name in figures for part in ("", "_low", "_high")]
    tests = ["p_samples", "p_seeds", "p_both", "p", "p_holm", "effect", "detectable", "verdict", "test", "paired_seeds"]
    head = ["variant", *axes, "baseline", "seeds", "n", *of_figure, *differences, *tests]
    body = []
    for row in found.rows:
        values: list[Any] = [
            row.name,
            *(row.levels.get(axis) for axis in axes),
            row.is_baseline,
            len(row.seeds),
            found.n,
        ]
        for name in figures:
            held = row.metrics[name]
            values += [None] * 4 if held is None else [held.mean, held.deviation, held.low, held.high]
        for name in found.extra:
            beside = row.over_seeds(name)
            values += [None] * 2 if beside is None else [beside.mean, beside.deviation]
        if (against := row.against) is None:
            values += [None] * (len(differences) + len(tests))
        else:
            for name in figures:
                gap = against.differences[name]
                values += [gap.value, gap.low, gap.high]
            values += [against.p_samples, against.p_seeds, against.p_both, against.p_value, against.adjusted]
            values += [against.effect, against.detectable, against.words, against.test, len(against.seeds)]
        body.append(values)
    return _csv(head, body)


def costs_csv(found: Ablation) -> str:
    keys = ("parameters", "multiply_adds", "train_seconds", "samples_per_second", "peak_memory_bytes")
    return _csv(["variant", *keys], [[row.name, *(getattr(row.cost, key) for key in keys)] for row in found.rows])


def runs_csv(found: Ablation) -> str:
    """A row a variant and seed: its figures, its folder, the code that made it."""
    figures = HEADLINES[found.task]
    body = [
        [
            *(row.name, seed, *row.figures[seed].values()),
            *(row.extra[seed].get(name) for name in found.extra),
            *(row.code[seed], row.runs[seed]),
        ]
        for row in found.rows
        for seed in row.seeds
    ]
    return _csv(["variant", "seed", *figures, *found.extra, "code", "run"], body)


def _lines(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    table = [head, ["---"] * len(head), *body]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in table]


def _csv(head: Sequence[str], body: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(body)
    return text.getvalue()
