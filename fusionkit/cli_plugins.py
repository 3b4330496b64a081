"""`fusionkit plugins`: what is installed, and the options of each component."""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusionkit import cli_plugins_new
from fusionkit.cli_shared import only_the_answer, table

if TYPE_CHECKING:
    from fusionkit.registry import Entry, Plugin, Registry

app = typer.Typer(help="List the plugins and their components; show a component's options.", no_args_is_help=False)

app.command()(cli_plugins_new.new)

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
            {
                "name": p.name,
                "owner": p.owner,
                "version": p.version,
                "status": p.status,
                "reason": p.reason,
                "remedy": p.remedy,
                "hooks": _hooks(registry, p),
            }
            for p in registry.plugins
        ],
        "components": [
            {
                "kind": entry.component.kind,
                "name": entry.component.name,
                "summary": entry.component.summary,
                "target": entry.component.target,
                "extra": entry.component.extra,
                "deprecated": entry.component.deprecated,
                "plugin": entry.plugin.name,
                "owner": entry.plugin.owner,
                "version": entry.plugin.version,
                "status": entry.status,
            }
            for entry in _ordered(registry)
        ],
    }


def _ordered(registry: Registry) -> list[Entry]:
    from fusionkit.components import KINDS

    return sorted(registry.components, key=lambda e: (KINDS.index(e.component.kind), e.component.name, e.plugin.owner))


_HOOKS = {"fusionkit_callbacks": "callbacks", "fusionkit_report_sections": "report section"}
"""What a plugin provides beside components, and how the list calls it."""


def _hooks(registry: Registry, plugin: Plugin) -> dict[str, str]:
    """What a plugin provides beside components: the first line of each hook's docstring."""
    from fusionkit.wording import prose

    return {
        hook: prose(inspect.getdoc(found.function) or "").partition("\n")[0]
        for hook in _HOOKS
        for found in getattr(registry.manager.hook, hook).get_hookimpls()
        if found.plugin_name == f"{plugin.owner}:{plugin.name}"
    }


def _print_list(registry: Registry, *, verbose: bool) -> None:
    rows: list[tuple[str, ...]] = [
        (e.component.kind, e.component.name, f"{e.plugin.owner} {e.plugin.version}", e.status, _summary(e))
        for e in _ordered(registry)
    ]
    providing = {id(entry.plugin) for entry in registry.components}
    for plugin in registry.plugins:
        owner = f"{plugin.owner} {plugin.version}"
        hooks = _hooks(registry, plugin)
        rows += [(_HOOKS[hook], plugin.name, owner, plugin.status, told) for hook, told in hooks.items()]
        if not hooks and id(plugin) not in providing:
            rows.append(("plugin", plugin.name, owner, plugin.status, plugin.why or "provides nothing"))
    table(("kind", "name", "from", "status", "summary"), rows)
    for plugin in registry.plugins:
        if verbose and plugin.traceback:
            print(f"\n{plugin.name} of {plugin.owner}:\n{plugin.traceback}", end="")
    if any(status != "ok" for *_, status, _ in rows):
        print("`fusionkit plugins doctor` says what to do", file=sys.stderr)


def _summary(entry: Entry) -> str:
    install = f"pip install '{entry.component.extra}'" if entry.status == "needs extra" else ""
    return "; ".join(filter(None, [entry.component.about, install]))


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say what is wrong with the installed plugins, and what to do about it.

    Every component is imported for it. Exit code 1 where something is broken or clashes.
    """
    from fusionkit.doctor import FAILURES, examine
    from fusionkit.registry import load_registry

    with only_the_answer():
        registry = load_registry()
        found = examine(registry)
    failed = [finding for finding in found if finding.status in FAILURES]
    if as_json:
        print(json.dumps({"well": not failed, "findings": [asdict(f) for f in found]}, indent=2, ensure_ascii=False))
    elif found:
        table(("status", "what is wrong, and what to do"), [(finding.status, str(finding)) for finding in found])
        print(f"\n{len(failed)} to be mended." if failed else "\nNothing is broken.")
    else:
        print(
            f"All is well. Plugins: {len(registry.plugins)}; components that can be used: {len(registry.components)}."
        )
    raise typer.Exit(1 if failed else 0)


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
    if component.deprecated:
        print(f"Deprecated: {component.deprecated}.\n")
    print(prose(inspect.getdoc(target) or component.summary))
    for number, (name, options) in enumerate(told.items()):
        print()
        if options:
            table((name if number else "option", "type", "default", "what"), options)
        else:
            print("It has no options.")
