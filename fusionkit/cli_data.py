"""`fusionkit data`: describe the data of a recipe; make data up, and prepare them, where a dataset knows how."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperGroup

from fusionkit.cli_shared import OverridesArgument, RecipeArgument, only_the_answer
from fusionkit.errors import FusionkitError, RequestError

app = typer.Typer(help="Describe the data of a recipe, make data up, or prepare them.", no_args_is_help=True)


@app.command()
def describe(recipe: RecipeArgument, overrides: OverridesArgument = None) -> None:
    """Read through the data of a recipe: sizes, classes, missing, ranges, duplicates, an example of each modality."""
    from fusionkit import catalogue
    from fusionkit.describe import describe
    from fusionkit.recipe import load_recipe

    with only_the_answer():
        description = describe(load_recipe(catalogue.locate(recipe), overrides or ()))
    print(description)


class _ByDataset(TyperGroup):
    """A command for every dataset with a certain classmethod; its keyword-only arguments are the options."""

    method: ClassVar[str]
    does: ClassVar[str]
    doing: ClassVar[str]
    folder: ClassVar[tuple[str, str]]
    """What the folder is called, and what is in it."""

    def list_commands(self, ctx: Any) -> list[str]:
        from fusionkit.registry import load_registry

        registry = load_registry()
        able = []
        for name in registry.names("dataset"):
            with suppress(RequestError):  # one that cannot be imported is no reason to hide the others
                if hasattr(registry.resolve("dataset", name), self.method):
                    able.append(name)
        return able

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from fusionkit.registry import load_registry

        dataset = load_registry().resolve("dataset", cmd_name)
        if not hasattr(dataset, self.method):
            able = ", ".join(self.list_commands(ctx))
            raise RequestError(f"the dataset {cmd_name!r} cannot {self.does}; those that can: {able or 'none'}")
        return _command(cmd_name, getattr(dataset, self.method), self.doing, *self.folder)


class Makers(_ByDataset):
    method, does, doing = "make", "make data up", "making"
    folder = "FOLDER", "Where the data go."


class Preparers(_ByDataset):
    method, does, doing = "prepare", "prepare data", "preparing"
    folder = "ROOT", "Where the data are, as in the recipe."


def _add(group: type[_ByDataset], help: str) -> None:
    commands = typer.Typer(cls=group, help=help, no_args_is_help=True)
    commands.callback()(lambda: None)
    app.add_typer(commands, name=group.method)


_add(Makers, "Make data up, in the files that a dataset reads.")
_add(Preparers, "Convert the files of a dataset once, on all cores, so that runs start at once and read fast.")


def _command(dataset: str, work: Callable[..., Any], doing: str, argument: str, meaning: str) -> Any:
    """The command that calls `work(folder, progress, **options)` and prints what it returns."""
    from fusionkit.options import arguments_model
    from fusionkit.wording import options_in_words

    model = arguments_model(work)
    rows = options_in_words(model)[model.__name__]

    def command(folder: Path, **given: str | None) -> None:
        from fusionkit.progress import Progress

        options = _validated(model, given)
        bar, move = Progress().steps(f"{doing} {dataset}")
        try:
            with only_the_answer(), bar:
                answer = work(folder, move, **options)
        except OSError as error:
            raise FusionkitError(f"{error.filename or folder}: {error.strerror or error}") from error
        print(answer)

    # Typer reads the options from the signature.
    folder = Annotated[Path, typer.Argument(metavar=argument, file_okay=False, help=meaning)]
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
    alone.command(dataset, help=inspect.cleandoc(work.__doc__ or "").partition("\n\n")[0])(command)
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
