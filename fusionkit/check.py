"""Proves a recipe's shapes on the meta device and counts what the model costs, modality by modality."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fusionkit.assembly import blamed_on, blueprint, class_names, classification_task, recipe_inputs
from fusionkit.contract import Dataset
from fusionkit.errors import DataError, FusionkitError
from fusionkit.flow import FeatureSpec
from fusionkit.model import Blueprint, FusionModel, meta_batch
from fusionkit.recipe import Recipe


@dataclass(frozen=True)
class CheckRow:
    """One part of the model. `multiply_adds` are for one sample, forward."""

    part: str
    component: str
    input: str
    features: str
    tokens: int | None
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Cost:
    """What a model holds and what one forward of one sample takes."""

    parameters: int
    multiply_adds: int


@dataclass
class CheckReport:
    """What `fusionkit check` prints: a row for each encoder, then fusion, head and total."""

    rows: list[CheckRow]
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        head = ("part", "component", "input", "features", "tokens", "parameters", "multiply-adds")
        body = [
            (r.part, r.component, r.input, r.features, f"{r.tokens or ''}", f"{r.parameters:,}", f"{r.multiply_adds:,}")
            for r in self.rows
        ]
        widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]

        def line(row: tuple[str, ...]) -> str:
            cells = [c.ljust(w) if i < 4 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
            return "  ".join(cells).rstrip()

        return "\n".join([*map(line, [head, *body]), *(f"note: {note}" for note in self.notes)])


def check(recipe: Recipe) -> CheckReport:
    """Build the recipe's model on the meta device and run a batch through it, without reading a sample.

    Raises:
        RecipeError: something does not fit; the recipe's line is named.
    """
    notes: list[str] = []
    with blamed_on(recipe):
        dataset: Dataset = recipe.dataset.build()
        inputs = recipe_inputs(recipe, dataset, trust_declared=True)
        names = _names(recipe, dataset, notes)
        task = classification_task(names)
        plan = blueprint(recipe, inputs, task)
        model, _, specs = plan.prove()
        for term in recipe.losses:
            try:
                term.loss.build(task)
            except (FusionkitError, ValueError) as error:
                raise recipe.error(term.loss.path, str(error)) from error
        for augmentation in recipe.augment:
            try:
                augmentation.build(inputs)
            except (FusionkitError, ValueError) as error:
                raise recipe.error(augmentation.path, str(error)) from error
    return CheckReport(_rows(recipe, plan, model, specs), notes)


def cost(plan: Blueprint) -> Cost:
    """Parameters and multiply-adds of the whole model, found on the meta device."""
    model, _, _ = plan.prove()
    return Cost(_parameters(model), _multiply_adds(model.eval(), meta_batch(plan.inputs, 1)))


def _names(recipe: Recipe, dataset: Dataset, notes: list[str]) -> tuple[str, ...]:
    """Class names from the dataset's headers, the recipe, or the labels; whichever comes first."""
    try:
        found = dataset.class_names()
        if found is None and recipe.data.class_names is None:
            found = dataset.index().class_names
    except DataError as error:
        if recipe.data.class_names is None:
            raise
        found = None
        notes.append(f"the data are not at hand ({error}); shapes and classes are taken as the recipe declares them")
    return class_names(recipe, found if found is not None else recipe.data.class_names or ())


def _rows(recipe: Recipe, plan: Blueprint, model: FusionModel, specs: dict[str, FeatureSpec]) -> list[CheckRow]:
    model, batch = model.eval(), meta_batch(plan.inputs, 1)
    inputs = model.fusion.arrange(model.prepare(batch))
    counted: set[int] = set()
    rows = []
    for name, spec in specs.items():
        encoder, value = model.encoders[name], inputs[name].value
        features = " x ".join(map(str, (spec.dim, *(spec.grid or ()))))
        adds = _multiply_adds(encoder, value, inputs[name].valid)
        shape = " x ".join(map(str, value.shape[1:]))
        component = recipe.modalities[name].encoder.name
        rows.append(CheckRow(name, component, shape, features, spec.tokens, _parameters(encoder, counted), adds))
    width, classes = model.head.in_features, model.head.out_features
    heads = {"head": model.head, **{f"branch {name}": branch for name, branch in model.branches.items()}}
    linear = {name: head.in_features * head.out_features for name, head in heads.items()}
    total = _multiply_adds(model, batch)
    rest = total - sum(row.multiply_adds for row in rows) - sum(linear.values())
    rows.append(CheckRow("fusion", recipe.fusion.name, "", str(width), None, _parameters(model.fusion, counted), rest))
    for name, head in heads.items():
        to = f"{classes} classes"
        rows.append(CheckRow(name, "linear", str(head.in_features), to, None, _parameters(head, counted), linear[name]))
    rows.append(CheckRow("total", "", "", "", None, _parameters(model), total))
    return rows


def _parameters(module: nn.Module, counted: set[int] | None = None) -> int:
    """Parameters of a module that are not in `counted`, which remembers them: shared weights count once."""
    counted = set() if counted is None else counted
    new = {id(parameter): parameter.numel() for parameter in module.parameters() if id(parameter) not in counted}
    counted |= new.keys()
    return sum(new.values())


def _multiply_adds(model: nn.Module, *inputs: Any) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs)
    return counter.get_total_flops() // 2
