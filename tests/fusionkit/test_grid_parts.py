"""Parts that are left out of a recipe."""

from __future__ import annotations

from typing import Any

import pytest

from fusionkit.errors import Position
from fusionkit.grid_parts import find, parts, without
from fusionkit.yamlfile import KeyPath, load_yaml

RECIPE = """\
modalities: {image: mlp, focal: mlp}
loss: [ce, {name: focal, gamma: 1}]
augment: [flip, {name: crop, size: 3}]
train: {lr: 1, stages: [{epochs: 1}, {epochs: 2}]}
"""
HERE = Position("g.yaml", 3, 1)


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ("image", ("modalities", "image")),
        ("modalities.image", ("modalities", "image")),
        ("focal", None),  # a modality and a loss
        ("loss.focal", ("loss", 1)),
        ("modalities.focal", ("modalities", "focal")),
        ("crop", ("augment", 1)),
        ("train.lr", ("train", "lr")),
        ("train.stages.1.epochs", ("train", "stages", 1, "epochs")),
        ("train.stages.2", None),
        ("train.lr.x", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_where_a_part_stands(part: str, path: KeyPath | None) -> None:
    assert find(load_yaml(RECIPE, "r.yaml").data, part) == path


@pytest.mark.parametrize("loss", ["ce", {"name": "ce", "gamma": 1}, None])
def test_the_only_loss_is_no_part(loss: Any) -> None:
    assert parts({"loss": loss}) == {}


def test_the_rest_stays_and_what_was_there_is_unchanged() -> None:
    recipe = load_yaml(RECIPE, "r.yaml")
    before = load_yaml(RECIPE, "r.yaml")
    assert without(recipe, "flip", HERE).data["augment"] == [{"name": "crop", "size": 3}]
    assert without(recipe, "train.stages.0.epochs", HERE).data["train"] == {"lr": 1, "stages": [{}, {"epochs": 2}]}
    assert without(recipe, "lidar", HERE) is recipe
    assert (recipe.data, recipe.positions) == (before.data, before.positions)


def test_what_is_wrong_without_the_part_is_blamed_on_its_removal() -> None:
    recipe = without(load_yaml(RECIPE, "r.yaml"), "train", HERE)
    assert recipe.position(("train",)) == HERE
    assert recipe.position(("train", "lr")) == HERE
    # The items of a list move up, so that the list is all that can be named.
    recipe = without(load_yaml(RECIPE, "r.yaml"), "flip", HERE)
    assert recipe.position(("augment", 0, "size")) == Position("r.yaml", 3, 1)
