"""Plugins of strangers, installed for real: broken, clashing, misspelt, disabled, unfinished."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import Any

import pytest

from fusionkit import registry as registry_module
from fusionkit.components import PLUGIN_API, Component
from fusionkit.contract import Fusion
from fusionkit.errors import RequestError
from fusionkit.registry import Plugin, Registry, build_registry, load_registry

RECORDS = """
from fusionkit import Component, hookimpl

@hookimpl
def fusionkit_components():
"""
JOIN = RECORDS + '    yield Component("fusion", "join", "{package}.parts:Join", "joins", {extra!r})\n'
PARTS = """
from fusionkit import Encoder, Fusion

class Join(Fusion):
    def forward(self, features): ...
"""


def built(*names: str, disabled: tuple[str, ...] = ()) -> Registry:
    points = entry_points(group="fusionkit")
    return build_registry([point for point in points if point.name in names], disabled)


def only(registry: Registry) -> Plugin:
    (plugin,) = registry.plugins
    return plugin


def refused(registry: Registry, name: str = "join", kind: str = "fusion") -> str:
    with pytest.raises(RequestError) as error:
        registry.resolve(kind, name)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_plugin_lists_its_components_and_imports_them_at_use(packages: Any) -> None:
    packages.add("acme", plugin=JOIN.format(package="acme", extra=None), parts=PARTS)
    registry = built("acme")
    assert (only(registry).owner, only(registry).version, only(registry).status) == ("acme", "1.2", "ok")
    assert registry.names("fusion") == ["join"]
    assert registry.names("loss") == []
    (entry,) = registry.find("join")
    assert registry.find("fusion:join") == [entry]
    assert registry.find("loss:join") == []
    assert entry.component == Component("fusion", "join", "acme.parts:Join", "joins")
    assert "acme.parts" not in sys.modules
    assert issubclass(registry.resolve("fusion", "join"), Fusion)
    assert "acme.parts" in sys.modules


def test_a_name_that_is_not_there_gets_the_nearest(packages: Any) -> None:
    packages.add("acme", plugin=JOIN.format(package="acme", extra=None), parts=PARTS)
    registry = built("acme")
    assert refused(registry, "joyn") == "no fusion is named 'joyn'; did you mean 'join'?"
    assert refused(registry, "xyz") == "no fusion is named 'xyz'; choose from join"
    assert refused(registry, "join", "loss") == "no loss is named 'join'"


def test_two_packages_of_one_name_are_refused_and_both_named(packages: Any) -> None:
    for package in ("zeta", "acme"):
        packages.add(package, plugin=JOIN.format(package=package, extra=None), parts=PARTS)
    registry = built("acme", "zeta")
    assert [plugin.status for plugin in registry.plugins] == ["ok", "ok"]
    assert [entry.clash for entry in registry.components] == [True, True]
    assert refused(registry) == (
        "fusion 'join' is offered by acme (acme) and zeta (zeta); "
        "uninstall one, or name its plugin in FUSIONKIT_DISABLE_PLUGINS"
    )
    assert built("acme", "zeta", disabled=("zeta",)).resolve("fusion", "join").__module__ == "acme.parts"


@pytest.mark.parametrize("name", ["the_plugin", "the-plugin", "acme", "Acme", "acme:the_plugin"])
def test_a_disabled_plugin_is_never_imported(packages: Any, name: str) -> None:
    packages.add("acme", plugin="raise RuntimeError('imported')")
    info = packages.folder / "acme-1.2.dist-info" / "entry_points.txt"
    info.write_text("[fusionkit]\nthe_plugin = acme.plugin\n")
    plugin = only(built("the_plugin", disabled=(name,)))
    assert (plugin.status, plugin.reason) == ("disabled", "named in FUSIONKIT_DISABLE_PLUGINS")
    assert not [module for module in sys.modules if module.startswith("acme")]


@pytest.mark.parametrize("written", ["acme", " other, acme ", "acme,"])
def test_plugins_are_disabled_through_the_environment(
    packages: Any, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    packages.add("acme", plugin=JOIN.format(package="acme", extra=None))
    monkeypatch.setenv("FUSIONKIT_DISABLE_PLUGINS", written)
    status = {plugin.name: plugin.status for plugin in load_registry().plugins}
    assert status.pop("acme") == "disabled"
    assert set(status.values()) == {"ok"}
    assert "not loaded: acme of acme (disabled)" in refused(load_registry())


def test_the_registry_is_loaded_once(packages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_registry() is load_registry()
    monkeypatch.setattr(registry_module, "build_registry", lambda *_: pytest.fail("loaded again"))
    load_registry()


BROKEN = {
    "missing module": ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
    "syntax": ("def :", "SyntaxError: invalid syntax (plugin.py, line 1)"),
    "exit": ("raise SystemExit('bye')", "SystemExit: bye"),
    "long": ("raise ValueError('a\\nb' * 1000)", "ValueError: a ba ba b"),
    "misspelt": (
        RECORDS.replace("components", "component") + "    yield",
        "TypeError: fusionkit_component is no hook of fusionkit; did you mean 'fusionkit_components'?",
    ),
    "misspelt and not marked": (
        "def fusionkit_component(): return []",
        "TypeError: fusionkit_component is no hook of fusionkit; did you mean 'fusionkit_components'?",
    ),
    "marked but no hook": (
        "from fusionkit import hookimpl\n@hookimpl\ndef components(): return []",
        "TypeError: components is no hook of fusionkit; did you mean 'fusionkit_components'?",
    ),
    "not marked": (
        "def fusionkit_components(): return []",
        "TypeError: fusionkit_components is not marked with @fusionkit.hookimpl",
    ),
    "no hook": ("x = 1", "TypeError: there is no hook in it; hooks are fusionkit_components, "),
    "foreign arguments": (
        "from fusionkit import hookimpl\n@hookimpl\ndef fusionkit_callbacks(recipee): ...",
        "PluginValidationError: Plugin 'acme:acme' for hook 'fusionkit_callbacks' hookimpl definition: "
        "fusionkit_callbacks(recipee) Argument(s) {'recipee'} are declared in the hookimpl but can not be found",
    ),
    "no records": (
        RECORDS + "    yield ('fusion', 'x')",
        "TypeError: fusionkit_components must yield Component records, not ('fusion', 'x')",
    ),
    "nothing": (RECORDS + "    pass", "TypeError: fusionkit_components must yield Component records, not None"),
    "twice": (
        RECORDS + "    yield Component('fusion', 'x', 'a:b')\n    yield Component('fusion', 'x', 'a:c')",
        "TypeError: fusionkit_components yields fusion 'x' twice",
    ),
    "kind": (
        RECORDS + "    yield Component('fuson', 'x', 'a:b')",
        "ValueError: component 'x' has the kind 'fuson'; kinds are encoder, fusion, ",
    ),
    "target": (
        RECORDS + "    yield Component('fusion', 'x', 'a.b')",
        "ValueError: component 'x' has the target 'a.b'; write 'package.module:Class'",
    ),
    "name": (
        RECORDS + "    yield Component('fusion', 'a:b', 'a:b')",
        "ValueError: a component is named 'a:b'; use a letter, then letters, digits, `_` and `-`",
    ),
    "late": (RECORDS + "    yield Component('fusion', 'x', 'a:b')\n    1 / 0", "ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize(("plugin", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_listed_and_harms_no_other(packages: Any, plugin: str, reason: str) -> None:
    packages.add("acme", plugin=plugin)
    packages.add("good", plugin=JOIN.format(package="good", extra=None), parts=PARTS)
    registry = built("acme", "good")
    broken, good = registry.plugins
    assert (broken.name, broken.owner, broken.status, good.status) == ("acme", "acme", "broken", "ok")
    assert broken.reason.startswith(reason)
    assert len(broken.reason) <= 300
    assert "Traceback" in broken.traceback
    assert [entry.plugin for entry in registry.components] == [good]
    assert registry.manager.list_name_plugin() == [("good:good", sys.modules["good.plugin"])]
    assert registry.resolve("fusion", "join").__module__ == "good.parts"
    assert "not loaded: acme of acme (broken); see `fusionkit plugins`" in refused(registry, "x")


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ("PLUGIN_API = 1", ""),
        ("", ""),
        (
            "PLUGIN_API = 0",
            "was made for version 0 of the plugin API, and fusionkit-geo {own} serves version 1",
        ),
        (
            "PLUGIN_API = 2",
            "was made for version 2 of the plugin API, and fusionkit-geo {own} serves version 1",
        ),
        (
            "PLUGIN_API = '1'",
            "TypeError: PLUGIN_API is '1'; write the version of the plugin API that the plugin was made for, "
            "as PLUGIN_API = 1",
        ),
        (
            "PLUGIN_API = True",
            "TypeError: PLUGIN_API is True; write the version of the plugin API that the plugin was made for, "
            "as PLUGIN_API = 1",
        ),
    ],
)
def test_a_plugin_of_another_version_of_the_api_is_refused(packages: Any, stated: str, reason: str) -> None:
    packages.add("acme", plugin=JOIN.format(package="acme", extra=None) + f"\n{stated}\n")
    plugin = only(built("acme"))
    assert (plugin.status, plugin.reason) == ("broken" if reason else "ok", reason.format(own=version("fusionkit-geo")))


@pytest.mark.parametrize(("stated", "told"), [(0, "upgrade the plugin"), (2, "upgrade fusionkit-geo")])
def test_the_version_of_the_api_is_read_before_anything_else(packages: Any, stated: int, told: str) -> None:
    """Another version may have other hooks, and records with other fields."""
    hook = f"PLUGIN_API = {stated}\nfrom fusionkit import hookimpl\n@hookimpl\ndef fusionkit_of_another_time(): 1 / 0"
    packages.add("acme", plugin=hook)
    registry = build_registry([EntryPoint("acme", "acme.plugin", "fusionkit")])
    assert only(registry).remedy == told
    assert registry.manager.list_name_plugin() == []


@pytest.mark.parametrize("line", ["from fusionkit import OfAnotherTime", "import fusionkit.of_another_time"])
def test_what_fusionkit_does_not_have_tells_that_versions_do_not_fit(packages: Any, line: str) -> None:
    remedy = f"it does not fit fusionkit-geo {version('fusionkit-geo')}: upgrade one of the two"
    packages.add("acme", plugin=line)
    packages.add("good", plugin=JOIN.format(package="good", extra=None), parts=line)
    registry = built("acme", "good")
    assert registry.plugins[0].remedy == remedy
    assert refused(registry).endswith(remedy)


def test_our_own_plugins_state_the_version_that_is_served() -> None:
    for point in entry_points(group="fusionkit"):
        if point.dist is not None and point.dist.name == "fusionkit-geo":
            assert point.load().PLUGIN_API == PLUGIN_API


def test_an_interrupt_is_no_broken_plugin(packages: Any) -> None:
    packages.add("acme", plugin="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        built("acme")


def test_an_installation_without_metadata_is_told_apart(packages: Any) -> None:
    packages.add("acme", plugin=JOIN.format(package="acme", extra=None), parts=PARTS)
    (packages.folder / "acme-1.2.dist-info" / "METADATA").unlink()
    assert only(built("acme")).status == "ok"


def test_an_entry_point_of_no_distribution() -> None:
    plugin = only(build_registry([EntryPoint("x", "nothing_of_this_name", "fusionkit")]))
    assert (plugin.owner, plugin.version, plugin.status) == ("?", "?", "broken")


@pytest.mark.parametrize(
    ("parts", "extra", "told"),
    [
        (None, None, "fusion 'join' of acme cannot be imported: ModuleNotFoundError: No module named 'acme.parts'"),
        (
            None,
            "acme[x]",
            "fusion 'join' of acme cannot be imported: ModuleNotFoundError: No module named 'acme.parts'",
        ),
        ("", None, "fusion 'join' of acme is broken: acme.parts has no 'Join'"),
        (
            "import numpy; numpy.nothing",
            None,
            "fusion 'join' of acme cannot be imported: AttributeError: module 'numpy' has no attribute 'nothing'",
        ),
        ("raise SystemExit(3)", None, "fusion 'join' of acme cannot be imported: SystemExit: 3"),
        (
            "import acm",
            "acme[text]",
            "fusion 'join' of acme needs more than is installed (ModuleNotFoundError: No module named 'acm'); "
            "pip install 'acme[text]'",
        ),
        (
            "from numpy import nothing",
            "acme[text]",
            "fusion 'join' of acme needs more than is installed (ImportError: cannot import name 'nothing' ",
        ),
        ("import acm", None, "fusion 'join' of acme cannot be imported: ModuleNotFoundError: No module named 'acm'"),
        ("Join = 3", None, "fusion 'join' of acme is broken: acme.parts:Join is no subclass of fusionkit.Fusion"),
        (
            "from fusionkit import Encoder as Join",
            None,
            "fusion 'join' of acme is broken: acme.parts:Join is no subclass of fusionkit.Fusion",
        ),
        (
            "from fusionkit import Fusion\nclass Join(Fusion): ...",
            None,
            "fusion 'join' of acme is broken: acme.parts:Join does not implement forward",
        ),
    ],
)
def test_what_is_said_of_a_target_that_is_of_no_use(
    packages: Any, parts: str | None, extra: str | None, told: str
) -> None:
    modules = {} if parts is None else {"parts": parts}
    packages.add("acme", plugin=JOIN.format(package="acme", extra=extra), **modules)
    registry = built("acme")
    assert only(registry).status == "ok"
    assert refused(registry).startswith(told)


def test_the_other_hooks_are_called(packages: Any) -> None:
    plugin = "from fusionkit import hookimpl\n@hookimpl\ndef fusionkit_callbacks(recipe): return [recipe]"
    packages.add("acme", plugin=plugin)
    registry = built("acme")
    assert only(registry).status == "ok"
    assert registry.manager.hook.fusionkit_callbacks(recipe="r") == [["r"]]


def python(code: str, path: Path | None = None) -> str:
    environment = os.environ | {"PYTHONPATH": str(path or ""), "FUSIONKIT_DISABLE_PLUGINS": ""}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=path
    )
    return ran.stdout.strip()


def test_importing_fusionkit_imports_no_torch_and_no_plugin() -> None:
    code = """
import sys, fusionkit
fusionkit.Component, fusionkit.hookimpl, fusionkit.RecipeError
print([name for name in sys.modules if name.partition(".")[0] in ("torch", "timm", "lightning", "numpy")
       or name.endswith(".plugin")])
"""
    assert python(code) == "[]"


def test_listing_all_plugins_imports_no_torch_and_no_component(packages: Any) -> None:
    packages.add("acme", plugin=JOIN.format(package="acme", extra=None), parts=PARTS)
    code = """
import sys
from fusionkit.registry import load_registry
registry = load_registry()
print([plugin.name for plugin in registry.plugins if plugin.status != "ok"])
targets = {entry.component.target.partition(":")[0] for entry in registry.components}
print(sorted(targets & sys.modules.keys()))
print([name for name in ("torch", "timm", "lightning", "numpy") if name in sys.modules])
print(len(registry.names("fusion")) > 1, registry.get("fusion", "join").plugin.owner)
"""
    assert python(code, packages.folder).splitlines() == ["[]", "[]", "[]", "True acme"]
