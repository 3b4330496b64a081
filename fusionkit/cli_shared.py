"""What several commands share: the arguments that name a recipe, a clean standard output, and tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Annotated

import typer

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A file, or the name of a recipe that `fusionkit recipes` lists.")
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Changes to the recipe, such as train.epochs=5", show_default=False),
]


@contextmanager
def only_the_answer() -> Iterator[None]:
    """Keep standard output for the answer: what libraries and plugins print meanwhile goes to standard error."""
    with redirect_stdout(sys.stderr):
        yield


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under heads. On a terminal the last column wraps; elsewhere no line is cut or wrapped."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console.width = 100_000
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, head in enumerate(heads[:-1]):
        grid.add_column(head, style="" if number else "cyan", overflow="fold")
    grid.add_column(heads[-1], overflow="fold", min_width=20)
    for row in rows:
        grid.add_row(*map(Text, row))  # as text, so that no bracket is taken for markup
    with console.capture() as captured:
        console.print(grid)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))
