"""`fusionkit plugins new`: begin a package of a plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def new(
    package: Annotated[str, typer.Argument(metavar="PACKAGE", help="The name of the package, as fusionkit-film.")],
    kind: Annotated[
        str,
        typer.Option(
            help="What it provides: fusion, loss, encoder, dataset, metric, augmentation, callbacks or report-section.",
            show_default=False,
        ),
    ],
    to: Annotated[
        Path | None, typer.Option(file_okay=False, help="The folder to write.", show_default="the package's name")
    ] = None,
) -> None:
    """Write a package of a plugin that works as it is: a method to be replaced, its tests, a recipe. Nothing is
    overwritten."""
    from fusionkit.registry import load_registry
    from fusionkit.scaffold import EXAMPLES, write_package

    written = write_package(package, kind, to, load_registry())
    names = written.names
    called = f", which recipes call {names.component!r}" if names.component else ""
    print(f"{names.package}: {EXAMPLES[names.kind].a_kind}{called}")
    for path in written.files:
        print(f"  {written.folder / path}")
    for note in written.notes:
        print(f"note: {note}")
    print("next:")
    for command in written.commands:
        print(f"  {command}")
