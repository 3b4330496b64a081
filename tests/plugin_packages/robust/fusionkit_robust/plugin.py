"""What fusionkit is told of this package."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fusionkit import Component, hookimpl

if TYPE_CHECKING:
    from fusionkit import Callback, Recipe, Run

PLUGIN_API = 1


@hookimpl
def fusionkit_components() -> Iterable[Component]:
    yield Component(
        "loss",
        "symmetric_cross_entropy",
        "fusionkit_robust.symmetric_cross_entropy:SymmetricCrossEntropy",
        "cross-entropy both ways round, for labels of which some are wrong",
    )


@hookimpl
def fusionkit_callbacks(recipe: Recipe) -> Iterable[Callback]:
    """Writes gradient_norms/MODEL.csv: the length of the gradient in every step."""
    from fusionkit_robust.gradient_norms import GradientNorms

    return [GradientNorms()]


@hookimpl
def fusionkit_report_sections(run: Run) -> Iterable[tuple[str, str]]:
    """Gradient norms: how long the gradients of each model were."""
    from fusionkit_robust.section import section

    return section(run.path)
