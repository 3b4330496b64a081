"""Loads a recipe: inheritance, overrides, validation of the core's keys and of every component's options.

All problems of a recipe are collected and told at once, each with its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError
from torch.nn import ModuleDict

from fusionkit.errors import Position, Problem, RecipeError, RequestError, nearest, suggestion
from fusionkit.explain import explain, shown
from fusionkit.headlines import HEADLINES
from fusionkit.merge import apply_override, merge
from fusionkit.options import Options, options_model
from fusionkit.registry import Registry, load_registry
from fusionkit.sections import Data, RecipeKeys, Train, default_loss
from fusionkit.weighting import Learned, Schedule, Weight, is_weight
from fusionkit.yamlfile import KeyPath, Located, dotted, load_yaml

PARTS = ("encoder", "fusion", "head", "branches")


@dataclass
class Chosen:
    """A component that a recipe names, with its validated options.

    Args:
        kind: what it is.
        name: its name.
        target: its class.
        options: its options, defaults filled in.
        path: the keys under which the recipe names it.
    """

    kind: str
    name: str
    target: type
    options: Options
    path: KeyPath

    def build(self, *context: Any) -> Any:
        """Make the component; `context` is what the core hands over (see `fusionkit.contract`)."""
        return self.target(*context, **dict(self.options))

    def resolved(self) -> dict[str, Any]:
        return {"name": self.name, **self.options.model_dump(mode="json")}


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
    train: Train
    baselines: bool
    located: Located = field(repr=False)
    sources: dict[str, str] = field(default_factory=dict, repr=False)
    """File name and text of the recipe and of those it inherits from, the recipe itself first."""
    overrides: tuple[str, ...] = ()

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
        located, sources = _read(path, (), None, losses)
        default_name = re.sub(r"[^\w.-]+", "-", path.stem)
    wrong = []
    for override in overrides:
        try:
            located = apply_override(located, override, losses)
        except RecipeError as error:
            wrong += error.problems
    if wrong:
        raise RecipeError(wrong)
    loaded = _validate(located, registry, default_name)
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


def _read(
    path: Path, children: tuple[Path, ...], named_at: Position | None, losses: Set[str]
) -> tuple[Located, dict[str, str]]:
    """A file laid over its chain of bases, and the texts of all; `children` are the files that led here."""

    def refuse(message: str) -> RecipeError:
        if named_at is None:
            return RecipeError([Problem(Position(str(path)), "", message)])
        return RecipeError([Problem(named_at, "base", f"{path} {message}")])

    if path.resolve() in children:
        circle = " -> ".join(file.name for file in (*children[children.index(path.resolve()) :], path))
        raise refuse(f"inherits from itself: {circle}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise refuse("is no text in UTF-8") from None
    except FileNotFoundError:
        raise refuse("does not exist") from None
    except IsADirectoryError:
        raise refuse("is a folder; name a recipe in it") from None
    except OSError as error:
        raise refuse(f"cannot be read: {error.strerror}") from None
    own = load_yaml(text, str(path))
    if not isinstance(own.data, dict):
        what = "the file is empty; a recipe" if own.data is None else "a recipe"
        raise RecipeError([Problem(Position(str(path), 1, 1), "", f"{what} is a mapping of keys to values")])
    return _inherit(own, {str(path): text}, path.parent, (*children, path.resolve()), losses)


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
    parent, above = _read(folder / base, children, position, losses)
    parent.data.pop("name", None)
    return merge(parent, own, losses), sources | above


def _validate(located: Located, registry: Registry, default_name: str) -> Recipe:
    check = _Check(located, registry)
    core = dict(located.data)
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
    check.parts(core.get("train"), modalities)
    keys = check.model(RecipeKeys, core, ())
    if keys and keys.data.folds and not (keys.data.split and keys.data.split.column):
        check.problem(("data", "folds"), "needs data.split.column, the column that holds the folds")
    if keys:
        check.task(keys, losses)
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
        train=keys.train,
        baselines=keys.baselines,
        located=located,
    )


class _Check:
    """Validates the parts of one recipe and collects the problems."""

    def __init__(self, located: Located, registry: Registry):
        self.located, self.registry = located, registry
        self.problems = list(located.problems)

    def problem(self, path: KeyPath, message: str) -> None:
        position, key = self.located.position(path), dotted(path)
        # A value that YAML could not read is None here; what follows from that is no news.
        if all((problem.position, problem.key) != (position, key) for problem in self.located.problems):
            self.problems.append(Problem(position, key, message))

    def model(self, model: type[BaseModel], data: Any, path: KeyPath, other_keys: Iterable[str] = ()) -> Any:
        """Validate as JSON, so that lists may become tuples and text paths, while text never becomes a number."""
        try:
            return model.model_validate_json(json.dumps(data))
        except ValidationError as error:
            for keys, message in explain(error, model, data, other_keys):
                self.problem((*path, *keys), message)
            return None

    def component(
        self, kind: str, name: str, options: dict, path: KeyPath, name_path: KeyPath, reserved: Iterable[str]
    ) -> Chosen | None:
        """The component `name` with its options; `reserved` are the keys beside them that are the core's."""
        try:
            target = self.registry.resolve(kind, name)
            model = options_model(target)
            if taken := model.model_fields.keys() & {"name", *reserved}:
                raise TypeError(f"its option {min(taken)!r} has the name of a key of the core")
        except RequestError as error:
            self.problem(name_path, str(error))
            return None
        except TypeError as error:
            self.problem(
                name_path, f"{kind} {name!r} of {self.registry.get(kind, name).plugin.owner} is broken: {error}"
            )
            return None
        validated = self.model(model, options, path, reserved)
        return None if validated is None else Chosen(kind, name, target, validated, path)

    def named(self, kind: str, value: Any, path: KeyPath, reserved: Iterable[str] = ("name",)) -> Chosen | None:
        """A component given as a name, or as a mapping with `name` and options."""
        if isinstance(value, str):
            return self.component(kind, value, {}, path, path, reserved)
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            names = ", ".join(self.registry.names(kind)) or "none installed"
            self.problem(path, f"name the {kind} here, as text or under `name` beside its options; there are: {names}")
            return None
        options = {key: option for key, option in value.items() if key != "name"}
        return self.component(kind, value["name"], options, path, (*path, "name"), reserved)

    def encoders(self, modalities: dict) -> Iterator[tuple[str, Chosen | None]]:
        taken = ModuleDict()
        for name, value in modalities.items():
            path = ("modalities", name)
            if hasattr(taken, str(name)):
                self.problem(path, "torch keeps this name for itself; give the modality another")
            if isinstance(value, str):
                yield name, self.named("encoder", value, path)
            elif isinstance(value, dict) and "encoder" in value:
                yield name, self.named("encoder", value["encoder"], (*path, "encoder"))

    def losses(self, value: Any) -> Iterator[tuple[Chosen | None, Weight]]:
        """The three forms of `loss`: a name or mapping with `name`, a mapping from names to weights, a list."""
        terms: list[tuple[KeyPath, Any, str | None]] = [(("loss",), value, None)]
        if isinstance(value, dict) and "name" not in value:
            terms = [(("loss", name), item, str(name)) for name, item in value.items()]
        elif isinstance(value, list):
            terms = [(("loss", i), item, None) for i, item in enumerate(value)]
        if not terms:
            self.problem(("loss",), "at least one loss is needed")
        seen: set[str] = set()
        for path, item, name in terms:
            weight: Weight
            if isinstance(item, dict) and not (name and is_weight(item)):
                options = {key: option for key, option in item.items() if key != "weight"}
                weight = self.weight(item.get("weight", 1.0), (*path, "weight"))
            else:
                options, weight = (item, 1.0) if name is None else ({}, self.weight(item, path))
            if name is None:
                chosen = self.named("loss", options, path, ("name", "weight"))
            else:
                chosen = self.component("loss", name, options, path, path, ("weight",))
            if chosen and chosen.name in seen:
                self.problem(path, f"{chosen.name} is given twice; a loss is one term")
            elif chosen:
                seen.add(chosen.name)
            yield chosen, weight

    def weight(self, value: Any, path: KeyPath) -> Weight:
        if isinstance(value, dict):
            return self.model(Schedule, value, path) or 0.0
        if isinstance(value, str) and value in get_args(Learned):
            return cast(Learned, value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            forms = "a number of 0 or more, a schedule such as {from: 0, to: 0.5}, `uncertainty` or `dwa`"
            self.problem(path, f"a weight is {forms}{shown(value)}")
            return 0.0
        return float(value)

    def task(self, keys: RecipeKeys, losses: Sequence[tuple[Chosen | None, Weight]]) -> None:
        """What depends on the task and on the number of epochs."""
        for loss, weight in losses:
            if loss is None:
                continue
            if keys.task not in (kinds := getattr(loss.target, "tasks", ())):
                self.problem(loss.path, f"{loss.name} is for {' and '.join(kinds)}, and the task is {keys.task}")
            if isinstance(weight, Schedule) and (found := weight.problem(keys.train.epochs)):
                key, message = found
                long = (*loss.path, "weight") in self.located.positions
                self.problem((*loss.path, *(["weight"] if long else []), key), message)
        select, figures = keys.train.select, ("loss", *HEADLINES[keys.task])
        if select is not None and select not in figures:
            self.problem(("train", "select"), f"{keys.task} has no figure {select!r}{suggestion(select, figures)}")
        if keys.train.balance is not None and keys.task != "classification":
            self.problem(
                ("train", "balance"), f"gradients are balanced by the scores of classes; the task is {keys.task}"
            )

    def parts(self, train: Any, modalities: Iterable[str]) -> None:
        """What `train.lr_scale` names are parts of this model."""
        scales = train.get("lr_scale") if isinstance(train, dict) else None
        known = {*PARTS, *(f"encoder.{name}" for name in modalities)}
        for part in scales if isinstance(scales, dict) else ():
            if part not in known:
                self.problem(("train", "lr_scale", part), f"no such part of the model{suggestion(str(part), known)}")
