"""Parts that can be left out of a recipe: modalities, terms of the loss, augmentations, and any key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fusionkit.errors import Position
from fusionkit.yamlfile import KeyPath, Located

_SECTIONS = ("modalities", "loss", "augment")


def without(located: Located, part: str, position: Position) -> Located:
    """The recipe without a part; unchanged where it has no such part.

    Args:
        located: the recipe as written.
        part: a name, as of a modality; `loss.NAME` where several parts have that name; or a dotted key.
        position: to blame where the recipe cannot be without it.
    """
    path = find(located.data, part)
    if path is None:
        return located
    positions = {key: position for key, position in located.positions.items() if key[: len(path)] != path}
    if isinstance(path[-1], int):  # what comes after it in the list moves up
        positions = {key: position for key, position in positions.items() if key[: len(path) - 1] != path[:-1]}
        positions[path[:-1]] = located.position(path[:-1])
    else:
        positions[path] = position
    return Located(_removed(located.data, path), positions, located.problems)


def find(recipe: dict[str, Any], part: str) -> KeyPath | None:
    """Where a part stands, as in `without`; None where there is none, or several of that name."""
    found = parts(recipe)
    named = [path for name, path in found.items() if part in (name, name.partition(".")[2])]
    if named:
        return named[0] if len(named) == 1 else found.get(part)
    here: Any = recipe
    path: list[str | int] = []
    for word in part.split("."):
        step: str | int = int(word) if isinstance(here, list) and word.isdecimal() else word
        inside = step in here if isinstance(here, dict) else isinstance(here, list) and step in range(len(here))
        if not inside:
            return None
        here = here[step]
        path.append(step)
    return tuple(path)


def parts(recipe: dict[str, Any]) -> dict[str, KeyPath]:
    """The modalities, terms of the loss and augmentations of a recipe, such as `loss.focal`, and where they stand."""
    return {f"{section}.{name}": path for section in _SECTIONS for name, path in _named(section, recipe.get(section))}


def _named(section: str, value: Any) -> Iterator[tuple[str, KeyPath]]:
    if isinstance(value, dict) and not (section == "loss" and "name" in value):
        yield from ((str(name), (section, name)) for name in value)
    for place, item in enumerate(value if isinstance(value, list) else ()):
        name = item.get("name") if isinstance(item, dict) else item
        yield str(name), (section, place)


def _removed(here: Any, path: KeyPath) -> Any:
    """A copy without what stands at `path`."""
    first, *deeper = path
    if isinstance(here, list):
        assert isinstance(first, int)  # noqa: S101 - `find` made the path
        changed = [_removed(here[first], tuple(deeper))] if deeper else []
        return [*here[:first], *changed, *here[first + 1 :]]
    if deeper:
        return here | {first: _removed(here[first], tuple(deeper))}
    return {key: value for key, value in here.items() if key != first}
