"""The command line. Every command imports what it needs when it is called, so that `--help` is quick."""

from __future__ import annotations

import sys
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fusionkit import cli_compare, cli_data, cli_grid, cli_panels, cli_plugins, cli_predict, cli_recipes
from fusionkit.cli_shared import OverridesArgument, RecipeArgument, only_the_answer, table
from fusionkit.errors import FusionkitError, RecipeError, RequestError


class Commands(TyperGroup):
    """Tells errors that are the user's to mend in a line or two; all others keep their traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except FusionkitError as error:
            if ctx.params["verbose"]:
                traceback.print_exception(error)
            else:
                print(error if isinstance(error, RecipeError) else f"error: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _tell_version(asked: bool) -> None:
    if asked:
        print(f"fusionkit {version('fusionkit-geo')}")
        raise typer.Exit


@app.callback()
def fusionkit(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of every error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_tell_version, is_eager=True)] = False,
) -> None:
    """Multimodal fusion for remote sensing: a recipe names modalities, encoders, one fusion and losses.

    fusionkit trains them, measures them honestly and leaves a folder with the figures.
    """


@app.command()
def run(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    runs: Annotated[Path, typer.Option(file_okay=False, help="Where the run folder is made.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Starts the run folder's name.", show_default="the recipe's")] = None,
    resume: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Go on with this unfinished run.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print result.json instead of the run folder's path.")] = False,
) -> None:
    """Train, evaluate and report what a recipe describes.

    The last line on standard output is the path of the run folder; all else goes to standard error.
    """
    from fusionkit import catalogue

    path = catalogue.locate(recipe)
    from lightning.fabric.utilities import rank_zero_only

    from fusionkit import experiment

    with only_the_answer():
        done = experiment.run(path, overrides=overrides or (), runs=runs, name=name, resume=resume)
    if getattr(rank_zero_only, "rank", 0) == 0:
        print(done.result, file=sys.stderr)
        print((done.path / "result.json").read_text(encoding="utf-8").rstrip() if json else done.path)


@app.command()
def check(recipe: RecipeArgument, overrides: OverridesArgument = None) -> None:
    """Prove a recipe without training: shapes, tokens, parameters and multiply-adds of every part.

    The data are not read and need not be there if the recipe says their shapes.

    `fusion:NAME`, `encoder:NAME`, `loss:NAME`, `metric:NAME` or `augmentation:NAME` in the place of the recipe holds a
    component against the rules that every one of its kind keeps; `fusion:all` does so for all of them.
    """
    from fusionkit import catalogue, cli_check

    if cli_check.is_component(recipe):
        if overrides:
            raise RequestError("a component is checked with its default options; leave the overrides out")
        with only_the_answer():
            rows, right = cli_check.check_components(recipe)
        table(("component", "passes with", "faults and refusals"), rows)
        raise typer.Exit(0 if right else 1)
    from fusionkit.check import check
    from fusionkit.recipe import load_recipe

    with only_the_answer():
        loaded = load_recipe(catalogue.locate(recipe), overrides or ())
        report = check(loaded)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(report)


@app.command()
def schema(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", dir_okay=False, help="Write to this file.", show_default="standard output"),
    ] = None,
) -> None:
    """Print the JSON Schema of recipes, for editors that complete and check YAML."""
    import json

    from fusionkit.schema import json_schema

    with only_the_answer():
        text = json.dumps(json_schema(), indent=2, ensure_ascii=False)
    if output is None:
        print(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")


app.command()(cli_grid.grid)
app.command(context_settings={"ignore_unknown_options": True})(cli_predict.predict)
app.command()(cli_panels.panels)
app.command()(cli_compare.compare)
app.add_typer(cli_recipes.app, name="recipes")
app.add_typer(cli_plugins.app, name="plugins")
app.add_typer(cli_data.app, name="data")
