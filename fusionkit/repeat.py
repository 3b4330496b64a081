"""The packages that a run's plugins come from, and whether they are the same where it is repeated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fusionkit.components import DISTRIBUTION
from fusionkit.errors import DataError, Position, Problem, RecipeError
from fusionkit.packages import installed
from fusionkit.runs import Run

if TYPE_CHECKING:
    from fusionkit.recipe import Recipe

RECIPES = ("recipe.yaml", "resolved.yaml")
"""The files of a run folder that can be run again."""


def plugins_used(recipe: Recipe, others: Iterable[str] = ()) -> dict[str, str]:
    """The packages whose components a recipe names, with their versions, and fusionkit's own.

    Args:
        recipe: of the run.
        others: packages that the run uses beside those.
    """
    owners = {DISTRIBUTION, *others, *(chosen.owner for chosen in recipe.components)}
    return {owner: version for owner in sorted(owners) if (version := installed(owner))}


def differences(folder: Path | str, run: str = "this run") -> list[str]:
    """A line for each package that a run used and that is installed in another version, or not at all.

    Args:
        folder: of the run; one that is none, or does not tell, has no differences.
        run: how the lines call it.
    """
    try:
        told = Run(folder).provenance
    except DataError:
        return []
    used = told.get("plugins_used")
    if not isinstance(used, Mapping):  # of a run that was made by an earlier version
        packages = told.get("packages")
        used = {DISTRIBUTION: packages.get(DISTRIBUTION)} if isinstance(packages, Mapping) else {}
    lines = []
    for package, then in used.items():
        now = installed(package)
        if then and now != then:
            there = f"{now} is installed" if now else "it is not installed"
            lines.append(f"{run} used {package} {then}; {there}")
    return lines


def folder_of(path: Path | str) -> Path | None:
    """The run folder in which a recipe lies, if that is one that a run has left."""
    path = Path(path)
    is_left = path.name in RECIPES and (path.parent / "provenance.json").is_file()
    return path.parent if is_left else None


def blamed_on_versions(error: RecipeError, folder: Path) -> RecipeError:
    """The same problems, and before them the packages that a run used in other versions."""
    place = Position(str(folder / "provenance.json"))
    return RecipeError([*error.problems, *(Problem(place, "", line, first=True) for line in differences(folder))])
