"""What `import fusionkit` offers."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fusionkit


@pytest.mark.parametrize("name", fusionkit.__all__)
def test_every_name_is_there(name: str) -> None:
    found = getattr(fusionkit, name)
    assert getattr(found, "__module__", "fusionkit").partition(".")[0] in (
        "fusionkit",
        "pathlib",
        "typing",
        "builtins",
        "pluggy",
    )


def test_names_are_sorted_and_all_that_are_found_at_first_use() -> None:
    assert sorted(fusionkit.__all__) == sorted({*fusionkit._HOME_OF, "PLUGIN_API", "Component", "hookimpl"})
    assert set(fusionkit.__all__) <= set(dir(fusionkit))


REPLACEABLE = {
    *("suggestion", "atomic", "generator", "expand_path", "torchvision_needed"),
    *("confusion", "stages_done", "NO_CLASS", "NOBODY"),
}
"""What built-ins take from the core to be shorter, and a stranger can write in a few lines."""


def test_what_built_ins_need_of_the_core_is_public() -> None:
    root = Path(__file__).parents[2]
    needed = {
        alias.name
        for folder in ("plugins", "datasets")
        for file in (root / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "fusionkit"
        for alias in node.names
    }
    assert "Fusion" in needed
    assert needed - REPLACEABLE <= set(fusionkit.__all__)


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'fusionkit' has no attribute 'nothing'"):
        fusionkit.nothing  # noqa: B018
    with pytest.raises(ImportError):
        from fusionkit import nothing  # noqa: F401
