"""A grid: the runs that one recipe and some axes make, each known by a fingerprint of what its results depend on.

The module of `fusionkit.grid`, which runs one, is `fusionkit.grid_run`: a module named as the function would hide it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fusionkit.errors import Problem, RecipeError, suggestion
from fusionkit.grid_file import GridFile, read_grid
from fusionkit.grid_parts import find, parts
from fusionkit.recipe import Recipe, validate
from fusionkit.registry import Registry, load_registry
from fusionkit.runs import telling
from fusionkit.yamlfile import KeyPath

MOST_CELLS = 10_000


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Args:
        name: of its variant, without the seed: `fusion=concat, loss=focal`.
        levels: axis to level, as named in the table, in the order of the axes.
        seed: of the run.
        recipe: the resolved recipe, plain data.
        fingerprint: of what the results depend on in it, 16 hexadecimal digits.
    """

    name: str
    levels: dict[str, str] = field(hash=False)
    seed: int
    recipe: dict[str, Any] = field(hash=False, repr=False)
    fingerprint: str

    @property
    def title(self) -> str:
        return f"{self.name}, seed {self.seed}"


@dataclass(frozen=True)
class Grid:
    """A valid grid. Make one with `load_grid`.

    Args:
        name: of its folder.
        path: its file.
        cells: variant by variant, and of each variant seed by seed. No two have the same fingerprint.
        reference: the name of the variant that the others are compared with. Its runs alone have the baselines: each
            modality alone and the early stack, trained once a seed with the reference's fusion, loss and settings.
        variants: per name the recipe at the first seed.
        sources: name and text of the grid's file, the base recipe and those that it inherits from.
        notes: what the user should know of the cells.
    """

    name: str
    path: Path
    cells: tuple[Cell, ...]
    reference: str
    variants: Mapping[str, Recipe] = field(repr=False)
    sources: Mapping[str, str] = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def seeds(self) -> list[int]:
        return list(dict.fromkeys(cell.seed for cell in self.cells))


def load_grid(path: str | Path, overrides: Sequence[str] = (), *, registry: Registry | None = None) -> Grid:
    """Load a grid and validate the recipe of every cell.

    Args:
        path: the file.
        overrides: `key=value`, changes to the base recipe.
        registry: where components are looked up; default: all installed plugins.

    Raises:
        RecipeError: with every problem found, those of all cells too.
    """
    registry = registry or load_registry()
    file = read_grid(Path(path), overrides, registry)
    _hold_size(file)
    made, notes = _distinct(_variants(file, registry))
    recipes = {name: recipe for name, (_, recipe) in made.items()}
    reference = _reference(file, {name: levels for name, (levels, _) in made.items()}, notes)
    cells = tuple(
        _cell(name, levels, recipe, seed, baselines=name == reference)
        for name, (levels, recipe) in made.items()
        for seed in file.seeds
    )
    same = [f"{name} is the same as {kept}" for name, kept in notes.items()]
    warned = dict.fromkeys(str(warning) for recipe in recipes.values() for warning in recipe.warnings)
    return Grid(file.name, file.path, cells, reference, recipes, file.sources, (*same, *warned))


def _hold_size(file: GridFile) -> None:
    count = math.prod(len(axis.levels) for axis in file.axes) * len(file.seeds)
    if count > MOST_CELLS:
        factors = [f"{len(axis.levels)} of {axis.name}" for axis in file.axes] + [f"{len(file.seeds)} seeds"]
        raise file.error((), f"{count:,} cells ({' x '.join(factors)}); a grid has at most {MOST_CELLS:,}")


def _variants(file: GridFile, registry: Registry) -> dict[str, tuple[dict[str, str], Recipe]]:
    """Per name the levels and the recipe of every combination of levels.

    Raises:
        RecipeError: with the problems of all.
    """
    losses = frozenset(registry.names("loss"))
    made: dict[str, tuple[dict[str, str], Recipe]] = {}
    problems: list[Problem] = []
    never_there = {level.part for axis in file.axes for level in axis.levels if level.part is not None}
    for combination in itertools.product(*(axis.levels for axis in file.axes)):
        levels = {axis.name: level.label for axis, level in zip(file.axes, combination, strict=True)}
        try:
            located = file.base
            for level in combination:
                if level.part is not None and find(located.data, level.part) is not None:
                    never_there.discard(level.part)
                located = level.apply(located, losses)
            recipe = validate(replace(located, data=dict(located.data)), registry, file.name)
        except RecipeError as error:
            problems += error.problems
        else:
            recipe.sources = dict(file.sources)
            made[name_of(levels)] = levels, recipe
    for place, part in enumerate(file.located.data.get("remove") or ()):
        if part in never_there:
            known = parts(file.base.data)
            several = [name for name in known if name.partition(".")[2] == part]
            hint = f"; write {' or '.join(several)}" if several else suggestion(part, {n.split(".")[1] for n in known})
            problems += file.error(("remove", place), f"{part!r} is no one part of the recipe{hint}").problems
    if problems:
        raise RecipeError(problems)
    return made


def name_of(levels: Mapping[str, str]) -> str:
    """The name of a variant."""
    return ", ".join(f"{axis}={level}" for axis, level in levels.items()) or "base"


def _distinct(
    made: Mapping[str, tuple[dict[str, str], Recipe]],
) -> tuple[dict[str, tuple[dict[str, str], Recipe]], dict[str, str]]:
    """The variants without repetitions, and which names stand for another."""
    first: dict[str, str] = {}
    kept, same = {}, {}
    for name, (levels, recipe) in made.items():
        known = first.setdefault(fingerprint(recipe.resolved()), name)
        if known == name:
            kept[name] = levels, recipe
        else:
            same[name] = known
    return kept, same


def _reference(file: GridFile, levels: Mapping[str, dict[str, str]], same: Mapping[str, str]) -> str:
    """The name of the reference.

    Raises:
        RecipeError: there is no such variant.
    """
    asked = file.reference
    path: KeyPath = ("reference",)
    names = [*levels, *same]
    if isinstance(asked, str):
        found = [name for name in names if asked == name or (len(file.axes) == 1 and name.endswith(f"={asked}"))]
        if not found:
            raise file.error(path, f"there is no variant {asked!r}{suggestion(asked, names[:20])}")
        name = found[0]
    else:
        axes = {axis.name: [level.label for level in axis.levels] for axis in file.axes}
        for axis, level in asked.items():
            if axis not in axes:
                raise file.error((*path, axis), f"there is no axis {axis!r}{suggestion(axis, axes)}")
            if level not in axes[axis]:
                raise file.error((*path, axis), f"{axis} has no level {level!r}{suggestion(level, axes[axis])}")
        name = name_of({axis: asked.get(axis, labels[0]) for axis, labels in axes.items()})
    return same.get(name, name)


def _cell(name: str, levels: dict[str, str], recipe: Recipe, seed: int, *, baselines: bool) -> Cell:
    possible = recipe.task != "retrieval" and len(recipe.modalities) > 1
    resolved = recipe.resolved() | {"seed": seed, "baselines": baselines and possible}
    resolved = json.loads(json.dumps(resolved))  # as a file would hold it: lists, not tuples
    return Cell(name, levels, seed, resolved, fingerprint(resolved))


def fingerprint(resolved: Mapping[str, Any]) -> str:
    """Of a resolved recipe, what its results depend on; its name and how its data are read are not among it."""
    told = {key: value for key, value in telling(dict(resolved)).items() if key != "name"}
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()


def by_variant(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    """The cells of each variant, in their order."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.name, []).append(cell)
    return found
