"""From a recipe to shapes, classes and a blueprint; errors come back with the recipe's line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fusionkit_fakes import Cat, Toy, index_of, recipe, registry

from fusionkit.assembly import (
    blamed_on,
    blueprint,
    class_names,
    declared_inputs,
    make_task,
    prove_training,
    recipe_inputs,
)
from fusionkit.errors import DataError, RecipeError, ShapeError
from fusionkit.flow import InputSpec
from fusionkit.model import Alone
from fusionkit.recipe import Recipe, load_recipe

TEXT = """\
name: toy
data:
  source: toy
  gone: nowhere
  class_names: [x, y]
modalities:
  image: conv
  vector:
    encoder: linear
    shape: [6]
fusion:
  name: cat
loss: picky
augment: [jitter]
train: {optimizer: adamv}
"""


@pytest.fixture
def written(tmp_path: Path) -> Recipe:
    path = tmp_path / "toy.yaml"
    path.write_text(TEXT)
    return load_recipe(path, registry=registry())


def loaded(**changes: Any) -> Recipe:
    return load_recipe(recipe(**changes), registry=registry())


@pytest.mark.parametrize(
    ("error", "line", "key"),
    [
        (DataError("gone", option=("gone",)), 4, "data.gone"),
        (DataError("gone"), 3, "data.source"),
        (DataError("gone", option=("split", "test")), 2, "data.split.test"),
        (ShapeError("no", modality="image"), 7, "modalities.image.encoder"),
        (ShapeError("no", modality="vector"), 9, "modalities.vector.encoder"),
        (ShapeError("no"), 11, "fusion"),
    ],
)
def test_errors_are_blamed_on_the_line(written: Recipe, error: Exception, line: int, key: str) -> None:
    with pytest.raises(RecipeError) as told, blamed_on(written):
        raise error
    (problem,) = told.value.problems
    assert (problem.position.line, problem.key) == (line, key)
    assert str(error) in problem.message


def test_shapes_are_those_of_the_data(written: Recipe) -> None:
    recipe = loaded(modalities={"vector": "linear", "steps": {"encoder": "linear", "shape": [4, 3]}})
    assert recipe_inputs(recipe, Toy()) == {"vector": InputSpec((5,)), "steps": InputSpec((4, 3), ragged=True)}
    with pytest.raises(RecipeError, match=r"toy.yaml:10:5: modalities.vector.shape: the recipe says 6, the data are 5"):
        recipe_inputs(written, Toy())


def test_a_modality_that_the_dataset_has_not_is_named() -> None:
    with pytest.raises(RecipeError, match=r"modalities.imagee: the dataset toy has no such modality.*mean 'image'"):
        recipe_inputs(loaded(modalities={"imagee": "conv"}), Toy())


def test_declared_shapes_count_only_where_all_are_declared() -> None:
    both = {"image": {"encoder": "conv", "shape": [2, 6, 6]}, "vector": {"encoder": "linear", "shape": [5]}}
    assert declared_inputs(loaded(modalities=both)) == {"image": InputSpec((2, 6, 6)), "vector": InputSpec((5,))}
    assert declared_inputs(loaded(modalities=both | {"vector": "linear"})) is None


def test_class_names_are_counted_against_the_data(written: Recipe) -> None:
    assert class_names(written, ("a", "b")) == ("x", "y")
    assert class_names(loaded(), ("a", "b", "c")) == ("a", "b", "c")
    with pytest.raises(RecipeError, match=r"toy.yaml:5:3: data.class_names: 2 names for 3 classes in the data \(a,"):
        class_names(written, ("a", "b", "c"))
    with pytest.raises(RecipeError, match=r"2 names for 40 classes in the data \(0, 1, .*, 11, \.\.\.\)"):
        class_names(written, [str(number) for number in range(40)])
    twice = loaded(data={"source": "toy", "class_names": ["a", "b", "a"]})
    with pytest.raises(RecipeError, match="given more than once: a"):
        class_names(twice, ("a", "b", "c"))
    with pytest.raises(DataError, match=r"the data have 1 \(only\)"):
        class_names(loaded(), ("only",))


def test_the_task_counts_the_classes_of_train() -> None:
    index = index_of([0, 1, 1, 2, 2, 2, -1])
    task = make_task(loaded(), "abc", index, np.array([1, 2, 3]))
    assert (task.class_names, task.class_counts) == (("a", "b", "c"), (0, 2, 1))
    assert make_task(loaded(), "abc").class_counts == (1, 1, 1)


def test_the_blueprint_says_what_the_recipe_says() -> None:
    chosen = loaded(
        modalities={
            "image": {"encoder": {"name": "conv", "dim": 9}, "normalize": "none"},
            "vector": {"encoder": "linear"},
            "steps": {"encoder": "linear", "normalize": "standard"},
        },
        fusion={"name": "cat", "dim": 11},
        loss={"entropy": 1, "branches": 0.5},
        seed=4,
    )
    inputs = recipe_inputs(chosen, Toy()) | {"vector": InputSpec((5,), counts=True)}
    plan = blueprint(chosen, inputs, make_task(loaded(), "abc"))
    assert plan.normalized == {"steps"}
    assert plan.branches
    assert plan.seed == 4
    model, _, specs = plan.prove()
    assert specs["image"].dim == 9
    assert model.head.in_features == 11
    assert model.branches.keys() == {"image", "vector", "steps"}
    baseline = blueprint(chosen, inputs, make_task(loaded(), "abc"), modalities=["vector"], fusion=Alone)
    model, _, _ = baseline.prove()
    assert list(model.encoders) == ["vector"]
    assert type(model.fusion) is Alone
    own = blueprint(chosen, inputs, make_task(loaded(), "abc"), modalities=["vector"])
    assert own.fusion is Cat
    assert own.prove()[0].head.in_features == 11


def test_auto_standardises_all_but_counts() -> None:
    inputs = {"image": InputSpec((2, 6, 6)), "vector": InputSpec((5,), counts=True)}
    assert blueprint(loaded(), inputs, make_task(loaded(), "abc")).normalized == {"image"}


def test_what_training_needs_is_proven_with_its_line(written: Recipe) -> None:
    inputs = {"image": InputSpec((2, 6, 6)), "vector": InputSpec((5,))}
    task = make_task(loaded(), "abc")
    model = blueprint(loaded(), inputs, task).prove()[0]
    with pytest.raises(RecipeError, match=r"toy.yaml:15:9: train.optimizer: no optimiser is named 'adamv'.*mean 'adam"):
        prove_training(written, inputs, task, model)
    for loss, path in [("picky", "loss"), ({"entropy": 1, "picky": 2}, "loss.picky")]:
        with pytest.raises(RecipeError, match=f"{path}: this loss needs four classes"):
            blueprint(loaded(loss=loss), inputs, task)
    with pytest.raises(RecipeError, match=r"train\.optimizer: bnbadam cannot be used here"):
        prove_training(loaded(train={"optimizer": "bnbadam"}), inputs, task, model)
    prove_training(loaded(augment=["jitter"]), inputs, task, model)
