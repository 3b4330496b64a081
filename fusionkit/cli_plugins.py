"""`fusionkit plugins`: what is installed, and the options of each component."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusionkit.cli_shared import table

if TYPE_CHECKING:
    from fusionkit.registry import Entry, Registry

app = typer.Typer(help="List the plugins and their components; show a component's options.", no_args_is_help=False)

VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show why a plugin is broken, in full.")]


@app.callback(invoke_without_command=True)
def plugins(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: VerboseOption = False,
) -> None:
    if ctx.invoked_subcommand is not None:
        return
    from fusionkit.registry import load_registry

    registry = load_registry()
    if as_json:
        print(json.dumps(_plain(registry), indent=2, ensure_ascii=False))
    else:
        _print_list(registry, verbose=verbose or ctx.find_root().params["verbose"])


def _plain(registry: Registry) -> dict[str, Any]:
    return {
        "plugins": [
            {"name": p.name, "owner": p.owner, "version": p.version, "status": p.status, "reason": p.reason}
            for p in registry.plugins
        ],
        "components": [
            {
                "kind": entry.component.kind,
                "name": entry.component.name,
                "summary": entry.component.summary,
                "target": entry.component.target,
                "plugin": entry.plugin.name,
                "owner": entry.plugin.owner,
                "status": entry.status,
            }
            for entry in _ordered(registry)
        ],
    }


def _ordered(registry: Registry) -> list[Entry]:
    from fusionkit.components import KINDS

    return sorted(registry.components, key=lambda e: (KINDS.index(e.component.kind), e.component.name, e.plugin.owner))


def _print_list(registry: Registry, *, verbose: bool) -> None:
    entries = _ordered(registry)
    clash = {True: "clash: two plugins offer it", False: ""}
    rows = [
        (
            e.component.kind,
            e.component.name,
            f"{e.plugin.owner} {e.plugin.version}",
            clash[e.clash] or e.component.summary,
        )
        for e in entries
    ]
    table(("kind", "name", "from", "what"), rows)
    print()
    table(
        ("plugin", "from", "status", "why"),
        [(p.name, f"{p.owner} {p.version}", p.status, p.reason) for p in registry.plugins],
    )
    for plugin in registry.plugins:
        if verbose and plugin.traceback:
            print(f"\n{plugin.name} of {plugin.owner}:\n{plugin.traceback}", end="")


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A component as `concat`, or `fusion:concat`.")],
) -> None:
    """Show what a component does and its options in a recipe."""
    from fusionkit.errors import RequestError, suggestion
    from fusionkit.registry import load_registry

    registry = load_registry()
    found = registry.find(name)
    if not found:
        known = {e.component.name for e in registry.components}
        raise RequestError(f"no component is named {name!r}{suggestion(name.rpartition(':')[2], known)}")
    kinds = dict.fromkeys(entry.component.kind for entry in found)
    for number, kind in enumerate(kinds):
        if number:
            print()
        _print_component(registry.get(kind, found[0].component.name), registry)


def _print_component(entry: Entry, registry: Registry) -> None:
    from fusionkit.wording import options_in_words, prose

    component = entry.component
    target = registry.resolve(component.kind, component.name)
    told = options_in_words(registry.options(component.kind, component.name))
    print(f"{component.kind} {component.name}, from {entry.plugin.owner} {entry.plugin.version}\n")
    print(prose(inspect.getdoc(target) or component.summary))
    for number, (name, options) in enumerate(told.items()):
        print()
        if options:
            table((name if number else "option", "type", "default", "what"), options)
        else:
            print("It has no options.")
