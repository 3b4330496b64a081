"""The hash of the code that makes a result."""

from __future__ import annotations

import sys

from fusionkit import grid_code
from fusionkit.grid_code import code_hash

PLUGIN = """
from fusionkit import Component, hookimpl

@hookimpl
def fusionkit_components():
    yield Component("fusion", "strange", "stranger.parts:Strange", "strange")
"""


def test_a_plugin_is_part_of_the_code_and_is_not_imported(packages):
    before = code_hash()
    assert code_hash() == before
    packages.add("stranger", plugin=PLUGIN, parts="raise RuntimeError('imported')")
    from fusionkit import registry

    registry._load.cache_clear()
    with_it = code_hash()
    assert with_it != before
    assert "stranger.parts" not in sys.modules
    (packages.folder / "stranger" / "parts.py").write_text("x = 1\n")
    assert code_hash() not in (before, with_it)


def test_every_module_of_the_core_counts():
    hashed = [path for package in ("fusionkit", "fusionkit_fusions") for _, path in grid_code._files(package)]
    assert {"trainer.py", "contract.py", "concat.py"} <= {path.name for path in hashed}
    assert grid_code._files("no_such_package") == []
