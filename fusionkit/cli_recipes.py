"""`fusionkit recipes`: the recipes and grids that come with fusionkit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fusionkit.cli_shared import table

app = typer.Typer(
    help="List, show and copy the recipes and grids that come with fusionkit.", invoke_without_command=True
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As `fusionkit recipes` lists it.")]


@app.callback()
def recipes(ctx: typer.Context) -> Any:
    if ctx.invoked_subcommand is not None:
        return
    from fusionkit.catalogue import shipped

    table(("name", "what"), [(recipe.name, recipe.summary) for recipe in shipped()])


@app.command()
def show(name: NameArgument) -> None:
    """Print a recipe."""
    from fusionkit.catalogue import find

    print(find(name).path.read_text(encoding="utf-8"), end="")


@app.command()
def copy(
    name: NameArgument,
    to: Annotated[Path, typer.Option(help="A folder; of a recipe also a file that ends in .yaml.")] = Path("."),
) -> None:
    """Copy a recipe, to change it. Nothing is overwritten."""
    from fusionkit import catalogue

    first, *others = catalogue.copy(name, to)
    for path in others:
        print(f"also {path}, which it inherits from", file=sys.stderr)
    print(f"run it: fusionkit {catalogue.find(name).command} {first}", file=sys.stderr)
    print(first)
