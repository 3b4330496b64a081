"""The written pages hold everything that a user may name, and nothing of strangers."""

from __future__ import annotations

import inspect
import re
from html import unescape
from pathlib import Path

import pytest
import typer
from fusionkit_site.commands import commands_page
from fusionkit_site.components import PAGES, component_page, switch_off_plugins_of_others
from fusionkit_site.python import python_page, suites_page
from fusionkit_site.recipe import recipe_page
from typer.testing import CliRunner

import fusionkit
from fusionkit import load_recipe, registry, testing
from fusionkit.cli import app
from fusionkit.components import KINDS, Component
from fusionkit.registry import DISABLE_VARIABLE, load_registry


def sections(page: str, level: int = 2) -> dict[str, str]:
    """The parts of a page by their headings."""
    parts = re.split(rf"^{'#' * level} (.+)\n", unescape(page), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def names(text: str) -> list[str]:
    """What stands in the first cells of its tables."""
    return re.findall(r"^\| <code>([^<]+)</code>", unescape(text), re.MULTILINE)


def test_every_kind_has_a_page():
    assert set(PAGES) == set(KINDS)


@pytest.mark.parametrize("kind", ["dataset", "loss"])
def test_components_with_their_options(kind):
    found = load_registry()
    told = sections(component_page(kind, found))
    assert list(told) == found.names(kind)
    for name, text in told.items():
        constructor = inspect.signature(found.resolve(kind, name).__init__)
        options = [key for key, held in constructor.parameters.items() if held.kind is held.KEYWORD_ONLY]
        assert names(text)[: len(options)] == options
        assert options or "It has no options." in text


def test_what_a_component_needs_is_told():
    assert (
        "It needs `pip install 'fusionkit-geo[text]'`."
        in sections(component_page("encoder", load_registry()))["huggingface"]
    )


def test_a_deprecated_component_says_what_to_use():
    plugin = registry.Plugin("losses", "fusionkit-geo", "0.1")
    old = Component("loss", "old", "fusionkit_losses.focal:Focal", "an old loss", deprecated="use `focal`; gone in 0.3")
    page = component_page("loss", registry.Registry([plugin], [registry.Entry(old, plugin)]))
    assert "deprecated: use `focal`; gone in 0.3; an old loss" in page
    assert "**Deprecated**: use `focal`; gone in 0.3\n" in sections(page)["old"]


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A stranger's distribution that is installed beside ours, and cannot be imported."""
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fusionkit]\nodd = stranger.plugin\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(DISABLE_VARIABLE, "")
    registry._load.cache_clear()
    yield "stranger"
    registry._load.cache_clear()


def test_plugins_of_others_are_switched_off(stranger):
    assert {plugin.status for plugin in load_registry().plugins if plugin.owner == stranger} == {"broken"}
    switch_off_plugins_of_others()
    plugins = load_registry().plugins
    assert {plugin.status for plugin in plugins if plugin.owner == "fusionkit-geo"} == {"ok"}
    assert {plugin.status for plugin in plugins if plugin.owner != "fusionkit-geo"} == {"disabled"}


def leaves(held: dict[str, object], place: str = "") -> set[tuple[str, str]]:
    """The keys of a resolved recipe, each with its section."""
    found = set()
    for key, value in held.items():
        found.add((place, key))
        if isinstance(value, dict):
            found |= leaves(value, f"{place}.{key}".lstrip("."))
    return found


def test_every_key_of_a_resolved_recipe_stands_in_its_section():
    recipe = {
        "data": {"source": "urfc", "root": ".", "split": {"test": 0.2}},
        "modalities": {"NAME": "patch_cnn"},
        "fusion": "concat",
        "train": {"balance": {}},
    }
    told = {heading.replace("The top level", ""): set(names(text)) for heading, text in sections(recipe_page()).items()}
    components = {"data", "modalities.NAME.encoder", "fusion"}  # which tell their own options
    for place, key in leaves(load_recipe(recipe).resolved()):
        if place not in components and place != "modalities":
            assert key in told[place], f"{place}.{key}"
    assert {"source", "batch_size"} <= told["data"]
    assert {"epochs", "lr_scale"} == told["train.stages"]
    assert {"from", "to", "start", "end"} <= told["weight"]


def test_every_key_says_what_it_is():
    rows = re.findall(r"^\| <code>.*$", recipe_page(), re.MULTILINE)
    assert len(rows) > 50
    assert [row for row in rows if row.endswith("|  |")] == []


def test_keys_that_hold_a_section_lead_there():
    top = sections(recipe_page())["The top level"]
    assert re.search(r"^\| <code>data</code> \| \[data\]\(#data\) \| <code>required</code> \| Where the", top, re.M)
    assert "mapping to [modalities.NAME](#modalitiesname)" in top
    assert re.search(r"^\| <code>augment</code> \| list of component \| <code>\[\]</code> \|", top, re.M)


def test_every_command_with_its_options():
    page = commands_page()
    told = {heading: text for level in (2, 3, 4) for heading, text in sections(page, level).items()}

    def compare(command, words):
        for name, inner in getattr(command, "commands", {}).items():
            compare(inner, (*words, name))
        if not words:
            return
        answer = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", answer.output))
        text = told[f"`fusionkit {' '.join(words)}`"]
        assert options
        assert {option for option in options if option not in text} == set()

    compare(typer.main.get_command(app), ())


def test_summaries_of_commands_are_whole():
    listed = re.findall(r"^\* `\w+`: (.+)$", commands_page().partition("**Commands**")[2].partition("##")[0], re.M)
    assert len(listed) > 5
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


def test_every_public_name_stands_once():
    told = re.findall(r"^::: fusionkit\.(\w+)$", python_page(), re.M)
    assert sorted(told) == sorted(fusionkit.__all__)
    under = {heading: re.findall(r"fusionkit\.(\w+)$", text, re.M) for heading, text in sections(python_page()).items()}
    assert "Fusion" in under["Base classes"]
    assert "Dataset" in under["Base classes"]
    assert "Batch" in under["What flows between them"]
    assert "hookimpl" in under["Plugins"]
    assert "DataPath" in under["Types of options"]
    assert under["Runs"][-1][0].isupper()
    assert under["Runs"][0] == "grid"


def test_a_public_name_from_nowhere_is_told(monkeypatch):
    monkeypatch.setattr(fusionkit, "__all__", ["Path"])
    monkeypatch.setattr(fusionkit, "Path", Path, raising=False)
    with pytest.raises(LookupError, match=r"fusionkit\.Path"):
        python_page()


def test_every_suite_with_its_rules():
    page = suites_page()
    assert re.findall(r"^::: fusionkit\.testing\.(\w+)$", page, re.M) == list(testing.__all__)
    assert {name for name in dir(testing.FusionSuite) if name.startswith("test_")} <= set(names(page))
