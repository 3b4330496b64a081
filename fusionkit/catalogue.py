"""The recipes that come with fusionkit: where they are, what they are about, and how one gets a copy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fusionkit.errors import RequestError, suggestion
from fusionkit.yamlfile import load_yaml


@dataclass(frozen=True)
class Shipped:
    """One recipe that comes with fusionkit."""

    name: str
    path: Path

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
            path = path.parent / data["base"]
        return files


def folder() -> Path:
    """Where the recipes lie: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).parent
    return here / "_recipes" if (here / "_recipes").is_dir() else here.parent / "recipes"


def shipped() -> Iterator[Shipped]:
    """All recipes that come with fusionkit, by name."""
    for path in sorted(folder().glob("*.yaml")):
        yield Shipped(path.stem, path)


def find(name: str) -> Shipped:
    """The shipped recipe of this name.

    Raises:
        RequestError: there is none.
    """
    recipes = {recipe.name: recipe for recipe in shipped()}
    if name not in recipes:
        raise RequestError(f"no recipe named {name!r} comes with fusionkit{suggestion(name, recipes)}")
    return recipes[name]


def locate(recipe: str) -> Path:
    """The file that a user means: a path, or the name of a shipped recipe.

    Raises:
        RequestError: there is neither.
    """
    if Path(recipe).exists():
        return Path(recipe)
    names = [known.name for known in shipped()]
    if recipe in names:
        return find(recipe).path
    stem = Path(recipe).stem
    if stem in names:
        raise RequestError(f"there is no file {recipe}; the recipe that comes with fusionkit is called {stem!r}")
    raise RequestError(f"there is no file {recipe}, nor a shipped recipe of that name{suggestion(stem, names)}")


def copy(name: str, to: Path) -> list[Path]:
    """Copy a shipped recipe, and those it inherits from, without overwriting anything.

    Args:
        name: the recipe.
        to: a folder, or the file to write.

    Returns:
        The files written, the recipe itself first.

    Raises:
        RequestError: there is no such recipe, or a file is there already.
    """
    own, *bases = find(name).files()
    target = to if to.suffix in (".yaml", ".yml") else to / own.name
    plan = {target: own.read_bytes()}
    for base in bases:
        beside = target.parent / base.name
        if not (beside.is_file() and beside.read_bytes() == base.read_bytes()):
            plan[beside] = base.read_bytes()
    if taken := [path for path in plan if path.exists()]:
        raise RequestError(f"{taken[0]} is there already; name another place with --to")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for path, content in plan.items():
            with path.open("xb") as file:
                file.write(content)
    except OSError as error:
        raise RequestError(f"{error.filename or target} cannot be written: {error.strerror}") from error
    return list(plan)
