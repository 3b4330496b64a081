"""The pages on what Python code imports: `fusionkit` itself, and `fusionkit.testing`."""

from __future__ import annotations

import inspect
from collections import defaultdict
from importlib import import_module

from fusionkit_site.markdown import cell, code, table

import fusionkit
import fusionkit.testing

_GROUPS = {
    "Runs": ("experiment", "grid_run", "recipe", "result", "runs"),
    "Base classes": ("contract", "samples"),
    "What flows between them": ("flow", "stages", "checkpointing"),
    "Maps of new scenes": ("scene",),
    "Plugins": ("components", "trainer"),
    "Types of options": ("options",),
    "Errors": ("errors",),
}
"""Per heading of the page, the modules that are the home of the names under it."""

_SHAPES = """\
`Float[B, N, D]` in a signature is a tensor of these axes: B batch, N tokens, D width, C channels, H height, W width,
T time, K classes; `...` is any axes and `_` one of any size."""


def python_page() -> str:
    """The public names of `fusionkit`, functions before classes, as Markdown for mkdocstrings."""
    grouped: dict[str, list[str]] = defaultdict(list)
    for name in sorted(fusionkit.__all__, key=lambda name: name[0].isupper()):
        grouped[_heading(name)].append(name)
    parts = ["# Python", "What `from fusionkit import ...` offers.", _SHAPES]
    for heading in _GROUPS:
        parts += [f"## {heading}", *(f"::: fusionkit.{name}" for name in grouped[heading])]
        if heading == "Plugins":
            parts.append("::: fusionkit.components.Hooks")
    return "\n\n".join(parts) + "\n"


def _heading(name: str) -> str:
    """The heading under which a public name stands.

    Raises:
        LookupError: its home is under none.
    """
    public = getattr(fusionkit, name)
    has_home = inspect.isclass(public) or inspect.isfunction(public)
    for heading, modules in _GROUPS.items():
        for module in (f"fusionkit.{short}" for short in modules):
            if public.__module__ == module if has_home else name in vars(import_module(module)):
                return heading
    raise LookupError(f"fusionkit.{name} stands under no heading of the Python page; name its module in {__file__}")


def suites_page() -> str:
    """The suites of `fusionkit.testing`, each with its rules, which the suites get when they are imported."""
    parts = ["# Tests of plugins", inspect.getdoc(fusionkit.testing) or ""]
    for name in fusionkit.testing.__all__:
        found = getattr(fusionkit.testing, name)
        options = "{heading_level: 2, filters: ['!^_', '!^test_']}"
        parts.append(f"::: fusionkit.testing.{name}\n    options: {options}")
        rules = [(code(key), cell(_first_line(getattr(found, key)))) for key in dir(found) if key.startswith("test_")]
        if rules:
            parts.append(table(("test", "what"), rules))
    return "\n\n".join(parts) + "\n"


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n\n")[0]
