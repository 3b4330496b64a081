"""From a recipe to what it describes: the dataset's shapes and classes, and the blueprint of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np

from fusionkit.chosen import Chosen
from fusionkit.contract import Augmentation, Dataset, Fusion, Index, Mixing
from fusionkit.errors import DataError, RequestError, ShapeError, suggestion
from fusionkit.estimates import group_numbers
from fusionkit.extra_metrics import try_metrics
from fusionkit.flow import InputSpec, Task, TaskKind
from fusionkit.kinds import KINDS
from fusionkit.model import Blueprint, FusionModel
from fusionkit.optimization import prove_optimizer
from fusionkit.recipe import Recipe
from fusionkit.terms import make_loss
from fusionkit.text import read_as, tokens_of


@contextmanager
def blamed_on(recipe: Recipe) -> Iterator[None]:
    """Turn errors about data and shapes into errors that name the recipe's line."""
    try:
        yield
    except DataError as error:
        raise recipe.error(("data", *(error.option or ("source",))), str(error)) from error
    except ShapeError as error:
        if error.modality in recipe.modalities:
            raise recipe.error(("modalities", error.modality, "encoder"), str(error)) from error
        raise recipe.error(("fusion",), str(error)) from error


def declared_inputs(recipe: Recipe) -> dict[str, InputSpec] | None:
    """The shapes that the recipe itself declares, as for text its encoder does; None unless all modalities have one."""
    shapes = {}
    for name, modality in recipe.modalities.items():
        spec = InputSpec(modality.shape) if modality.shape else tokens_of(recipe, name)
        if spec is None:
            return None
        shapes[name] = spec
    return shapes


def recipe_inputs(recipe: Recipe, dataset: Dataset) -> dict[str, InputSpec]:
    """The shape of each modality of the recipe, as the dataset's headers say.

    Raises:
        DataError: the data are not there.
        RecipeError: the dataset has no such modality, or another shape than the recipe declares.
    """
    offered = dataset.inputs()
    inputs = {}
    for name, shape in ((name, modality.shape) for name, modality in recipe.modalities.items()):
        if name not in offered:
            raise recipe.error(
                ("modalities", name),
                f"the dataset {recipe.dataset.name} has no such modality{suggestion(name, offered)}",
            )
        if shape and shape != offered[name].shape:
            message = f"the recipe says {' x '.join(map(str, shape))}, the data are {offered[name]}"
            raise recipe.error(("modalities", name, "shape"), message)
        inputs[name] = read_as(recipe, name, offered[name])
    return inputs


def class_names(recipe: Recipe, found: Sequence[str]) -> tuple[str, ...]:
    """The recipe's names of classes, labels or quantities, held against those found in the data.

    Raises:
        DataError: the data have a single class.
        RecipeError: the names are not as many as the classes, or not all different.
    """
    if not found and recipe.task != "retrieval":
        raise DataError("the dataset has no labels; they are left out for predictions alone")
    if len(found) < 2 and recipe.task == "classification":
        raise DataError(f"a classifier needs two classes or more; the data have {len(found)} ({', '.join(found)})")
    given = recipe.data.class_names
    if given is None:
        return tuple(found)
    if repeated := sorted({name for name in given if given.count(name) > 1}):
        raise recipe.error(("data", "class_names"), f"given more than once: {', '.join(repeated)}")
    if len(given) != len(found):
        listed = ", ".join(map(str, found[:12])) + (", ..." if len(found) > 12 else "")
        raise recipe.error(
            ("data", "class_names"), f"{len(given)} names for {len(found)} classes in the data ({listed})"
        )
    return tuple(given)


def hold_task(recipe: Recipe, offered: TaskKind) -> None:
    """Refuse a dataset whose targets are for another kind of task than the recipe's."""
    if (recipe.task, offered) in (("retrieval", "classification"), ("grounding", "regression")):
        return
    if offered != recipe.task:
        what = {
            "classification": "one class a sample",
            "multilabel": "several labels",
            "regression": "quantities",
            "grounding": "boxes",
            "retrieval": "samples without classes",
        }
        message = f"{recipe.dataset.name} gives {what[offered]} as it is asked here; write `task: {offered}`"
        raise recipe.error(("task",), f"{message}, or ask it for {what[recipe.task]}")


def for_retrieval(index: Index) -> Index:
    """The same samples for a retrieval: those of a group show one thing, by default each its own."""
    if index.targets.ndim != 1:
        return index
    things = np.arange(len(index)) if index.groups is None else group_numbers(index.groups, len(index))
    return replace(index, targets=np.stack([things, index.targets], axis=1), retrieval=True)


def for_grounding(index: Index) -> Index:
    """The same samples for a grounding: four quantities are a box.

    Raises:
        DataError: they are no boxes.
    """
    return replace(index, grounding=True) if index.task == "regression" else index


def make_task(
    recipe: Recipe, names: Sequence[str], index: Index | None = None, train: np.ndarray | None = None
) -> Task:
    """The task, with what is known of the targets of the training samples; made up where there are no data yet.

    Raises:
        DataError: there is nothing to learn in them.
    """
    if index is None or train is None:
        ones = (1,) * len(names)
        if recipe.task == "regression":
            return Task("regression", tuple(names), samples=2, mean=(0.0,) * len(names), std=(1.0,) * len(names))
        if recipe.task == "grounding":
            return Task("grounding", tuple(names), samples=2)
        return Task(KINDS[recipe.task].name, tuple(names), ones, len(names))
    return KINDS[recipe.task].task(names, index.targets[train])


def blueprint(
    recipe: Recipe,
    inputs: Mapping[str, InputSpec],
    task: Task,
    *,
    modalities: Sequence[str] | None = None,
    fusion: type[Fusion] | None = None,
) -> Blueprint:
    """What the recipe's model is made of.

    Args:
        recipe, inputs, task: what it describes.
        modalities: only these, for a baseline.
        fusion: this one with its default options, for a baseline.
    """
    names = list(modalities or recipe.modalities)
    losses = [make_loss(recipe, term, task) for term in recipe.losses]
    return Blueprint(
        inputs={name: inputs[name] for name in names},
        encoders={name: recipe.modalities[name].encoder.build for name in names},
        fusion=fusion or recipe.fusion.target,
        make_fusion=fusion or recipe.fusion.build,
        task=task,
        normalized=frozenset(name for name in names if standardised(recipe, name, inputs[name])),
        whitened=scaled(recipe, "whiten") & frozenset(names),
        ranked=ranked(recipe, inputs) & frozenset(names),
        stood_in=frozenset(name for name in names if recipe.modalities[name].absent == "token"),
        branches=any(loss.needs_branches for loss in losses),
        stages=any(loss.needs_stages for loss in losses),
        seed=recipe.seed,
    )


def prove_training(recipe: Recipe, inputs: Mapping[str, InputSpec], task: Task, model: FusionModel) -> None:
    """Make what training needs besides the model and its losses: augmentations, metrics, the optimiser.

    Args:
        recipe, inputs, task: what it describes.
        model: the recipe's own, as it was proven.

    Raises:
        RecipeError: one of them cannot be made, or does not fit the model; its line is named.
    """
    joined = not model.encoders.keys() <= inputs.keys()
    scales: list[tuple[tuple[str | int, ...], dict[str, float]]] = [(("train", "lr_scale"), recipe.train.lr_scale)]
    scales += [(("train", "stages", i, "lr_scale"), stage.lr_scale) for i, stage in enumerate(recipe.train.stages)]
    for place, factors in scales:
        for part in factors:
            if joined and part.startswith("encoder."):
                message = f"{recipe.fusion.name} makes one encoder of all; give `encoder` a factor"
                raise recipe.error((*place, part), message)
    if recipe.train.balance is not None and (len(model.encoders) < 2 or joined):
        message = "gradients are balanced between the encoders of two modalities or more; "
        one = f"{recipe.fusion.name} makes one encoder of all" if len(recipe.modalities) > 1 else "here is one alone"
        raise recipe.error(("train", "balance"), message + one)
    made: list[tuple[Sequence[str | int], Callable[[], object]]] = [
        (("train", "optimizer"), lambda: prove_optimizer(recipe.train)),
        *(
            (augmentation.path, partial(make_augmentation, augmentation, inputs, task))
            for augmentation in recipe.augment
        ),
    ]
    for path, make in made:
        try:
            make()
        except (RequestError, ValueError) as error:
            raise recipe.error(path, str(error)) from error
    try_metrics(recipe, task)


def standardised(recipe: Recipe, name: str, spec: InputSpec) -> bool:
    """Whether a modality is brought to zero mean and unit deviation."""
    if spec.text:
        return False
    normalize = recipe.modalities[name].normalize
    return normalize in ("standard", "whiten", "quantile") or (normalize == "auto" and not spec.counts)


def scaled(recipe: Recipe, how: str) -> frozenset[str]:
    """The modalities that are scaled in this way."""
    return frozenset(name for name, modality in recipe.modalities.items() if modality.normalize == how)


def ranked(recipe: Recipe, inputs: Mapping[str, InputSpec]) -> frozenset[str]:
    """The modalities that are scaled by rank.

    Raises:
        RecipeError: one of them is neither vector nor sequence.
    """
    names = [name for name in inputs if name in scaled(recipe, "quantile")]
    for name in names:
        if len(inputs[name].shape) > 2:
            message = f"quantile is for vectors and sequences; {name} is {inputs[name]}"
            raise recipe.error(("modalities", name, "normalize"), message)
    return frozenset(names)


def make_augmentation(chosen: Chosen, inputs: Mapping[str, InputSpec], task: Task) -> Augmentation | Mixing:
    """An augmentation of samples, or of batches, which is also told the task.

    Raises:
        RequestError: it mixes samples, and the task is to tell them apart; or it moves what has a box.
    """
    if issubclass(chosen.target, Mixing):
        if task.kind == "retrieval":
            raise RequestError(f"{chosen.name} mixes samples, and a retrieval has to tell them apart")
        if task.kind == "grounding":
            raise RequestError(f"{chosen.name} mixes samples, and the mean of two boxes is the box of nothing")
        return chosen.build(inputs, task)
    made: Augmentation = chosen.build(inputs)
    if made.moves and task.kind == "grounding":
        raise RequestError(f"{chosen.name} moves what the images show, and a grounding's boxes stay where they are")
    return made
