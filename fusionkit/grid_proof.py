"""Proves every variant of a grid before anything runs: shapes, losses, and that the data are there."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Callable

from fusionkit.check import check
from fusionkit.contract import Dataset
from fusionkit.errors import FusionkitError, Position, Problem, RecipeError
from fusionkit.grids import Grid

_MOST_NAMED = 3


def prove(grid: Grid, move: Callable[[int, int], None] = lambda done, total: None) -> list[str]:
    """Build the model of every variant on the meta device; each dataset is listed once for all of them.

    Args:
        grid: the grid.
        move: told `(done, total)`.

    Returns:
        notes: on data that are not at hand.

    Raises:
        RecipeError: with all variants that cannot work.
    """
    datasets: dict[str, Dataset] = {}
    found: dict[Problem, list[str]] = defaultdict(list)
    notes: dict[str, None] = {}
    for done, (name, recipe) in enumerate(grid.variants.items()):
        move(done, len(grid.variants))
        try:
            key = json.dumps(recipe.dataset.resolved(), sort_keys=True)
            if key not in datasets:
                datasets[key] = _listed_once(recipe.dataset.build())
            notes |= dict.fromkeys(check(recipe, datasets[key]).notes)
        except RecipeError as error:
            for problem in error.problems:
                found[problem].append(name)
        except FusionkitError as error:
            found[Problem(Position(str(grid.path)), "", str(error))].append(name)
    if found:
        raise RecipeError(_of(problem, names, grid) for problem, names in found.items())
    return list(notes)


def _listed_once(dataset: Dataset) -> Dataset:
    """The dataset, whose index is made at the first call and kept."""
    dataset.index = functools.cache(dataset.index)  # type: ignore[method-assign]
    return dataset


def _of(problem: Problem, names: list[str], grid: Grid) -> Problem:
    """The problem, and which variants have it where not all of them do."""
    if len(names) == len(grid.variants):
        return problem
    more = len(names) - _MOST_NAMED
    told = "; ".join(names[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
    return Problem(problem.position, problem.key, f"{problem.message} [{told}]")
