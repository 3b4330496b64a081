"""Proves a recipe's shapes on the meta device and counts what the model costs, modality by modality."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fusionkit.assembly import (
    blamed_on,
    blueprint,
    class_names,
    declared_inputs,
    hold_task,
    make_task,
    prove_training,
    recipe_inputs,
)
from fusionkit.contract import Dataset
from fusionkit.errors import DataError
from fusionkit.flow import FeatureSpec, Input, InputSpec
from fusionkit.model import Blueprint, FusionModel, meta_batch
from fusionkit.recipe import Recipe
from fusionkit.repeat import differences
from fusionkit.teacher import load_teachers
from fusionkit.terms import fit_losses


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


def check(recipe: Recipe, dataset: Dataset | None = None) -> CheckReport:
    """Build the recipe's model on the meta device and run a batch through it, without reading a sample.

    Args:
        recipe: what is to be proven.
        dataset: the recipe's own, where it is at hand; default: built anew.

    Raises:
        RecipeError: something does not fit; the recipe's line is named.
    """
    notes: list[str] = []
    with blamed_on(recipe):
        dataset = dataset or recipe.dataset.build()
        inputs, names = _inputs_and_classes(recipe, dataset, notes)
        task = make_task(recipe, names)
        plan = blueprint(recipe, inputs, task)
        model, _, specs = plan.prove()
        prove_training(recipe, inputs, task, model)
        teachers = load_teachers(recipe, inputs if notes else dataset.inputs(), task)
        fit_losses(recipe, plan, {name: teacher.output() for name, teacher in teachers.items()})
    for path, teacher in teachers.items():
        notes += differences(teacher.saved.run.path, f"the teacher {path}")
    return CheckReport(_rows(recipe, plan, model, specs), notes)


def cost(plan: Blueprint) -> Cost:
    """Parameters and multiply-adds of the whole model, found on the meta device."""
    model, _, _ = plan.prove()
    return Cost(_parameters(model), _multiply_adds(model.eval(), meta_batch(plan.inputs, 1)))


def _inputs_and_classes(
    recipe: Recipe, dataset: Dataset, notes: list[str]
) -> tuple[dict[str, InputSpec], tuple[str, ...]]:
    """Shapes from headers and class names from labels; where the data are not at hand, as the recipe declares them."""
    try:
        hold_task(recipe, dataset.task)
        inputs = recipe_inputs(recipe, dataset)
        found = dataset.class_names() or dataset.index().class_names
    except DataError as error:
        missing = error.path is not None and not Path(str(error.path)).exists()
        declared, found = declared_inputs(recipe), dataset.class_names() or tuple(recipe.data.class_names or ())
        if not missing or declared is None or not found:
            raise
        inputs = declared
        notes.append(f"the data are not at hand ({error}); shapes and classes are taken as the recipe declares them")
    return inputs, class_names(recipe, found)


def _rows(recipe: Recipe, plan: Blueprint, model: FusionModel, specs: dict[str, FeatureSpec]) -> list[CheckRow]:
    model, batch = model.eval(), meta_batch(plan.inputs, 1)
    inputs = model.fusion.arrange(model.prepare(batch))
    scaling = {name: _multiply_adds(model.normalizers[name], batch.inputs[name]) for name in specs}
    counted: set[int] = set()
    if model.encoders.keys() == specs.keys():
        rows = [
            _encoder_row(
                recipe,
                {name: spec},
                inputs,
                _parameters(model.encoders[name], counted),
                scaling[name] + _multiply_adds(model.encoders[name], inputs[name].value, inputs[name].valid),
            )
            for name, spec in specs.items()
        ]
    else:  # the fusion has made one encoder of several
        adds = sum(scaling.values()) + _multiply_adds(model.fusion.encode, model.encoders, inputs)
        rows = [_encoder_row(recipe, specs, inputs, _parameters(model.encoders, counted), adds)]
    stand_ins = _parameters(model.stand_ins, counted)
    branches = cast("dict[str, nn.Linear]", dict(model.branches.items()))
    stage_heads = cast("dict[str, nn.Linear]", dict(model.stage_heads.items()))
    heads = {f"branch {name}": branch for name, branch in branches.items()}
    heads |= {f"stage {name}": head for name, head in stage_heads.items()}
    if model.head is not None:
        heads = {"head": model.head} | heads
    fusion_parameters = _parameters(model.fusion, counted)
    linear = [_head_row(part, head, _parameters(head, counted), recipe.task) for part, head in heads.items()]
    total = _multiply_adds(model, batch)
    rest = total - sum(row.multiply_adds for row in [*rows, *linear])
    width = str(model(batch).fused.shape[1])
    rows.append(CheckRow("fusion", recipe.fusion.name, "", width, None, fusion_parameters, rest))
    if stand_ins:
        rows.append(CheckRow("stand-ins", ", ".join(model.stand_ins), "", "", None, stand_ins, 0))
    return [*rows, *linear, CheckRow("total", "", "", "", None, _parameters(model), total)]


def _encoder_row(
    recipe: Recipe, specs: dict[str, FeatureSpec], inputs: dict[str, Input], parameters: int, adds: int
) -> CheckRow:
    """A row for one encoder, or for several that the fusion has joined."""

    def listed(cells: Iterable[str]) -> str:
        return " + ".join(dict.fromkeys(cells))

    return CheckRow(
        part=" + ".join(specs),
        component=listed(recipe.modalities[name].encoder.name for name in specs),
        input=listed(" x ".join(map(str, inputs[name].value.shape[1:])) for name in specs),
        features=listed(" x ".join(map(str, (spec.dim, *(spec.grid or ())))) for spec in specs.values()),
        tokens=next(iter(specs.values())).tokens,
        parameters=parameters,
        multiply_adds=adds,
    )


def _head_row(part: str, head: nn.Linear, parameters: int, task: str) -> CheckRow:
    width, outputs = head.in_features, head.out_features
    called = {"classification": "classes", "multilabel": "labels", "grounding": "numbers of a box"}.get(
        task, "quantities"
    )
    return CheckRow(part, "linear", str(width), f"{outputs} {called}", None, parameters, width * outputs)


def _parameters(module: nn.Module, counted: set[int] | None = None) -> int:
    """Parameters of a module that are not in `counted`, which remembers them: shared weights count once."""
    counted = set() if counted is None else counted
    new = {id(parameter): parameter.numel() for parameter in module.parameters() if id(parameter) not in counted}
    counted.update(new)
    return sum(new.values())


def _multiply_adds(model: Callable[..., Any], *inputs: Any) -> int:
    with FlopCounterMode(display=False) as counter:  # with gradients: its hooks stumble over a bare parameter without
        model(*inputs)
    return counter.get_total_flops() // 2
