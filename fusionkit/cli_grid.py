"""`fusionkit grid`: many runs from one recipe and some axes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from fusionkit import catalogue
from fusionkit.cli_shared import OverridesArgument, only_the_answer, table
from fusionkit.errors import RequestError


def grid(
    source: Annotated[
        str,
        typer.Argument(metavar="GRID", help="The file of the grid, such as ablation.yaml, or one that is shipped."),
    ],
    overrides: OverridesArgument = None,
    grids: Annotated[Path, typer.Option(file_okay=False, help="Where the grid's folder is made or found.")] = Path(
        "grids"
    ),
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Cells that run at a time.", show_default="one a GPU, or 1")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Cores of each cell.", show_default="an equal share, or 1 with Dask")
    ] = None,
    retries: Annotated[int, typer.Option(min=0, help="How often a cell that fails is tried again.")] = 1,
    backend: Annotated[
        Literal["local", "dask"] | None,
        typer.Option(help="Run on this machine or on a Dask cluster.", show_default="local"),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="The Dask scheduler, such as tcp://10.0.0.1:8786.", show_default=False)
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep results of other code, marked, instead of running them again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells, prove them, and run nothing.")] = False,
) -> None:
    """Run every combination of a grid's axes with every seed, and compare them in one table.

    The file names a base recipe, `axes` with their levels, parts to `remove` one at a time, and `seeds`. A cell that
    is finished is not run again: start the same command anew after whatever stopped it.

    `table.md`, the same in CSV and LaTeX, figures and `ablation.html` are written into the grid's folder.

    The last line on standard output is the path of the grid's folder; all else goes to standard error.
    """
    if (backend == "dask") != (scheduler is not None):
        missing = "--backend dask" if backend != "dask" else "--scheduler with the address of the Dask scheduler"
        raise RequestError(f"a Dask cluster needs {missing}")
    path = catalogue.locate(source, "grid")
    if dry_run:
        _list(path, overrides or (), grids)
        return
    from fusionkit.grid_run import grid as run
    from fusionkit.grids import load_grid

    with only_the_answer():
        loaded = load_grid(path, overrides or ())
        for _ in run(
            loaded,
            grids=grids,
            jobs=jobs,
            threads=threads,
            retries=retries,
            scheduler=scheduler,
            keep=keep,
        ):
            pass
    folder = grids / loaded.name
    print((folder / "table.md").read_text(encoding="utf-8"), file=sys.stderr)
    print(folder)


def _list(path: Path, overrides: list[str] | tuple[str, ...], grids: Path) -> None:
    """Print a row a cell: its variant, its seed, and whether it is finished."""
    from fusionkit.grid_folder import GridFolder
    from fusionkit.grid_proof import prove
    from fusionkit.grids import load_grid

    with only_the_answer():
        grid = load_grid(path, overrides)
        notes = [*grid.notes, *prove(grid)]
    folder = GridFolder(grids / grid.name)
    rows = [
        (cell.fingerprint, f"{cell.seed}", "finished" if folder.run(cell) else "", cell.name) for cell in grid.cells
    ]
    table(("fingerprint", "seed", "state", "variant"), rows)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    variants = len(grid.variants)
    typer.echo(
        f"{len(rows)} cells: {variants} variants x {len(grid.seeds)} seeds, compared with {grid.reference}", err=True
    )
