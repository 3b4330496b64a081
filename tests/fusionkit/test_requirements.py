"""`requires:` in a recipe: which packages it needs, and what is said where they are not there."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from fusionkit.errors import RecipeError
from fusionkit.grids import fingerprint
from fusionkit.recipe import Recipe, load_recipe
from fusionkit.registry import Registry, build_registry
from fusionkit.runs import telling
from fusionkit.schema import json_schema

BODY = """\
data: {source: scenes}
modalities: {image: plain}
fusion: join
loss: ce
"""


@pytest.fixture
def told(acme: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """What is said of a recipe; nothing where it is right."""
    monkeypatch.chdir(tmp_path)

    def told(text: str, registry: Registry = acme) -> list[str]:
        Path("r.yaml").write_text(text)
        try:
            load_recipe("r.yaml", registry=registry)
        except RecipeError as error:
            return str(error).splitlines()
        return []

    return told


@pytest.mark.parametrize("requires", ["[]", "[acme]", '["acme>=1,<2", "acme!=1.1"]', "[Acme==1.2]"])
def test_what_is_installed_is_met(told: Callable[..., list[str]], requires: str) -> None:
    assert told(f"requires: {requires}\n{BODY}") == []


@pytest.mark.parametrize(
    ("requires", "line"),
    [
        ("[film-of-nobody>=0.2]", "film-of-nobody is not installed; pip install 'film-of-nobody>=0.2'"),
        ("[acme>=2]", "acme 1.2 is installed, which is not >=2; pip install 'acme>=2'"),
        ("[acme==]", "'acme==': write a package's name and the versions that are right, as fusionkit-film>=0.2"),
        ("['acme[text]']", "'acme[text]': write a package's name and"),
        ("['acme; python_version > \"3\"']", "write a package's name and"),
        ("['acme @ https://example.org/acme.whl']", "write a package's name and"),
        ("[3]", "should be text, not 3"),
    ],
)
def test_what_is_not_met_is_told_with_its_place(told: Callable[..., list[str]], requires: str, line: str) -> None:
    (found,) = told(f"{BODY}requires: {requires}\n")
    assert found.startswith("r.yaml:5:12: requires.0: ")
    assert line in found


def test_requires_is_a_list(told: Callable[..., list[str]]) -> None:
    (found,) = told(f"{BODY}requires: acme\n")
    assert found == "r.yaml:5:1: requires: should be a list, not the text 'acme'"


def test_the_package_comes_before_what_follows_from_its_absence(told: Callable[..., list[str]]) -> None:
    text = BODY.replace("join", "film").replace("loss: ce", "loss: cee")
    assert told(f"{text}requires: [acme, film-of-nobody]\n") == [
        "r.yaml:5:18: requires.1: film-of-nobody is not installed; pip install 'film-of-nobody'",
        "r.yaml:3:1: fusion: no fusion is named 'film'; it may come with film-of-nobody, which the recipe requires",
        "r.yaml:4:1: loss: no loss is named 'cee'; it may come with film-of-nobody, which the recipe requires",
    ]
    assert "; did you mean 'ce'?" in told(f"{text}requires: [acme]\n")[1]


def test_a_package_whose_plugin_does_not_load_is_not_met(packages: Any, told: Callable[..., list[str]]) -> None:
    packages.add("film_kit", plugin="PLUGIN_API = 99")
    points = [point for point in entry_points(group="fusionkit") if point.name in ("acme", "film_kit")]
    text = f"requires: [film-kit]\n{BODY}"
    (broken,) = told(text, build_registry(points))
    assert broken.startswith(
        "r.yaml:1:12: requires.0: film-kit is installed, but its plugin film_kit is broken: "
        "was made for version 99 of the plugin API"
    )
    assert broken.endswith("; upgrade fusionkit-geo")
    (disabled,) = told(text, build_registry(points, disabled=("film_kit",)))
    assert disabled.endswith("its plugin film_kit is disabled: named in FUSIONKIT_DISABLE_PLUGINS")


def test_the_list_of_a_recipe_takes_the_place_of_its_bases(acme: Registry, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(f"requires: [film-of-nobody]\n{BODY}")
    (tmp_path / "r.yaml").write_text("base: base.yaml\nrequires: [acme>=1]\n")
    recipe = load_recipe(tmp_path / "r.yaml", registry=acme)
    assert recipe.requires == ["acme>=1"]
    with pytest.raises(RecipeError, match=r"base\.yaml:1:12"):
        load_recipe(tmp_path / "base.yaml", registry=acme)


def test_the_schema_knows_them(acme: Registry) -> None:
    validator = Draft7Validator(json_schema(acme))
    assert validator.is_valid(yaml.safe_load(BODY) | {"requires": ["acme>=1"]})
    assert not validator.is_valid(yaml.safe_load(BODY) | {"requires": "acme"})
    assert validator.is_valid({"base": "b.yaml", "requires": ["acme>=1"]})


def test_a_resolved_recipe_keeps_them_and_its_results_do_not_depend_on_them(acme: Registry) -> None:
    def load(**more: Any) -> Recipe:
        return load_recipe(yaml.safe_load(BODY) | more, registry=acme)

    with_it, without = load(requires=["acme>=1"]).resolved(), load().resolved()
    assert (with_it["requires"], without["requires"]) == (["acme>=1"], [])
    assert load_recipe(with_it, registry=acme).requires == ["acme>=1"]
    assert telling(with_it) == telling(without)
    assert fingerprint(with_it) == fingerprint(without)
