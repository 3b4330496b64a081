"""The baselines of a run; that all of them are trained is shown in test_experiment."""

from __future__ import annotations

from dataclasses import replace

import fusionkit_fakes as fakes
import pytest

from fusionkit import variants as variants_module
from fusionkit.components import Component
from fusionkit.flow import InputSpec, Task
from fusionkit.recipe import load_recipe
from fusionkit.registry import Entry, Plugin, Registry
from fusionkit.variants import variants

INPUTS = {"image": InputSpec((3, 8, 8)), "vector": InputSpec((5,))}
TASK = Task("classification", ("a", "b"))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Registry:
    registry = fakes.registry()
    monkeypatch.setattr(variants_module, "load_registry", lambda: registry)
    return registry


def of(registry: Registry) -> tuple[list[str], list[str]]:
    recipe = load_recipe(fakes.recipe(baselines=True), registry=registry)
    made, notes = variants(recipe, INPUTS, TASK)
    return [variant.name for variant in made], notes


def test_an_early_stack_that_does_not_fit_is_a_note(installed: Registry) -> None:
    stack = replace(installed.get("fusion", "stack").component, name="early_stack")
    installed.components.append(Entry(stack, installed.plugins[0]))
    assert of(installed) == (
        ["fusion", "image", "vector"],
        ["no early stack beside the fusion: the inputs cannot be arranged: the maps differ in size"],
    )


def test_an_early_stack_that_cannot_be_had_stops_no_run(installed: Registry) -> None:
    for owner in ("acme", "zeta"):
        installed.components.append(Entry(Component("fusion", "early_stack", "a:b"), Plugin(owner, owner, "1"), True))
    assert of(installed) == (
        ["fusion", "image", "vector"],
        [
            "no early stack beside the fusion: fusion 'early_stack' is offered by acme (acme) and zeta (zeta); "
            "uninstall one, or name its plugin in FUSIONKIT_DISABLE_PLUGINS"
        ],
    )
