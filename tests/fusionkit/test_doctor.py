"""`fusionkit plugins doctor`: what is wrong with plugins, each in a line that says what to do."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from typing import Any

import pytest

from fusionkit import registry as registry_module
from fusionkit.components import PLUGIN_API
from fusionkit.doctor import examine
from fusionkit.registry import build_registry

RECORDS = f"""
from fusionkit import Component, hookimpl

PLUGIN_API = {PLUGIN_API}

@hookimpl
def fusionkit_components():
"""
PARTS = """
from fusionkit import Fusion

class Join(Fusion):
    def __init__(self, inputs, *, dim: int = 3):
        super().__init__(inputs)

    def forward(self, features): ...

class Untyped(Join):
    def __init__(self, inputs, *, dim=3): ...

class Misfit(Join):
    def __init__(self, inputs, *, dim: int = "wide"): ...

class Half(Fusion): ...
"""


def record(target: str, name: str = "join", more: str = "") -> str:
    return f'    yield Component("fusion", "{name}", "{target}"{more})\n'


def found(*names: str, disabled: tuple[str, ...] = ()) -> list[str]:
    points = [point for point in entry_points(group="fusionkit") if point.name in names]
    return [f"{finding.status}: {finding}" for finding in examine(build_registry(points, disabled))]


BUG = "; upgrade acme, or tell its makers"
WRONG = {
    "import error": (
        "import nothing_of_this_name",
        "broken: plugin acme of acme 1.2 does not load: ModuleNotFoundError: No module named 'nothing_of_this_name'"
        + BUG,
    ),
    "misspelt hook": (
        RECORDS.replace("components", "componets") + record("acme.parts:Join"),
        "broken: plugin acme of acme 1.2 does not load: TypeError: fusionkit_componets is no hook of fusionkit; "
        "did you mean 'fusionkit_components'?" + BUG,
    ),
    "another version of the API": (
        RECORDS.replace(f"PLUGIN_API = {PLUGIN_API}", f"PLUGIN_API = {PLUGIN_API - 1}") + record("acme.parts:Join"),
        f"serves version {PLUGIN_API}; upgrade acme",
    ),
    "no target": (
        RECORDS + record("acme.nothing:Join"),
        "broken: fusion 'join' of acme cannot be imported: ModuleNotFoundError: No module named 'acme.nothing'" + BUG,
    ),
    "no such class": (
        RECORDS + record("acme.parts:Joyn"),
        "broken: fusion 'join' of acme is broken: acme.parts has no 'Joyn'" + BUG,
    ),
    "of another kind": (
        RECORDS + record("acme.parts:Join").replace('"fusion"', '"loss"'),
        "broken: loss 'join' of acme is broken: acme.parts:Join is no subclass of fusionkit.Loss" + BUG,
    ),
    "abstract": (
        RECORDS + record("acme.parts:Half"),
        "broken: fusion 'join' of acme is broken: acme.parts:Half does not implement forward" + BUG,
    ),
    "no type": (
        RECORDS + record("acme.parts:Untyped"),
        "broken: fusion 'join' of acme is broken: option 'dim' of Untyped.__init__ has no type" + BUG,
    ),
    "a default that does not fit": (
        RECORDS + record("acme.parts:Misfit"),
        "broken: fusion 'join' of acme is broken: the default of option 'dim' of Misfit.__init__ does not fit its "
        "type: Input should be a valid integer" + BUG,
    ),
    "an extra that is not installed": (
        RECORDS + record("acme.parts:Join", more=', extra="acme[text]"'),
        "needs extra: fusion 'join' of acme needs nothing-of-this-name>=2; pip install 'acme[text]'",
    ),
    "an extra that its import needs": (
        RECORDS + record("acme.lazy:Join", more=', extra="acme[text]"'),
        "needs extra: fusion 'join' of acme needs more than is installed (ModuleNotFoundError: No module named "
        "'nothing_of_this_name'); pip install 'acme[text]'",
    ),
}


@pytest.mark.parametrize(("plugin", "told"), WRONG.values(), ids=WRONG)
def test_each_fault_is_a_line_with_what_to_do(packages: Any, plugin: str, told: str) -> None:
    packages.add("acme", plugin=plugin, parts=PARTS, lazy="import nothing_of_this_name")
    with (packages.folder / "acme-1.2.dist-info" / "METADATA").open("a") as file:
        file.write("Requires-Dist: nothing-of-this-name>=2; extra == 'text'\n")
    (line,) = found("acme")
    assert line.endswith(told)
    assert "\n" not in line


def test_right_plugins_have_no_findings(packages: Any) -> None:
    packages.add("acme", plugin=RECORDS + record("acme.parts:Join"), parts=PARTS)
    assert found("acme") == []


def test_a_clash_is_told_once_and_what_is_disabled_is_told(packages: Any) -> None:
    for package in ("acme", "zeta"):
        packages.add(package, plugin=RECORDS + record(f"{package}.parts:Join"), parts=PARTS)
    assert found("acme", "zeta") == [
        "clash: fusion 'join' is offered by acme (acme) and zeta (zeta); "
        "uninstall one of them, or leave one out: FUSIONKIT_DISABLE_PLUGINS=acme"
    ]
    assert found("acme", "zeta", disabled=("zeta",)) == [
        "disabled: plugin zeta of zeta 1.2 is named in FUSIONKIT_DISABLE_PLUGINS; take it out there to use it"
    ]


def test_a_package_that_lacks_what_it_needs_says_what_to_install(packages: Any) -> None:
    packages.add("acme", plugin="import nothing_of_this_name")
    with (packages.folder / "acme-1.2.dist-info" / "METADATA").open("a") as file:
        file.write("Requires-Dist: fusionkit-geo>=99\nRequires-Dist: nothing-of-this-name>=2\n")
    broken, core, module = found("acme")
    assert broken.endswith("; install what acme needs: pip install 'fusionkit-geo>=99' 'nothing-of-this-name>=2'")
    assert core.startswith("needs package: acme 1.2 needs fusionkit-geo>=99, and ")
    assert core.endswith("is installed; upgrade acme, or pip install 'fusionkit-geo>=99'")
    assert module == (
        "needs package: acme 1.2 needs nothing-of-this-name>=2, which is not installed; "
        "pip install 'nothing-of-this-name>=2'"
    )


@pytest.fixture
def only(packages: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An installation whose one plugin is acme with this record; our own components are examined elsewhere."""

    def install(target: str, disabled: tuple[str, ...] = ()) -> None:
        packages.add("acme", plugin=RECORDS + record(target), parts="print('imported')" + PARTS)
        points = [point for point in entry_points(group="fusionkit") if point.name == "acme"]
        monkeypatch.setattr(registry_module, "load_registry", lambda: build_registry(points, disabled))

    return install


def test_all_is_well(fusionkit, only):
    only("acme.parts:Join")
    answer = fusionkit("plugins", "doctor")
    assert (answer.code, answer.out) == (0, "All is well. Plugins: 1; components that can be used: 1.\n")
    assert "imported" in answer.err
    only_json = fusionkit("plugins", "doctor", "--json")
    assert json.loads(only_json.out) == {"well": True, "findings": []}


def test_what_is_broken_is_a_failure(fusionkit, only):
    only("acme.parts:Untyped")
    answer = fusionkit("plugins", "doctor")
    _, line, _, last = answer.out.splitlines()
    assert line.startswith("broken  fusion 'join' of acme is broken: option 'dim' of Untyped.__init__ has no type; ")
    assert (answer.code, last) == (1, "1 to be mended.")
    answer = fusionkit("plugins", "doctor", "--json")
    assert answer.code == 1
    assert json.loads(answer.out) == {
        "well": False,
        "findings": [
            {
                "status": "broken",
                "what": "fusion 'join' of acme",
                "reason": "is broken: option 'dim' of Untyped.__init__ has no type",
                "remedy": "upgrade acme, or tell its makers",
            }
        ],
    }


def test_what_is_disabled_is_no_failure(fusionkit, only):
    only("acme.parts:Join", disabled=("acme",))
    answer = fusionkit("plugins", "doctor")
    assert (answer.code, answer.out.splitlines()[-1]) == (0, "Nothing is broken.")
