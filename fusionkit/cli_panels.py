"""`fusionkit panels`: test samples of a finished run, to be looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fusionkit.cli_shared import only_the_answer


def panels(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="Where the data are now, such as data.root=/new/folder", show_default=False
        ),
    ] = None,
    number: Annotated[int, typer.Option("--number", "-n", min=1, max=50, help="Samples of each group.")] = 4,
) -> None:
    """Show test samples: images and texts, ground truth, the best baseline's answer and ours.

    The samples are drawn at random by the run's seed from those that both models get right, that fusion gains or loses,
    and that both get wrong; of a retrieval, by the rank at which they are found, with the first five candidates both
    ways. Where the fusion attends from words to an image, each word is shown with what it looks at.

    The page is RUN/panels.html, one file, linked from report.html. The data of the run are read again.
    """
    from fusionkit.panels import write_panels

    with only_the_answer():
        page = write_panels(run, overrides=overrides or (), number=number)
    print(page)
