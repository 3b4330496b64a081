"""`fusionkit data`: describe the data of a recipe, and make data up where a dataset knows how."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fusionkit.cli_shared import OverridesArgument, RecipeArgument, only_the_answer
from fusionkit.errors import FusionkitError, RequestError

app = typer.Typer(help="Describe the data of a recipe, or make data up.", no_args_is_help=True)


@app.command()
def describe(recipe: RecipeArgument, overrides: OverridesArgument = None) -> None:
    """Read through the data of a recipe: sizes, classes, missing, ranges, duplicates, an example of each modality."""
    from fusionkit import catalogue
    from fusionkit.describe import describe
    from fusionkit.recipe import load_recipe

    with only_the_answer():
        description = describe(load_recipe(catalogue.locate(recipe), overrides or ()))
    print(description)


class Makers(TyperGroup):
    """A command for every dataset with a classmethod `make`; its keyword-only arguments are the options."""

    def list_commands(self, ctx: Any) -> list[str]:
        from fusionkit.registry import load_registry

        registry = load_registry()
        makers = []
        for name in registry.names("dataset"):
            with suppress(RequestError):  # one that cannot be imported is no reason to hide the others
                if hasattr(registry.resolve("dataset", name), "make"):
                    makers.append(name)
        return makers

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from fusionkit.registry import load_registry

        dataset = load_registry().resolve("dataset", cmd_name)
        if not hasattr(dataset, "make"):
            makers = ", ".join(self.list_commands(ctx))
            raise RequestError(f"the dataset {cmd_name!r} cannot make data up; those that can: {makers or 'none'}")
        return _command(cmd_name, dataset.make)


maker_app = typer.Typer(cls=Makers, help="Make data up, in the files that a dataset reads.", no_args_is_help=True)
maker_app.callback()(lambda: None)
app.add_typer(maker_app, name="make")


def _command(dataset: str, make: Callable[..., Any]) -> Any:
    """The command that calls `make(folder, progress, **options)` and prints what it returns."""
    from fusionkit.options import arguments_model
    from fusionkit.wording import options_in_words

    model = arguments_model(make)
    rows = options_in_words(model)[model.__name__]

    def command(folder: Path, **given: str | None) -> None:
        from fusionkit.progress import Progress

        options = _validated(model, given)
        bar, move = Progress().counter(f"making {dataset}")
        try:
            with only_the_answer(), bar:
                made = make(folder, move, **options)
        except OSError as error:
            raise FusionkitError(f"{error.filename or folder}: {error.strerror or error}") from error
        print(made)

    # Typer reads the options from the signature.
    folder = Annotated[Path, typer.Argument(metavar="FOLDER", file_okay=False, help="Where the data go.")]
    parameters = [inspect.Parameter("folder", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=folder)]
    for row in rows:
        option = typer.Option(
            f"--{row.name.replace('_', '-')}", metavar=row.type, help=f"{row.meaning} [{row.default}]"
        )
        annotation = Annotated[str | None, option]
        parameters.append(
            inspect.Parameter(row.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    alone = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    alone.command(dataset, help=inspect.cleandoc(make.__doc__ or "").partition("\n\n")[0])(command)
    return typer.main.get_command(alone)


def _validated(model: Any, given: dict[str, str | None]) -> dict[str, Any]:
    """The options as typed; values are read as YAML, like those of a recipe."""
    from pydantic import ValidationError

    from fusionkit.explain import explain
    from fusionkit.yamlfile import load_yaml

    values = {name: load_yaml(text, f"--{name}").data for name, text in given.items() if text is not None}
    try:
        return dict(model.model_validate_json(json.dumps(values)))
    except ValidationError as error:
        told = [f"--{'.'.join(map(str, path)).replace('_', '-')}: {why}" for path, why in explain(error, model, values)]
        raise RequestError("; ".join(told)) from None
