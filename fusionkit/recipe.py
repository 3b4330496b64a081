"""Loads a recipe: inheritance, overrides, validation of the core's keys and of every component's options.

All problems of a recipe are collected and told at once, each with its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from fusionkit.chosen import Chosen
from fusionkit.errors import Position, Problem, RecipeError, nearest
from fusionkit.merge import apply_override, merge
from fusionkit.registry import Registry, load_registry
from fusionkit.sections import Data, RecipeKeys, Train, default_loss
from fusionkit.validation import Check
from fusionkit.weighting import Schedule, Weight
from fusionkit.yamlfile import Located, dotted, load_yaml


@dataclass
class Modality:
    """One modality of a recipe."""

    encoder: Chosen
    normalize: str
    absent: str
    shape: tuple[int, ...] | None


@dataclass
class LossTerm:
    """One term of the objective and its weight."""

    loss: Chosen
    weight: Weight

    def resolved(self) -> dict[str, Any]:
        weight = self.weight.model_dump(by_alias=True) if isinstance(self.weight, Schedule) else self.weight
        return {**self.loss.resolved(), "weight": weight}


@dataclass
class Recipe:
    """A valid recipe. Make one with `load_recipe`."""

    name: str
    task: str
    seed: int
    data: Data
    dataset: Chosen
    modalities: dict[str, Modality]
    fusion: Chosen
    losses: list[LossTerm]
    augment: list[Chosen]
    metrics: list[Chosen]
    train: Train
    baselines: bool
    located: Located = field(repr=False)
    sources: dict[str, str] = field(default_factory=dict, repr=False)
    """File name and text of the recipe and of those it inherits from, the recipe itself first."""
    overrides: tuple[str, ...] = ()
    requires: list[str] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list, repr=False)
    """What of it is deprecated."""

    @property
    def components(self) -> list[Chosen]:
        """Everything that it names."""
        encoders = [modality.encoder for modality in self.modalities.values()]
        losses = [term.loss for term in self.losses]
        return [self.dataset, *encoders, self.fusion, *losses, *self.augment, *self.metrics]

    def error(self, path: Sequence[str | int], message: str) -> RecipeError:
        """An error that names the place of these keys in the recipe."""
        return RecipeError([Problem(self.located.position(tuple(path)), dotted(tuple(path)), message)])

    def resolved(self) -> dict[str, Any]:
        """The whole recipe as plain data with every default filled in; itself a recipe."""
        dataset = self.dataset.resolved()
        return {
            "name": self.name,
            "task": self.task,
            "seed": self.seed,
            "requires": self.requires,
            "data": {"source": dataset.pop("name"), **self.data.model_dump(exclude={"source"}), **dataset},
            "modalities": {
                name: {
                    "encoder": modality.encoder.resolved(),
                    "normalize": modality.normalize,
                    "absent": modality.absent,
                    "shape": list(modality.shape) if modality.shape else None,
                }
                for name, modality in self.modalities.items()
            },
            "fusion": self.fusion.resolved(),
            "loss": [term.resolved() for term in self.losses],
            "augment": [augmentation.resolved() for augmentation in self.augment],
            "metrics": [metric.resolved() for metric in self.metrics],
            "train": self.train.model_dump(),
            "baselines": self.baselines,
        }


def load_recipe(
    recipe: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, registry: Registry | None = None
) -> Recipe:
    """Load and validate a recipe.

    Args:
        recipe: a file, or the same as plain data, whose `base` is relative to the current folder.
        overrides: `key=value` with dotted keys and values in YAML, applied in order.
        registry: where components are looked up; default: all installed plugins.

    Raises:
        RecipeError: with every problem found.
    """
    registry = registry or load_registry()
    losses = frozenset(registry.names("loss"))
    if isinstance(recipe, Mapping):
        text = _as_json(recipe)
        located, sources = _inherit(Located(json.loads(text)), {"recipe": text}, Path(), (), losses)
        default_name = "recipe"
    else:
        path = Path(recipe)
        located, sources = read_with_bases(path, losses)
        default_name = default_name_of(path)
    wrong = []
    for override in overrides:
        try:
            located = apply_override(located, override, losses)
        except RecipeError as error:
            wrong += error.problems
    if wrong:
        raise RecipeError(wrong)
    loaded = validate(located, registry, default_name)
    loaded.sources, loaded.overrides = sources, tuple(overrides)
    return loaded


def _as_json(recipe: Mapping[str, Any]) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, PathLike):
            return str(value)
        if isinstance(value, Mapping):
            return dict(value)
        raise TypeError(f"a recipe holds text, numbers, lists and mappings, not {value!r}")

    try:
        return json.dumps(dict(recipe), default=plain)
    except (TypeError, ValueError) as error:  # a key that is no text, or something that contains itself
        raise RecipeError([Problem(Position("recipe"), "", str(error))]) from None


def default_name_of(path: Path) -> str:
    """What stands for the name where the file gives none."""
    return re.sub(r"[^\w.-]+", "-", path.stem)


def read_with_bases(
    path: Path, losses: Set[str], named_at: Position | None = None, children: tuple[Path, ...] = ()
) -> tuple[Located, dict[str, str]]:
    """A file laid over its chain of bases, and the texts of all.

    Args:
        path: the recipe.
        losses: the names of all losses, see `merge`.
        named_at: where a `base` names this file.
        children: the files that led here.

    Raises:
        RecipeError: a file cannot be read, is no mapping, or inherits from itself.
    """
    if path.resolve() in children:
        circle = " -> ".join(file.name for file in (*children[children.index(path.resolve()) :], path))
        raise _refused(path, named_at, f"inherits from itself: {circle}")
    own, text = read_mapping(path, named_at)
    return _inherit(own, {str(path): text}, path.parent, (*children, path.resolve()), losses)


def read_mapping(path: Path, named_at: Position | None = None, what: str = "a recipe") -> tuple[Located, str]:
    """The content of one file, and its text; `what` it should be.

    Raises:
        RecipeError: it cannot be read, or is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise _refused(path, named_at, "is no text in UTF-8") from None
    except FileNotFoundError:
        raise _refused(path, named_at, "does not exist") from None
    except IsADirectoryError:
        raise _refused(path, named_at, f"is a folder; name {what} in it") from None
    except OSError as error:
        raise _refused(path, named_at, f"cannot be read: {error.strerror}") from None
    own = load_yaml(text, str(path))
    if not isinstance(own.data, dict):
        told = f"the file is empty; {what}" if own.data is None else what
        raise RecipeError([Problem(Position(str(path), 1, 1), "", f"{told} is a mapping of keys to values")])
    return own, text


def _refused(path: Path, named_at: Position | None, message: str) -> RecipeError:
    if named_at is None:
        return RecipeError([Problem(Position(str(path)), "", message)])
    return RecipeError([Problem(named_at, "base", f"{path} {message}")])


def _inherit(
    own: Located, sources: dict[str, str], folder: Path, children: tuple[Path, ...], losses: Set[str]
) -> tuple[Located, dict[str, str]]:
    """A recipe laid over its base, if it names one."""
    base = own.data.pop("base", None)
    if base is None:
        return own, sources
    position = own.position(("base",))
    if not isinstance(base, str):
        raise RecipeError([Problem(position, "base", "name one recipe here, as text")])
    parent, above = read_with_bases(folder / base, losses, position, children)
    parent.data.pop("name", None)
    return merge(parent, own, losses), sources | above


def validate(located: Located, registry: Registry, default_name: str) -> Recipe:
    """The recipe that these data are; its `sources` and `overrides` are the caller's to set.

    Raises:
        RecipeError: with every problem found.
    """
    check = Check(located, registry)
    core = dict(located.data)
    check.requires(core.get("requires"))
    data, dataset = core.get("data"), None
    if isinstance(data, dict):
        own = {
            key for key in data if key in Data.model_fields or ("source" not in data and nearest(str(key), ["source"]))
        }
        core["data"] = {key: data[key] for key in data if key in own}
        options = {key: data[key] for key in data if key not in own}
        if isinstance(source := data.get("source"), str):
            dataset = check.component("dataset", source, options, ("data",), ("data", "source"), Data.model_fields)
    modalities: dict = core["modalities"] if isinstance(core.get("modalities"), dict) else {}
    encoders = {name: encoder for name, encoder in check.encoders(modalities) if encoder}
    fusion = check.named("fusion", core["fusion"], ("fusion",)) if "fusion" in core else None
    losses = list(check.losses(core["loss"] if "loss" in core else default_loss(core.get("task"))))
    augment = core.get("augment")
    augmentations = [
        check.named("augmentation", value, ("augment", i))
        for i, value in enumerate(augment if isinstance(augment, list) else ())
    ]
    metrics = list(check.metrics(core.get("metrics")))
    check.parts(core.get("train"), modalities)
    keys = check.model(RecipeKeys, core, ())
    if keys and keys.data.folds and not (keys.data.split and keys.data.split.column):
        check.problem(("data", "folds"), "needs data.split.column, the column that holds the folds")
    if keys:
        check.deprecated(keys, ())
        check.task(keys, losses)
        check.figures(keys, losses, metrics)
        check.stages(keys.train)
    if check.problems or keys is None:
        raise RecipeError(check.problems)
    assert dataset  # noqa: S101 - no problems, so every component was found
    assert fusion  # noqa: S101
    return Recipe(
        name=keys.name or default_name,
        task=keys.task,
        seed=keys.seed,
        data=keys.data,
        dataset=dataset,
        modalities={
            name: Modality(
                encoders[name],
                modality.normalize,
                modality.absent,
                tuple(modality.shape) if modality.shape else None,
            )
            for name, modality in keys.modalities.items()
        },
        fusion=fusion,
        losses=[LossTerm(loss, weight) for loss, weight in losses if loss],
        augment=[augmentation for augmentation in augmentations if augmentation],
        metrics=[metric for metric in metrics if metric],
        train=keys.train,
        baselines=keys.baselines,
        located=located,
        requires=keys.requires,
        warnings=check.warnings,
    )
