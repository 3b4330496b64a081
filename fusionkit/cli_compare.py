"""`fusionkit compare`: runs made by hand, side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fusionkit.cli_shared import only_the_answer, table


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", file_okay=False, help="Write tables, figures and a page into this folder."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="The variant, or a baseline such as 'image alone'.", show_default="that of the first run"),
    ] = None,
) -> None:
    """Compare finished runs on their test samples: figures, differences with intervals, tests, cost.

    Runs whose recipes differ in nothing but the seed are one variant; give several seeds of each, for with one seed
    nothing can be said of the recipes. They must be of the same task, test samples and data.
    """
    from fusionkit.ablation_report import legend, write_ablation
    from fusionkit.ablation_tables import heads, rows
    from fusionkit.compare import compare

    with only_the_answer():
        found = compare(runs, reference)
        if output is not None:
            write_ablation(output, found)
    table(heads(found), rows(found))
    for line in [*legend(found), *found.notes]:
        print(line, file=sys.stderr)
    if output is not None:
        print(output / "ablation.html", file=sys.stderr)
