"""Six broken packages in one fresh environment: every command works, and each of them is explained in a line."""

from __future__ import annotations

import json

import pytest
from fresh import ROOT, Answer, Environment
from toy_recipe import write_toy

BROKEN = sorted(path.parent for path in (ROOT / "tests" / "plugin_packages" / "broken").glob("*/pyproject.toml"))
TOLD = {
    "import_error": "ModuleNotFoundError: No module named 'a_package_that_nobody_has'",
    "clash": "offered by broken-clash (broken_clash) and fusionkit-geo (fusions)",
    "misspelt_hook": "fusionkit_componets is no hook of fusionkit; did you mean 'fusionkit_components'?",
    "api_version": "was made for version 99 of the plugin API",
    "missing_target": "broken_missing_target has no 'Renamed'",
    "no_types": "option 'scale' of NoTypes.__init__ has no type",
}
"""What is wrong with each, as far as its author would want to know."""
COMMANDS = {
    "help": "--help",
    "recipes": "recipes",
    "schema": "schema",
    "plugins": "plugins",
    "json": "plugins --json",
    "doctor": "plugins doctor",
    "show": "plugins show mean",
    "describe": "data describe toy.yaml fusion=mean",
    "check": "check toy.yaml fusion=mean",
    "run": "run toy.yaml fusion=mean",
    "with clash": "check toy.yaml",
    "with missing_target": "check toy.yaml fusion=missing_target",
    "with no_types": "check toy.yaml fusion=no_types",
    "with never_seen": "check toy.yaml fusion=never_seen",
}
"""The recipe `toy.yaml` has the fusion `concat`, which clashes."""
USES = {name for name in COMMANDS if name.startswith("with ")}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def answers(built, tmp_path_factory) -> dict[str, Answer]:
    """What the commands say where all six are installed."""
    environment = Environment.create(tmp_path_factory.mktemp("broken"), built.wheel)
    environment.install(*BROKEN)
    folder = tmp_path_factory.mktemp("toy")
    write_toy(folder)
    found = environment.commands((folder, words.split()) for words in COMMANDS.values())
    return dict(zip(COMMANDS, found, strict=True))


def test_there_is_one_of_each():
    assert {path.name.replace("-", "_") for path in BROKEN} == TOLD.keys()


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in USES | {"doctor"}])
def test_every_command_works_beside_them(answers, name):
    code, out, err = answers[name]
    assert code == 0, err
    assert out
    assert "Traceback" not in out + err


def test_what_does_not_load_is_listed_with_its_reason(answers):
    plugins = {plugin["name"]: plugin for plugin in json.loads(answers["json"].out)["plugins"]}
    for name in ("import_error", "misspelt_hook", "api_version"):
        plugin = plugins[f"broken_{name}"]
        assert (plugin["owner"], plugin["status"]) == (f"broken-{name.replace('_', '-')}", "broken")
        assert TOLD[name] in plugin["reason"]
        [line] = [line for line in answers["plugins"].out.splitlines() if f"broken_{name} " in line]
        assert TOLD[name] in line
    assert [line.split()[:3] for line in answers["plugins"].out.splitlines() if " clash " in line] == [
        ["fusion", "concat", "broken-clash"],
        ["fusion", "concat", "fusionkit-geo"],
    ]


@pytest.mark.parametrize("name", TOLD)
def test_the_doctor_explains_each_in_a_line(answers, name):
    assert answers["doctor"].code == 1
    [line] = [line for line in answers["doctor"].out.splitlines() if TOLD[name] in line]
    assert f"broken-{name.replace('_', '-')}" in line


@pytest.mark.parametrize("name", ["clash", "missing_target", "no_types"])
def test_a_recipe_that_uses_one_is_refused_in_a_line(answers, name):
    code, out, err = answers[f"with {name}"]
    assert (code, out) == (2, "")
    [line] = err.splitlines()
    assert TOLD[name] in line


def test_what_is_not_there_may_be_in_what_does_not_load(answers):
    code, _, err = answers["with never_seen"]
    assert code == 2
    [line] = err.splitlines()
    assert "no fusion is named 'never_seen'" in line
    assert "broken_import_error of broken-import-error (broken)" in line
