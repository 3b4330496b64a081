"""The page on the command line, as Typer tells it."""

from __future__ import annotations

import inspect
from typing import Any

import typer
from typer.cli import get_docs_for_click

from fusionkit.cli import app


def commands_page() -> str:
    """Every command with its arguments and options, as Markdown."""
    command = typer.main.get_command(app)
    _tell_in_full(command)
    context = typer.Context(command, info_name="fusionkit", **command.context_settings)
    return get_docs_for_click(obj=command, ctx=context, name="fusionkit", title="Command line")


def _tell_in_full(command: Any) -> None:
    """Lists of commands have the first paragraph of each, which Typer would cut."""
    for inner in getattr(command, "commands", {}).values():
        inner.short_help = inspect.cleandoc(inner.help or "").partition("\n\n")[0].replace("\n", " ")
        _tell_in_full(inner)
