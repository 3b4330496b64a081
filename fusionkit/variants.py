"""The models of a run: the recipe's own and the baselines beside it, proven before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

from fusionkit.assembly import blueprint
from fusionkit.check import Cost, cost
from fusionkit.contract import Fusion
from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import InputSpec, Task
from fusionkit.model import Alone, Blueprint
from fusionkit.recipe import Recipe
from fusionkit.registry import load_registry
from fusionkit.result import EARLY_STACK

MAIN = "fusion"


@dataclass(frozen=True)
class Variant:
    """One model of a run.

    Args:
        name: `fusion` for the recipe's own; a modality's name, or `early_stack`, for a baseline.
        modalities: which ones it reads.
        fusion: the baseline's fusion; None: the recipe's own.
        cost: what it holds and takes.
    """

    name: str
    modalities: tuple[str, ...]
    fusion: type[Fusion] | None
    cost: Cost

    @property
    def is_main(self) -> bool:
        return self.name == MAIN

    def blueprint(self, recipe: Recipe, inputs: dict[str, InputSpec], task: Task) -> Blueprint:
        return blueprint(recipe, inputs, task, modalities=self.modalities, fusion=self.fusion)


def variants(recipe: Recipe, inputs: dict[str, InputSpec], task: Task) -> tuple[list[Variant], list[str]]:
    """The recipe's own model first, then its baselines; and notes on baselines that cannot be.

    A modality alone goes through the recipe's own fusion where that takes a single modality, so that its head is no
    weaker than the fused model's; elsewhere straight to the linear head.

    Raises:
        ShapeError: the recipe's own model does not fit together.
    """
    names = tuple(recipe.modalities)

    def proven(name: str, modalities: tuple[str, ...], fusion: type[Fusion] | None) -> Variant:
        plan = blueprint(recipe, inputs, task, modalities=modalities, fusion=fusion)
        return Variant(name, modalities, fusion, cost(plan))

    made = [proven(MAIN, names, None)]
    notes: list[str] = []
    if not recipe.baselines or len(names) < 2:
        return made, notes
    for name in names:
        try:
            made.append(proven(name, (name,), None))
        except ShapeError:
            made.append(proven(name, (name,), Alone))
    registry = load_registry()
    if recipe.fusion.name != EARLY_STACK and EARLY_STACK in registry.names("fusion"):
        try:
            made.append(proven(EARLY_STACK, names, registry.resolve("fusion", EARLY_STACK)))
        except RequestError as error:
            notes.append(f"no early stack beside the fusion: {error}")
    return made, notes
