"""fusionkit: plugin-based multimodal fusion for remote sensing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fusionkit.components import PLUGIN_API, Component, hookimpl

if TYPE_CHECKING:
    from fusionkit.checkpointing import run_stage
    from fusionkit.contract import (
        Augmentation,
        Dataset,
        Encoder,
        Fusion,
        Index,
        Loss,
        Metric,
        Mixing,
        Sample,
        TextEncoder,
        Tokenizer,
    )
    from fusionkit.errors import BadSample, DataError, FusionkitError, RecipeError, RequestError, ShapeError
    from fusionkit.experiment import run
    from fusionkit.flow import Batch, Features, FeatureSpec, Fused, Input, InputSpec, Output, Task
    from fusionkit.grid_run import grid
    from fusionkit.options import DataPath, Probability
    from fusionkit.recipe import Recipe, load_recipe
    from fusionkit.result import Result
    from fusionkit.runs import Run
    from fusionkit.scene import MapGrid, SceneWindows, Shapes
    from fusionkit.stages import exchange_specs
    from fusionkit.trainer import Callback, Fit

# Imported at first use: a plugin's record file says `from fusionkit import Component` and must not load torch.
_HOMES = {
    "checkpointing": ("run_stage",),
    "contract": (
        "Augmentation",
        "Dataset",
        "Encoder",
        "Fusion",
        "Index",
        "Loss",
        "Metric",
        "Mixing",
        "Sample",
        "TextEncoder",
        "Tokenizer",
    ),
    "errors": ("BadSample", "DataError", "FusionkitError", "RecipeError", "RequestError", "ShapeError"),
    "experiment": ("run",),
    "flow": ("Batch", "FeatureSpec", "Features", "Fused", "Input", "InputSpec", "Output", "Task"),
    "grid_run": ("grid",),
    "options": ("DataPath", "Probability"),
    "recipe": ("Recipe", "load_recipe"),
    "result": ("Result",),
    "runs": ("Run",),
    "scene": ("MapGrid", "SceneWindows", "Shapes"),
    "stages": ("exchange_specs",),
    "trainer": ("Callback", "Fit"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "PLUGIN_API",
    "Augmentation",
    "BadSample",
    "Batch",
    "Callback",
    "Component",
    "DataError",
    "DataPath",
    "Dataset",
    "Encoder",
    "FeatureSpec",
    "Features",
    "Fit",
    "Fused",
    "Fusion",
    "FusionkitError",
    "Index",
    "Input",
    "InputSpec",
    "Loss",
    "MapGrid",
    "Metric",
    "Mixing",
    "Output",
    "Probability",
    "Recipe",
    "RecipeError",
    "RequestError",
    "Result",
    "Run",
    "Sample",
    "SceneWindows",
    "ShapeError",
    "Shapes",
    "Task",
    "TextEncoder",
    "Tokenizer",
    "exchange_specs",
    "grid",
    "hookimpl",
    "load_recipe",
    "run",
    "run_stage",
]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(import_module(f"fusionkit.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'fusionkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
