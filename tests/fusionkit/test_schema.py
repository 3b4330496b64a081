"""The JSON Schema of recipes accepts and refuses what loading accepts and refuses."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from fusionkit_fakes import fusions_with_defaults
from jsonschema import Draft7Validator
from jsonschema.exceptions import ValidationError

from fusionkit.errors import RecipeError
from fusionkit.recipe import load_recipe
from fusionkit.registry import Registry, build_registry
from fusionkit.schema import json_schema
from fusionkit.yamlfile import load_yaml

GOOD: dict[str, Any] = {
    "data": {"source": "tiles", "root": "x", "batch_size": 4},
    "modalities": {"image": {"encoder": {"name": "net", "width": 3}}, "hsi": "plain"},
    "fusion": {"name": "join", "dim": 4},
    "loss": "ce",
}


def checked(registry: Registry | None = None) -> Draft7Validator:
    schema = json_schema(registry)
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def changed(dotted: str, value: Any) -> dict[str, Any]:
    """`GOOD` with one value set; `None` where the key is to go."""
    recipe = copy.deepcopy(GOOD)
    *above, last = dotted.split(".")
    here = recipe
    for key in above:
        here = here.setdefault(key, {})
    if value is None:
        del here[last]
    else:
        here[last] = value
    return recipe


CHANGES: list[tuple[str, Any]] = [
    ("name", "a-b"),
    ("name", "a/b"),
    ("sed", 1),
    ("seed", -1),
    ("baselines", "yes"),
    ("fusion", None),
    ("fusion", "join"),
    ("fusion", "joyn"),
    ("fusion", "add"),  # has a required option
    ("fusion", {"name": "add"}),
    ("fusion", {"name": "add", "dim": 3}),
    ("fusion", {"name": "add", "dim": 3, "dropout": 0.1}),
    ("fusion", {"dim": 3}),
    ("fusion", {"name": "join", "dmi": 3}),
    ("fusion", {"name": "join", "dim": "3"}),
    ("fusion", {"name": "join", "dim": 0}),
    ("fusion", {"name": "join", "dropout": 1.5}),
    ("fusion", ["join"]),
    ("data", "tiles"),
    ("data.source", None),
    ("data.source", "tile"),
    ("data.source", "scenes"),  # leaves an option of tiles
    ("data.root", None),
    ("data.bath_size", 3),
    ("data.batch_size", 0),
    ("data.batch_size", True),
    ("data.split", "official"),
    ("data.split", "offical"),
    ("data.split", {"column": "fold", "test": [0, "a"]}),
    ("data.split", {"colum": "fold"}),
    ("data.files", {"image": "a", "hsi": ["b", "c"]}),
    ("data.files", {"image": 3}),
    ("data.labels", {"train": "x", "test": {"file": "y", "column": 2}}),
    ("data.labels", {"train": "x", "test": {"file": "y", "colum": 2}}),
    ("data.labels", {"file": "y"}),
    ("data.labels", {"train": "y"}),
    ("data.size", [1, 2]),
    ("data.size", [1, 2, 3]),
    ("data.size", [1]),
    ("data.size", [1, "a"]),
    ("modalities", {}),
    ("modalities", ["image"]),
    ("modalities.image", "net"),
    ("modalities.image", "nat"),
    ("modalities.image", {"shape": [3]}),
    ("modalities.image", {"encoder": "plain", "shape": [3], "normalize": "none"}),
    ("modalities.image", {"encoder": "plain", "shape": [0]}),
    ("modalities.image", {"encoder": "plain", "nomalize": "none"}),
    ("modalities.image", {"encoder": {"name": "plain", "width": 3}}),
    ("modalities.image", {"encoder": {"name": "net", "variant": "3d"}}),
    ("modalities.image", {"encoder": {"name": "net", "variant": "1d", "scales": [1, 2.5]}}),
    ("modalities.2d", "plain"),
    ("loss", "focl"),
    ("loss", {"name": "focal", "gamma": 1, "weight": 2}),
    ("loss", {"name": "focal", "gama": 1}),
    ("loss", {"name": "focal", "weight": -1}),
    ("loss", {"ce": 1, "focal": {"gamma": 2, "weight": 0}}),
    ("loss", {"ce": 1, "focl": 1}),
    ("loss", {"ce": -1}),
    ("loss", {"ce": "1"}),
    ("loss", {"ce": {"gamma": 1}}),
    ("loss", {}),
    ("loss", ["ce", {"name": "focal", "weight": 2}]),
    ("loss", ["ce", {"gamma": 2}]),
    ("loss", ["ce", "focl"]),
    ("loss", []),
    ("augment", ["flip", {"name": "flip", "probability": 1}]),
    ("augment", ["flop"]),
    ("augment", [{"name": "flip", "p": 1}]),
    ("augment", "flip"),
    ("metrics", ["gain"]),
    ("metrics", [{"name": "gain", "power": 2}]),
    ("metrics", ["gian"]),
    ("metrics", [{"name": "gain", "power": 0}]),
    ("metrics", "gain"),
    ("train", {"lr": 3e-5, "devices": [0, 1], "lr_scale": {"encoder.image": 0}}),
    ("train", {"lr": "3e-5"}),
    ("train", {"lr": 0}),
    ("train", {"select": "ao"}),
    ("train", {"precision": 16}),
    ("train", {"precision": "bf16"}),
    ("train", {"precision": 8}),
    ("train", {"batch_size": 16}),
]


def test_the_schema_agrees_with_loading(acme: Registry) -> None:
    validator = checked(acme)
    disagreements, refused = {}, 0
    for dotted, value in CHANGES:
        recipe = changed(dotted, value)
        try:
            load_recipe(recipe, registry=acme)
        except RecipeError as error:
            told = str(error)
        else:
            told = ""
        refused += bool(told)
        if validator.is_valid(recipe) == bool(told):
            disagreements[dotted, str(value)] = told
    assert disagreements == {}
    assert 15 < refused < len(CHANGES) - 15


def test_errors_are_where_the_mistake_is(acme: Registry) -> None:
    validator = checked(acme)
    recipe = changed("fusion.dmi", 3) | {"train": {"epohcs": 3}}
    recipe["data"]["rot"] = "x"
    found = {(".".join(map(str, e.absolute_path)), e.message) for e in leaves(validator.iter_errors(recipe))}
    assert found >= {
        ("data", "Additional properties are not allowed ('rot' was unexpected)"),
        ("fusion", "Additional properties are not allowed ('dmi' was unexpected)"),
        ("train", "Additional properties are not allowed ('epohcs' was unexpected)"),
    }


def leaves(errors: Iterable[ValidationError]) -> Iterator[ValidationError]:
    for error in errors:
        yield from leaves(error.context) if error.context else [error]


def test_a_recipe_with_a_base_may_be_any_part_of_one(acme: Registry) -> None:
    validator = checked(acme)
    for part in [
        {},
        {"fusion": {"dim": 3}},
        {"fusion": {"name": "add"}},
        {"data": {"root": "y", "batch_size": 2}},
        {"data": {"source": "tiles"}},
        {"modalities": {"hsi": None, "image": {"encoder": {"width": 3}}}},
        {"modalities": {"image": {"shape": [3]}}},
        {"loss": {"focal": None}},
        {"loss": {"label_smoothing": 0.1}},
    ]:
        assert [error.message for error in validator.iter_errors({"base": "x.yaml", **part})] == []
    for part in [{"fusion": {"name": "join", "dmi": 3}}, {"trian": {}}, {"data": {"source": "tiles", "rot": "y"}}]:
        assert not validator.is_valid({"base": "x.yaml", **part})


def test_the_epoch_is_chosen_by_a_figure_or_a_metric(acme: Registry) -> None:
    validator = checked(acme)
    for select, right in (("loss", True), ("kappa", True), ("gain", True), ("gian", False), (3, False)):
        assert validator.is_valid(GOOD | {"metrics": ["gain"], "train": {"select": select}}) is right


def test_options_come_with_descriptions_and_defaults(acme: Registry) -> None:
    (choice,) = [
        choice["then"]["properties"]
        for choice in json_schema(acme)["else"]["properties"]["fusion"]["anyOf"][1]["allOf"]
        if choice["if"]["properties"]["name"]["const"] == "join"
    ]
    assert choice["dim"] == {
        "type": "integer",
        "exclusiveMinimum": 0,
        "default": 256,
        "description": "width of the result.",
    }


def test_components_that_cannot_be_used_are_listed_by_name_alone(packages: Any) -> None:
    record = "from fusionkit import Component, hookimpl\n@hookimpl\ndef fusionkit_components():\n"
    yields = "".join(
        f"    yield Component({kind!r}, {name!r}, 'bad.parts:{name.title()}')\n"
        for kind, name in [("fusion", "gone"), ("fusion", "open"), ("fusion", "twice"), ("loss", "gone")]
    )
    parts = """
from fusionkit import Fusion
class Open(Fusion):
    def __init__(self, inputs, **options): ...
    forward = None
"""
    packages.add("bad", plugin=record + yields, parts=parts)
    packages.add("worse", plugin=record + "    yield Component('fusion', 'twice', 'bad.parts:Open')\n")
    registry = build_registry(point for point in entry_points(group="fusionkit") if point.name in ("bad", "worse"))
    validator = checked(registry)
    whole = validator.schema["else"]["properties"]
    assert {known["const"]: known["description"] for known in whole["fusion"]["anyOf"][0]["anyOf"]} == {
        "gone": "fusion 'gone' of bad is broken: bad.parts has no 'Gone'",
        "open": "fusion 'open' of bad is broken: Open.__init__ takes **options; options are named one by one",
        "twice": "fusion 'twice' is offered by bad (bad) and worse (worse); uninstall one, or name its plugin in "
        "FUSIONKIT_DISABLE_PLUGINS",
    }
    assert whole["fusion"]["anyOf"][1]["allOf"] == [True]
    recipe = {"data": {}, "modalities": {}, "fusion": {"name": "gone", "any": 1}, "loss": {"gone": {"any": 1}}}
    assert {tuple(error.absolute_path) for error in validator.iter_errors(recipe)} == {("data",), ("modalities",)}


def shipped() -> list[Path]:
    return sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    return checked()


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid(validator: Draft7Validator, path: Path) -> None:
    recipe = load_yaml(path.read_text(encoding="utf-8"), str(path)).data
    assert [error.message for error in validator.iter_errors(recipe)] == []
    assert not validator.is_valid(recipe | {"fusoin": "concat"})
    resolved = load_recipe(path).resolved()
    assert [error.message for error in validator.iter_errors(resolved)] == []


def test_all_installed_components_are_in_it(validator: Draft7Validator) -> None:
    registry = build_registry(point for point in entry_points(group="fusionkit") if point.dist.name == "fusionkit-geo")
    properties = validator.schema["else"]["properties"]
    listed = {known["const"] for known in properties["fusion"]["anyOf"][0]["anyOf"]}
    assert listed >= set(fusions_with_defaults())
    chosen = {choice["if"]["properties"]["source"]["const"] for choice in properties["data"]["allOf"]}
    assert chosen >= set(registry.names("dataset"))
