"""The terms of a recipe's loss, made for its task and fitted to a model."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fusionkit.contract import Loss, Mixing
from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import Output, Task
from fusionkit.model import Blueprint, FusionModel
from fusionkit.randomness import seed_torch
from fusionkit.recipe import LossTerm, Recipe
from fusionkit.weighting import Weight


def make_loss(recipe: Recipe, term: LossTerm, task: Task) -> Loss:
    """One term.

    Raises:
        RecipeError: its options do not fit the task; its line is named.
    """
    try:
        loss: Loss = term.loss.build(task)
    except (RequestError, ValueError) as error:
        raise recipe.error(term.loss.path, str(error)) from error
    return loss


def fit_losses(
    recipe: Recipe, plan: Blueprint, teachers: Mapping[str, Output] | None = None
) -> dict[str, tuple[Loss, Weight]]:
    """Every term with its weight, fitted to the model that `plan` makes.

    Args:
        recipe: names them.
        plan: of the recipe's own model.
        teachers: what each teacher's model says, on the meta device.

    Raises:
        RecipeError: a term cannot be asked of this model; its line is named.
    """
    fitted, left_out = _fit(recipe, plan, teachers or {})
    for term, error in left_out:
        raise recipe.error(term.loss.path, str(error)) from error
    mixings = [chosen for chosen in recipe.augment if issubclass(chosen.target, Mixing)]
    for name, (loss, _) in fitted.items():
        if loss.compares_samples and recipe.train.accumulate > 1:
            message = f"{name} compares the samples of a batch with each other, so a batch cannot be cut"
            raise recipe.error(("train", "accumulate"), message)
        for mixing in () if loss.takes_mixed else mixings:
            message = f"{name} cannot be asked of mixed samples; leave {mixing.name} or {name} out"
            raise recipe.error(mixing.path, message)
    return fitted


def fit_losses_of_baseline(
    recipe: Recipe, plan: Blueprint, teachers: Mapping[str, Output] | None = None
) -> dict[str, tuple[Loss, Weight]]:
    """The terms that can be asked of a baseline's model: a single modality has nothing to be compared with.

    Raises:
        RecipeError: none can, so that there is nothing to train it by.
    """
    fitted, left_out = _fit(recipe, plan, teachers or {})
    if not fitted:
        read = " + ".join(plan.inputs)
        raise recipe.error(("baselines",), f"no term of the loss can be asked of the baseline {read}: {left_out[0][1]}")
    return fitted


def left_out(recipe: Recipe, plan: Blueprint, teachers: Mapping[str, Output] | None = None) -> list[str]:
    """The terms that cannot be asked of a baseline's model, each with the reason, as `without NAME: ...`."""
    return [f"without {term.loss.name}: {error}" for term, error in _fit(recipe, plan, teachers or {})[1]]


def _fit(
    recipe: Recipe, plan: Blueprint, teachers: Mapping[str, Output]
) -> tuple[dict[str, tuple[Loss, Weight]], list[tuple[LossTerm, ShapeError]]]:
    """The terms that fit, and those that do not, with the reason."""
    model, batch, _ = plan.prove()
    with torch.device("meta"):
        output = model(batch)
    output.teachers = dict(teachers)
    fusion = recipe.fusion.name if plan.fusion is recipe.fusion.target else plan.fusion.__name__
    fitted: dict[str, tuple[Loss, Weight]] = {}
    left_out = []
    for term in recipe.losses:
        loss = make_loss(recipe, term, plan.task)
        seed_torch(plan.seed, "weights", "loss", term.loss.name)
        try:
            _hold(term.loss.name, loss, model, plan, fusion)
            loss.fit_to(output)
        except ShapeError as error:
            left_out.append((term, error))
        else:
            fitted[term.loss.name] = (loss, term.weight)
    return fitted, left_out


def _hold(name: str, loss: Loss, model: FusionModel, plan: Blueprint, fusion: str) -> None:
    """Refuse a term that reads what the model does not have."""
    if loss.needs_penalty is not None and loss.needs_penalty not in model.penalties:
        raise ShapeError(f"{name} needs a fusion with the penalty {loss.needs_penalty!r}; {fusion} has none")
    if loss.needs_branches and (lacking := [m for m in plan.inputs if m not in model.branches]):
        raise ShapeError(f"{name} needs a branch of each modality; {fusion} has none of {', '.join(lacking)}")
    if loss.needs_stages and not model.stage_heads:
        raise ShapeError(f"{name} needs the intermediate stages of the fusion; {fusion} names none")
