"""The recipes and grids that come with fusionkit: where they are, what they are about, and how one gets a copy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fusionkit.errors import RequestError, suggestion
from fusionkit.yamlfile import load_yaml


@dataclass(frozen=True)
class Shipped:
    """One recipe, or grid, that comes with fusionkit."""

    name: str
    path: Path

    @property
    def command(self) -> Literal["run", "grid"]:
        """The command of fusionkit that takes it."""
        return "grid" if self.name.startswith("grids/") else "run"

    @property
    def summary(self) -> str:
        """The first sentence of the comment that opens the file, after the command that runs it."""
        told: list[str] = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            if not line.startswith("#"):
                break
            words = line.lstrip("# ").strip()
            if words and not words.startswith("fusionkit "):
                told.append(words)
        sentence, stop, _ = " ".join(told).partition(". ")
        return sentence + stop.strip()

    def files(self) -> list[Path]:
        """The recipe's own file and those that it inherits from."""
        files, path = [], self.path
        while path not in files:
            files.append(path)
            data = load_yaml(path.read_text(encoding="utf-8"), str(path)).data
            if not isinstance(data, dict) or not isinstance(data.get("base"), str):
                break
            path = Path(os.path.normpath(path.parent / data["base"]))
        return files


def folder() -> Path:
    """Where the recipes lie: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).parent
    return here / "_recipes" if (here / "_recipes").is_dir() else here.parent / "recipes"


def shipped() -> Iterator[Shipped]:
    """All recipes that come with fusionkit, by name, then the grids, which are called `grids/NAME`."""
    for place in ("", "grids"):
        for path in sorted((folder() / place).glob("*.yaml")):
            yield Shipped(f"{place}/{path.stem}".lstrip("/"), path)


def find(name: str) -> Shipped:
    """The shipped recipe of this name.

    Raises:
        RequestError: there is none.
    """
    recipes = {recipe.name: recipe for recipe in shipped()}
    if name not in recipes:
        raise RequestError(f"no recipe named {name!r} comes with fusionkit{suggestion(name, recipes)}")
    return recipes[name]


def locate(recipe: str, command: Literal["run", "grid"] = "run") -> Path:
    """The file that a user of this command means: a path, or the name of a shipped recipe or grid.

    Raises:
        RequestError: there is neither.
    """
    names = [known.name for known in shipped() if known.command == command]
    if Path(recipe).is_file():
        return Path(recipe)
    if recipe in names:  # the folder of a grid's results may be called as it is
        return find(recipe).path
    if Path(recipe).exists():
        return Path(recipe)
    what = {"run": "recipe", "grid": "grid"}[command]
    name = Path(recipe).with_suffix("").as_posix().removeprefix("recipes/")
    if name in names:
        raise RequestError(f"there is no file {recipe}; the {what} that comes with fusionkit is called {name!r}")
    raise RequestError(f"there is no file {recipe}, nor a shipped {what} of that name{suggestion(name, names)}")


def copy(name: str, to: Path) -> list[Path]:
    """Copy a shipped recipe, and those it inherits from, without overwriting anything.

    Args:
        name: the recipe.
        to: a folder, in which files lie as they do here; of a recipe also the file to write.

    Returns:
        The files written, the recipe itself first.

    Raises:
        RequestError: there is no such recipe, or a file is there already.
    """
    recipe = find(name)
    own, *bases = recipe.files()
    is_file = to.suffix in (".yaml", ".yml")
    if is_file and recipe.command == "grid":
        raise RequestError(f"{name} goes into a folder, with the recipe that it is of; name one with --to")
    target = to if is_file else to / own.relative_to(folder())
    plan = {target: own.read_bytes()}
    for base in bases:
        beside = Path(os.path.normpath(target.parent / os.path.relpath(base, own.parent)))
        if not (beside.is_file() and beside.read_bytes() == base.read_bytes()):
            plan[beside] = base.read_bytes()
    if taken := [path for path in plan if path.exists()]:
        raise RequestError(f"{taken[0]} is there already; name another place with --to")
    try:
        for path, content in plan.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(content)
    except OSError as error:
        raise RequestError(f"{error.filename or target} cannot be written: {error.strerror}") from error
    return list(plan)
