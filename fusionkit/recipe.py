"""Loads a recipe: inheritance, overrides, validation of the core's keys and of every component's options.

All problems of a recipe are collected and told at once, each with its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from fusionkit.errors import Position, Problem, RecipeError, RequestError, suggestion
from fusionkit.explain import explain
from fusionkit.merge import apply_override, merge
from fusionkit.options import Options, options_model
from fusionkit.registry import Registry, load_registry
from fusionkit.sections import Data, RecipeKeys, Train
from fusionkit.yamlfile import KeyPath, Located, load_yaml_file

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
    shape: tuple[int, ...] | None


@dataclass
class LossTerm:
    """One term of the objective and its weight."""

    loss: Chosen
    weight: float


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
        return RecipeError([Problem(self.located.position(tuple(path)), ".".join(map(str, path)), message)])

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
                    "shape": list(modality.shape) if modality.shape else None,
                }
                for name, modality in self.modalities.items()
            },
            "fusion": self.fusion.resolved(),
            "loss": [{**term.loss.resolved(), "weight": term.weight} for term in self.losses],
            "augment": [augmentation.resolved() for augmentation in self.augment],
            "train": self.train.model_dump(),
            "baselines": self.baselines,
        }


def load_recipe(
    recipe: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, registry: Registry | None = None
) -> Recipe:
    """Load and validate a recipe.

    Args:
        recipe: a file, or the same as plain data.
        overrides: `key=value` with dotted keys and values in YAML, applied in order.
        registry: where components are looked up; default: all installed plugins.

    Raises:
        RecipeError: with every problem found.
    """
    if isinstance(recipe, Mapping):
        text = json.dumps(recipe)
        located, sources, default_name = Located(json.loads(text)), {"recipe": text}, "recipe"
    else:
        located, sources = _with_base(Path(recipe), ())
        default_name = Path(recipe).stem
    for override in overrides:
        apply_override(located, override)
    loaded = _validate(located, registry or load_registry(), default_name)
    loaded.sources, loaded.overrides = sources, tuple(overrides)
    return loaded


def _with_base(path: Path, children: tuple[Path, ...], named_at: Position | None = None) -> tuple[Located, dict]:
    """The file merged over the chain of its bases, and the texts of all."""
    where = named_at or Position(str(path))
    if path.resolve() in children:
        raise RecipeError([Problem(where, "base", f"a circle: {path} inherits from itself")])
    if not path.is_file():
        raise RecipeError([Problem(where, "base" if children else "", f"there is no recipe {path}")])
    own = load_yaml_file(path)
    sources = {str(path): path.read_text(encoding="utf-8")}
    if not isinstance(own.data, dict):
        raise RecipeError([Problem(Position(str(path), 1, 1), "", "a recipe is a mapping of keys to values")])
    base = own.data.pop("base", None)
    if base is None:
        return own, sources
    position = own.position(("base",))
    if not isinstance(base, str):
        raise RecipeError([Problem(position, "base", "one recipe is named here, as text")])
    parent, parent_sources = _with_base(path.parent / base, (*children, path.resolve()), position)
    parent.data.pop("name", None)
    return merge(parent, own), sources | parent_sources


def _validate(located: Located, registry: Registry, default_name: str) -> Recipe:
    if not isinstance(located.data, dict):
        raise RecipeError([Problem(located.position(()), "", "a recipe is a mapping of keys to values")])
    check = _Check(located, registry)
    core, chosen = dict(located.data), {}
    if isinstance(core.get("data"), dict):
        data = core["data"]
        own = {key: value for key, value in data.items() if key in Data.model_fields}
        options = {key: value for key, value in data.items() if key not in Data.model_fields}
        core["data"] = own
        if isinstance(own.get("source"), str):
            at = ("data", "source")
            chosen["dataset"] = check.component("dataset", own["source"], options, ("data",), at, Data.model_fields)
    modalities = core.get("modalities")
    encoders = {}
    for name, value in modalities.items() if isinstance(modalities, dict) else ():
        site, encoder = ("modalities", name, "encoder"), value.get("encoder") if isinstance(value, dict) else value
        if encoder is not None:
            encoders[name] = check.named("encoder", encoder, site if isinstance(value, dict) else site[:2])
    fusion = check.named("fusion", core["fusion"], ("fusion",)) if "fusion" in core else None
    losses = [LossTerm(loss, weight) for loss, weight in check.losses(core.get("loss", "cross_entropy")) if loss]
    augment = core.get("augment")
    augmentations = [
        check.named("augmentation", value, ("augment", i))
        for i, value in enumerate(augment if isinstance(augment, list) else ())
    ]
    keys = check.model(RecipeKeys, core, ())
    if keys is not None:
        known = {*PARTS, *(f"encoder.{name}" for name in keys.modalities)}
        for part in keys.train.lr_scale:
            if part not in known:
                check.problem(("train", "lr_scale", part), f"no such part{suggestion(part, known)}")
        if keys.data.folds and not (keys.data.split and keys.data.split.column):
            check.problem(("data", "folds"), "needs data.split.column, the column that holds the folds")
    if check.problems or keys is None:
        raise RecipeError(check.problems)
    assert isinstance(fusion, Chosen)  # noqa: S101 - no problems, so every component was found
    return Recipe(
        name=keys.name or default_name,
        task=keys.task,
        seed=keys.seed,
        data=keys.data,
        dataset=chosen["dataset"],
        modalities={
            name: Modality(encoders[name], keys.normalize, tuple(keys.shape) if keys.shape else None)
            for name, keys in keys.modalities.items()
        },
        fusion=fusion,
        losses=losses,
        augment=[augmentation for augmentation in augmentations if augmentation],
        train=keys.train,
        baselines=keys.baselines,
        located=located,
    )


class _Check:
    """Validates the parts of one recipe and collects the problems."""

    def __init__(self, located: Located, registry: Registry):
        self.located, self.registry = located, registry
        self.problems: list[Problem] = []

    def problem(self, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(self.located.position(path), ".".join(map(str, path)), message))

    def model(self, model: type[BaseModel], data: Any, path: KeyPath, other_keys: Any = ()) -> Any:
        """Validate as JSON, so that lists may become tuples and text paths, while text never becomes a number."""
        try:
            return model.model_validate_json(json.dumps(data))
        except ValidationError as error:
            for keys, message in explain(error, model, data, other_keys):
                self.problem((*path, *keys), message)
            return None

    def component(
        self, kind: str, name: str, options: dict, path: KeyPath, name_path: KeyPath, other_keys: Any = ()
    ) -> Chosen | None:
        try:
            target = self.registry.resolve(kind, name)
            model = options_model(target)
        except (RequestError, TypeError) as error:
            self.problem(name_path, str(error))
            return None
        validated = self.model(model, options, path, other_keys)
        return None if validated is None else Chosen(kind, name, target, validated, path)

    def named(self, kind: str, value: Any, path: KeyPath, other_keys: Any = ("name",)) -> Chosen | None:
        """A component given as a name, or as a mapping with `name` and options."""
        if isinstance(value, str):
            return self.component(kind, value, {}, path, path)
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            names = ", ".join(self.registry.names(kind))
            self.problem(path, f"name the {kind} here, as text or as a mapping with `name`; there are {names}")
            return None
        options = {key: option for key, option in value.items() if key != "name"}
        return self.component(kind, value["name"], options, path, (*path, "name"), other_keys)

    def losses(self, value: Any) -> Iterator[tuple[Chosen | None, float]]:
        """The three forms of `loss`: a name, a mapping from names to weights, a list of mappings."""
        terms: list[tuple[KeyPath, Any]]
        if isinstance(value, dict) and "name" not in value:
            terms = [
                (("loss", name), {"name": name, **(given if isinstance(given, dict) else {"weight": given})})
                for name, given in value.items()
            ]
        elif isinstance(value, list):
            terms = [(("loss", i), item) for i, item in enumerate(value)]
        else:
            terms = [(("loss",), value)]
        if not terms:
            self.problem(("loss",), "at least one loss is needed")
        seen: set[str] = set()
        for path, item in terms:
            weight: Any = 1.0
            if isinstance(item, dict):
                weight = item.get("weight", 1.0)
                item = {key: option for key, option in item.items() if key != "weight"}
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
                self.problem((*path, "weight"), f"a weight is a number of 0 or more, not {weight!r}")
                continue
            chosen = self.named("loss", item, path, ("name", "weight"))
            if chosen and chosen.name in seen:
                self.problem(path, f"{chosen.name} is given twice")
            seen.add(chosen.name if chosen else "")
            yield chosen, float(weight)
