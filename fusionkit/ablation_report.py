"""The files of an ablation: tables in Markdown, CSV and LaTeX, figures, and a page that opens offline."""

from __future__ import annotations

import re
from base64 import b64encode
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from jinja2 import Template

from fusionkit.ablation import Ablation, Row
from fusionkit.ablation_latex import costs_latex, latex
from fusionkit.ablation_tables import (
    cost_rows,
    costs_csv,
    costs_markdown,
    difference_cell,
    in_table,
    markdown,
    plain_p,
    runs_csv,
    spread_text,
    table_csv,
)
from fusionkit.costs import HEADS
from fusionkit.errors import RequestError
from fusionkit.estimates import change, p_text
from fusionkit.figures_ablation import ablation_figure, confusion_difference, counts_apart
from fusionkit.headlines import LABELS, label
from fusionkit.pages import template
from fusionkit.result import figure_text
from fusionkit.runs import LABEL_COUNTS, RunFolder

_LONGEST = 90
"""Bytes of a variant in the name of a file, which holds two."""


def legend(found: Ablation) -> list[str]:
    """What the numbers of the table are, for a caption or below it."""
    name = LABELS[found.primary]
    many = max(len(row.seeds) for row in found.rows)
    told = [
        f"{found.n:,} samples ({found.split}), the same for all. Figures: mean ± standard deviation over seeds.",
        f"Intervals at 95 %, for other {'seeds and ' if many > 1 else ''}test samples of the same kind: bootstrap over "
        f"{found.interval}" + (", and the spread between seeds with Student's t." if many > 1 else "."),
        f"Differences: minus {found.reference}, seed by seed and sample by sample. p: two-sided, of {name}; adjusted "
        "by Holm's method over all rows compared.",
    ]
    tests = dict.fromkeys(row.against.test for row in found.rows if row.against)
    if tests and many > 1:
        told.append(
            f"p is the greatest of three: {', '.join(tests)} of the differences averaged over seeds; paired t-test "
            "over seeds; and over both at once (Obuchowski-Rockette)."
        )
    elif tests:
        told.append(f"p: {', '.join(tests)}. It speaks of these very models, not of their recipes with another seed.")
    for figure, metric in found.extra.items():
        told.append(f"{metric.told(figure)}. Neither interval nor test.")
    if any(row.is_baseline for row in found.rows):
        told.append("Rows above the variants are baselines, trained beside the reference with its seeds.")
    return told


def write_ablation(folder: str | Path, found: Ablation) -> None:
    """Write `table.{md,csv,tex}`, `costs.{md,csv,tex}`, `runs.csv`, `ablation.{png,pdf}`, `ablation.html`, and for
    every variant the difference of its confusion matrix to that of the reference, under `confusion_difference/`.

    Nothing in `table.*` depends on when and where the runs were made, so that a grid that was interrupted leaves the
    same.

    Raises:
        RequestError: the folder cannot be made.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"no files can be written to {folder}: {error.strerror}") from None
    made = RunFolder(folder)
    made.write_text("table.md", markdown(found, legend(found)))
    made.write_text("table.csv", table_csv(found))
    made.write_text("table.tex", latex(found, legend(found)[0]))
    made.write_text("costs.md", costs_markdown(found))
    made.write_text("costs.csv", costs_csv(found))
    made.write_text("costs.tex", costs_latex(found, "What the variants take; multiply-adds are of one sample."))
    made.write_text("runs.csv", runs_csv(found))
    made.write_figure("ablation", ablation_figure(found))
    images = {"ablation": (folder / "ablation.png").read_bytes()}
    for row in _with_confusion(found):
        stem = write_confusion_difference(folder, found, row.name, found.reference)
        images[row.name] = (folder / f"{stem}.png").read_bytes()
    made.write_text("ablation.html", page(found, images))


def write_confusion_difference(folder: str | Path, found: Ablation, first: str, second: str) -> str:
    """Write `confusion_difference/FIRST-minus-SECOND.{csv,png,pdf}`, summed over the seeds that both have.

    The CSV holds differences of counts, a row a reference class, a column a predicted one; or a row a label.

    Returns:
        the stem of the files.

    Raises:
        RequestError: there is no such variant, they share no seed, or the task has no confusion matrix.
    """
    one, other = found.row(first), found.row(second)
    try:
        counts, _, _ = counts_apart(one, other)
    except ValueError as error:
        raise RequestError(str(error)) from None
    made, stem = RunFolder(Path(folder)), f"confusion_difference/{_slug(first)}-minus-{_slug(second)}"
    heads = ["label", *LABEL_COUNTS] if found.task == "multilabel" else ["reference", *found.classes]
    made.write_csv(
        f"{stem}.csv", heads, ([name, *row] for name, row in zip(found.classes, counts.tolist(), strict=True))
    )
    made.write_figure(stem, confusion_difference(one, other, found.classes))
    return stem


def page(found: Ablation, images: dict[str, bytes]) -> str:
    """The ablation as one self-contained page of HTML.

    Args:
        found: the ablation.
        images: PNG files: `ablation`, and by the name of a variant the difference of its confusion matrix.
    """
    sources = {name: f"data:image/png;base64,{b64encode(image).decode()}" for name, image in images.items()}
    return _template().render(
        found=found,
        images=sources,
        figures=in_table(found),
        labels=LABELS | {name: label(name) for name in found.extra},
        legend=legend(found),
        costs=cost_rows(found),
        cost_heads=HEADS,
        answers=[(row.against.verdict, sentence(found, row)) for row in found.rows if row.against],
    )


def sentence(found: Ablation, row: Row) -> str:
    """The comparison of a row with the reference in words."""
    against = row.against
    assert against is not None  # noqa: S101 - the caller leaves out rows that are not compared
    joined = {"no evidence": " from", "borderline": " of a difference from"}.get(against.verdict, " than")
    detectable = ""
    if against.verdict == "no evidence" and against.detectable is not None:
        size = change(found.primary, against.detectable).removeprefix("+")
        detectable = f"; {size} would have been found with 80 % power"
    gap = f"{LABELS[found.primary]} {difference_cell(found, against)}"
    told = f"{gap}, {p_text(against.adjusted)} after Holm's correction{detectable}"
    return f"{row.name}: {against.words}{joined} {found.reference} ({told})."


def _with_confusion(found: Ablation) -> list[Row]:
    base = found.row(found.reference)
    return [
        row
        for row in found.variants
        if row.name != base.name and row.confusion and base.confusion and set(row.confusion) & set(base.confusion)
    ]


def _slug(name: str) -> str:
    """A file name of a variant's. Letters of any script stay; what is long or has other signs ends with a hash."""
    plain = name.replace(", ", ",").replace(" ", "_")
    text = re.sub(r"[^\w.=,+-]+", "_", plain).strip(".").encode()[:_LONGEST].decode(errors="ignore")
    return text if text == plain else f"{text}-{blake2b(name.encode(), digest_size=4).hexdigest()}"


@lru_cache(maxsize=1)
def _template() -> Template:
    return template("ablation.html", share=figure_text, spread=spread_text, p=plain_p, change=change)
