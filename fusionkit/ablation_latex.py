"""The table of an ablation in LaTeX: booktabs, best bold, second underlined, marks of significance and a legend."""

from __future__ import annotations

from collections.abc import Sequence

from fusionkit.ablation import Ablation, Contrast, Row
from fusionkit.ablation_tables import cost_rows, difference_cell, in_table, plain_p
from fusionkit.costs import HEADS
from fusionkit.extra_metrics import AboutMetric
from fusionkit.headlines import ERRORS, LABELS, label
from fusionkit.result import figure_text

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "²": r"\textsuperscript{2}",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "[": "{[}",
    "−": r"$-$",
    "–": "--",
} | {sign: f"\\{sign}" for sign in "&%$#_{}"}
_WEAK = r"\dagger"
_LEVELS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


def latex(found: Ablation, caption: str) -> str:
    """A `table` environment to `\\input` where `booktabs` is loaded.

    Args:
        found: the ablation.
        caption: plain text.
    """
    names = in_table(found)
    unit = "" if found.primary in ERRORS or found.primary == "r2" else " (points)"
    heads = ["variant", *map(label, names), f"Δ {LABELS[found.primary]}{unit}", "p (Holm)"]
    ranks = {name: _ranks(found.rows, name, found.extra.get(name)) for name in names}
    marked = {_mark(row.against) for row in found.rows}
    body = [_cells(found, row, names, ranks) for row in found.rows]
    return _table(found, heads, body, "ablation", caption, _legend(found, marked))


def costs_latex(found: Ablation, caption: str) -> str:
    """The same of what the variants take."""
    body = [[_escaped(cell) for cell in row] for row in cost_rows(found)]
    return _table(found, ["variant", *HEADS], body, "ablation-cost", caption, "")


def _table(
    found: Ablation, heads: Sequence[str], body: Sequence[Sequence[str]], label: str, caption: str, legend: str
) -> str:
    lines = [" & ".join(cells) + r" \\" for cells in body]
    baselines = sum(row.is_baseline for row in found.rows)
    if 0 < baselines < len(lines):
        lines.insert(baselines, r"\midrule")
    below = (
        [r"\par\smallskip", rf"\begin{{minipage}}{{\linewidth}}\scriptsize {legend}\end{{minipage}}"] if legend else []
    )
    text = "\n".join(
        [
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{_escaped(caption)}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
            r"\toprule",
            " & ".join(map(_escaped, heads)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            *below,
            r"\end{table}",
        ]
    )
    engine = "" if text.isascii() else ", and XeLaTeX or LuaLaTeX with a font that has all letters"
    return f"% needs \\usepackage{{booktabs}}{engine}\n{text}\n"


def _cells(found: Ablation, row: Row, names: Sequence[str], ranks: dict[str, dict[str, int]]) -> list[str]:
    cells = [_escaped(row.name)]
    for name in names:
        held = row.over_seeds(name)
        if held is None:
            cells.append("--")
            continue
        mean = _escaped(figure_text(held.mean, name))
        mean = {0: rf"\textbf{{{mean}}}", 1: rf"\underline{{{mean}}}"}.get(ranks[name][row.name], mean)
        if name == found.primary:
            mean += _mark(row.against)
        cells.append(mean if held.deviation is None else rf"{mean} $\pm$ {figure_text(held.deviation, name)}")
    if row.against is None:
        return [*cells, "reference" if row.name == found.reference else "--", ""]
    signed = difference_cell(found, row.against).replace("-", "−")
    return [*cells, _escaped(signed), _escaped(plain_p(row.against.adjusted))]


def _ranks(rows: Sequence[Row], name: str, metric: AboutMetric | None = None) -> dict[str, int]:
    """0 for the best, 1 for the second; those printed alike share their rank. `metric`: what no headline figure is."""
    held = {row.name: row.over_seeds(name) for row in rows}
    printed = {variant: figure_text(one.mean, name) for variant, one in held.items() if one is not None}
    higher = metric.higher_is_better if metric else name not in ERRORS
    order = sorted(set(printed.values()), key=float, reverse=higher)
    return {variant: order.index(text) for variant, text in printed.items()}


def _mark(against: Contrast | None) -> str:
    """A superscript: stars by the adjusted p-value, a dagger for weak evidence, else nothing."""
    if against is None or against.verdict == "no evidence":
        return ""
    if against.verdict == "borderline":
        return rf"$^{{{_WEAK}}}$"
    stars = next(stars for level, stars in _LEVELS if against.adjusted < level)
    return rf"$^{{{stars}}}$"


def _legend(found: Ablation, marked: set[str]) -> str:
    told = [r"Bold: best; underlined: second.", rf"$\Delta$: minus {_escaped(found.reference)}, with 95\,\% interval."]
    for level, stars in reversed(_LEVELS):
        if rf"$^{{{stars}}}$" in marked:
            told.append(
                rf"$^{{{stars}}}$ differs from {_escaped(found.reference)}, $p<{level}$ after Holm's correction."
            )
    if rf"$^{{{_WEAK}}}$" in marked:
        told.append(
            rf"$^{{{_WEAK}}}$ weak evidence: $p<0.05$ before the correction alone, or of one seed or few groups."
        )
    if any(row.against and not _mark(row.against) for row in found.rows):
        told.append("No mark: no evidence of a difference.")
    return " ".join(told)


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(char, char) for char in " ".join(text.split()))
