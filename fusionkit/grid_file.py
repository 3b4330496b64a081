"""Reads the file of a grid: a base recipe, axes and their levels, parts to leave out, seeds, and the reference.

Levels remember where they stand, so that what is wrong with a cell is told with the grid's line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt

from fusionkit.errors import Position, Problem, RecipeError, nearest, suggestion
from fusionkit.grid_parts import without
from fusionkit.merge import apply_override, change
from fusionkit.recipe import default_name_of, read_mapping, read_with_bases
from fusionkit.registry import Registry
from fusionkit.sections import RecipeKeys, RunName, Scalar, Section
from fusionkit.validation import Check
from fusionkit.yamlfile import KeyPath, Located, dotted

WITHOUT = "without"
"""The axis that `remove` makes."""
NOTHING = "nothing"
_NO_AXES = {
    "name": "a name changes no result",
    "base": "a grid has one base",
    "seed": "write `seeds`, a number or a list",
    "baselines": "they are trained beside the reference",
}


class GridKeys(Section):
    """A whole grid."""

    name: RunName | None = None
    """The name of its folder; default: the file's name."""
    base: str
    """The recipe that all cells start from, relative to this file."""
    axes: dict[str, Any] = Field(default_factory=dict)
    """Per axis its levels. An axis that is a dotted key of the recipe has values of that key: a list, or a mapping
    from names to values. Any other name stands for several keys that change together: a list of mappings from dotted
    keys to values, or a mapping from names to such mappings."""
    remove: list[str] = Field(default_factory=list)
    """Parts to leave out, one at a time: a modality, a term of the loss, an augmentation, or any dotted key."""
    seeds: PositiveInt | Annotated[list[NonNegativeInt], Field(min_length=1)] = 5
    """How many, counted from 0, or which ones."""
    reference: str | dict[str, Scalar] | None = None
    """The variant that all others are compared with: its name, or its level on each axis; an axis that is left out is
    at its first level. Default: the first level of all."""


@dataclass(frozen=True)
class Level:
    """One level of an axis.

    Args:
        label: as in the table.
        position: where it stands.
        changes: dotted keys and their values.
        part: what is left out.
    """

    label: str
    position: Position
    changes: Mapping[str, Any]
    part: str | None = None

    def apply(self, located: Located, losses: Set[str]) -> Located:
        """The recipe at this level.

        Raises:
            RecipeError: a key leads to no place of a list.
        """
        for key, value in self.changes.items():
            located = change(located, key, value, self.position, losses)
        return located if self.part is None else without(located, self.part, self.position)


@dataclass(frozen=True)
class Axis:
    name: str
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class GridFile:
    """What the file of a grid says.

    Args:
        path: the file.
        name: of the grid.
        located: the file's content.
        base: the base recipe, with overrides.
        sources: name and text of the grid's file, the base recipe and those that it inherits from.
        axes: in their order, the one of `remove` last.
        seeds: in their order.
        reference: the label of its level on each axis; or the name of a variant.
    """

    path: Path
    name: str
    located: Located
    base: Located
    sources: Mapping[str, str]
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]
    reference: str | Mapping[str, str]

    def error(self, path: KeyPath, message: str) -> RecipeError:
        return RecipeError([Problem(self.located.position(path), dotted(path), message)])


def read_grid(path: Path, overrides: Sequence[str], registry: Registry) -> GridFile:
    """Read the file of a grid and its base; nothing is known of the cells yet.

    Args:
        path: the file.
        overrides: `key=value`, changes to the base recipe.
        registry: where components are looked up.

    Raises:
        RecipeError: with every problem found.
    """
    losses = frozenset(registry.names("loss"))
    own, text = read_mapping(path, what="a grid")
    reading = _Reading(own, registry)
    keys = reading.keys()
    base, sources = Located({}), {str(path): text}
    if isinstance(name := own.data.get("base"), str):
        try:
            base, above = read_with_bases(path.parent / name, losses, own.position(("base",)))
            sources |= above
        except RecipeError as error:
            reading.check.problems += error.problems
    for override in overrides:
        try:
            base = apply_override(base, override, losses)
        except RecipeError as error:
            reading.check.problems += error.problems
    axes = tuple(reading.axes())
    if reading.check.problems or keys is None:
        raise RecipeError(reading.check.problems)
    seeds = tuple(range(keys.seeds)) if isinstance(keys.seeds, int) else tuple(keys.seeds)
    asked = keys.reference or {}
    reference = {axis: label(level) for axis, level in asked.items()} if isinstance(asked, dict) else asked
    return GridFile(path, keys.name or default_name_of(path), own, base, sources, axes, seeds, reference)


class _Reading:
    """Reads one grid and collects the problems."""

    def __init__(self, located: Located, registry: Registry):
        self.located, self.data = located, located.data
        self.check = Check(located, registry)

    def keys(self) -> GridKeys | None:
        """The grid's own keys."""
        known = GridKeys.model_fields
        for key in self.data:
            if key not in known:
                hint = suggestion(str(key), known)
                if key in RecipeKeys.model_fields:
                    hint = "; it belongs to the base recipe, or its values to `axes`"
                self.check.problem((key,), f"unknown key{hint}")
        keys = self.check.model(GridKeys, {key: self.data[key] for key in self.data if key in known}, ())
        for key, what in (("seeds", "seed"), ("remove", "part")):
            given = self.data.get(key)
            for place, item in enumerate(given if isinstance(given, list) else ()):
                if item in given[:place]:
                    self.check.problem((key, place), f"the {what} {item} is given twice")
        return keys

    def axes(self) -> Iterator[Axis]:
        """The axes in their order, then the one of `remove`."""
        axes, parts = self.data.get("axes"), self.data.get("remove")
        taken: dict[str, str] = {}
        for name, given in axes.items() if isinstance(axes, dict) else ():
            path: KeyPath = ("axes", name)
            if not self._may_be(str(name), path):
                continue
            levels = tuple(self._levels(str(name), given, path))
            self._hold_apart(str(name), levels, path, taken)
            yield Axis(str(name), levels)
        if isinstance(parts, list) and parts:
            left_out = [
                Level(part.rpartition(".")[2], self.located.position(("remove", place)), {}, part)
                for place, part in enumerate(parts)
                if isinstance(part, str)
            ]
            yield Axis(WITHOUT, (Level(NOTHING, self.located.position(("remove",)), {}), *left_out))

    def _may_be(self, name: str, path: KeyPath) -> bool:
        """Whether an axis may have this name."""
        first, *deeper = name.split(".")
        if first in _NO_AXES:
            self.check.problem(path, f"is no axis; {_NO_AXES[first]}")
        elif name == WITHOUT:
            self.check.problem(path, "is the axis of the parts in `remove`; give this one another name")
        elif deeper and first not in RecipeKeys.model_fields:
            self.check.problem(path, f"a recipe has no such key{suggestion(first, RecipeKeys.model_fields)}")
        else:
            return True
        return False

    def _levels(self, name: str, given: Any, path: KeyPath) -> Iterator[Level]:
        """The levels of one axis."""
        is_key = name.split(".")[0] in RecipeKeys.model_fields
        if not isinstance(given, list | dict):
            self.check.problem(path, "should be a list of levels, or a mapping from names to levels")
            return
        if not given:
            self.check.problem(path, "has no level; an axis needs one at least")
        named = given.items() if isinstance(given, dict) else ((None, value) for value in given)
        seen: set[str] = set()
        for place, (own, value) in enumerate(named):
            at = (*path, place if own is None else own)
            called = label(value) if own is None else str(own)
            if is_key:
                changes = {name: value}
            elif isinstance(value, dict) and value and all(self._changes(key, at) for key in value):
                changes = {str(key): item for key, item in value.items()}
            elif isinstance(value, dict) and value:
                continue
            else:
                meant = nearest(name, RecipeKeys.model_fields)
                hint = f"did you mean {meant!r}?" if meant else "under another name a level is a mapping of keys"
                self.check.problem(at, f"{name!r} is no key of a recipe; {hint}")
                return
            if called in seen:
                self.check.problem(at, f"the level {called} is given twice")
            seen.add(called)
            yield Level(called, self.located.position(at), changes)

    def _changes(self, key: Any, path: KeyPath) -> bool:
        """Whether a level may change this key."""
        first = str(key).split(".")[0]
        if first in _NO_AXES:
            self.check.problem((*path, key), f"cannot be changed here; {_NO_AXES[first]}")
        elif first not in RecipeKeys.model_fields:
            self.check.problem((*path, key), f"a recipe has no such key{suggestion(first, RecipeKeys.model_fields)}")
        else:
            return True
        return False

    def _hold_apart(self, name: str, levels: Sequence[Level], path: KeyPath, taken: dict[str, str]) -> None:
        """Refuse two axes of one key, and a key that would undo an earlier one inside of it."""
        for key in dict.fromkeys(key for level in levels for key in level.changes):
            for other, axis in taken.items():
                if key == other:
                    self.check.problem(path, f"{key} is changed by the axis {axis} already; tie them in one axis")
                elif other.startswith(f"{key}."):
                    self.check.problem(path, f"{key} would undo {other} of the axis {axis}; write this axis before it")
        for level in levels:
            written: list[str] = []
            for key in level.changes:
                if undone := [other for other in written if other.startswith(f"{key}.")]:
                    self.check.problem(path, f"level {level.label}: {key} would undo {undone[0]}; write it before")
                written.append(key)
                taken.setdefault(key, name)


def label(value: Any) -> str:
    """What a level is called that has no name of its own."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case {"name": str(name), **options}:
            return f"{name}({label(options)})" if options else name
        case dict():
            return " ".join(f"{key}={label(item)}" for key, item in value.items())
        case list():
            return "[" + " ".join(label(item) for item in value) + "]"
    return str(value)
