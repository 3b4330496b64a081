"""What plugins of others rely on as long as `PLUGIN_API` is the same."""

from __future__ import annotations

from dataclasses import MISSING, fields
from inspect import signature

from fusionkit.components import PLUGIN_API, Component, Hooks


def test_a_record_of_version_1_is_a_record_of_today() -> None:
    assert PLUGIN_API == 1
    assert [held.name for held in fields(Component)][:5] == ["kind", "name", "target", "summary", "extra"]
    assert [held.name for held in fields(Component) if held.default is MISSING] == ["kind", "name", "target"]


def test_a_hook_of_version_1_is_a_hook_of_today() -> None:
    hooks = {name: list(signature(hook).parameters)[1:] for name, hook in vars(Hooks).items() if name[0] != "_"}
    known = {"fusionkit_components": [], "fusionkit_callbacks": ["recipe"], "fusionkit_report_sections": ["run"]}
    assert known.items() <= hooks.items()
