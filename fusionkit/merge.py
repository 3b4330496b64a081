"""One recipe over another, and `key=value` over both, with the positions of what wins."""

from __future__ import annotations

from typing import Any

from fusionkit.errors import Position, Problem, RecipeError
from fusionkit.sections import Data
from fusionkit.yamlfile import KeyPath, Located, load_yaml

_SELECTORS = ("name", "source")
"""Keys that choose a component: where they change, the options of the former choice go with it."""


def merge(parent: Located, child: Located) -> Located:
    """Lay `child` over `parent`: mappings are merged, all else is replaced; `null` over a mapping removes it."""
    merged = Located({}, dict(parent.positions))
    merged.data = _merge(parent.data, child.data, (), merged, child)
    merged.positions[()] = child.position(())
    return merged


def _merge(old: Any, new: Any, path: KeyPath, merged: Located, child: Located) -> Any:
    if isinstance(old, str) and isinstance(new, dict) and "name" not in new and path != ():
        old = {"name": old}  # the short form of a component, now given options
    if not (isinstance(old, dict) and isinstance(new, dict)):
        _take_positions(path, merged, child)
        return new
    if any(key in new and new[key] != old.get(key, new[key]) for key in _SELECTORS) and path != ():
        old = _kept_on_change(old, path)
    result = dict(old)
    for key, value in new.items():
        if value is None and isinstance(old.get(key), dict):
            del result[key]
            continue
        result[key] = _merge(old.get(key), value, (*path, key), merged, child)
    for key in [()] if not path else [path]:
        if position := child.positions.get(key):
            merged.positions[key] = position
    return result


def _kept_on_change(old: dict, path: KeyPath) -> dict:
    """What of a section survives another choice of component: under `data`, the keys of the core."""
    return {key: value for key, value in old.items() if key in Data.model_fields} if path == ("data",) else {}


def _take_positions(path: KeyPath, merged: Located, child: Located) -> None:
    for key in [key for key in merged.positions if key[: len(path)] == path]:
        del merged.positions[key]
    merged.positions |= {key: at for key, at in child.positions.items() if key[: len(path)] == path}


def apply_override(located: Located, override: str) -> None:
    """Change `located` by one `key=value`; the value is YAML and replaces what was there.

    Raises:
        RecipeError: it has no `=`, its value is not YAML, or its key leads through something that has no keys.
    """
    position = Position(f"override {override!r}")
    dotted, equals, text = override.partition("=")
    if not equals or not dotted.strip():
        raise RecipeError([Problem(position, "", "write key=value, for example train.epochs=5")])
    value = load_yaml(text, str(position)).data
    here, path = located.data, ()
    words = dotted.strip().split(".")
    while True:
        if isinstance(here, dict) and ".".join(words) in here:
            words = [".".join(words)]  # a key that itself holds a dot, such as encoder.image
        word: str | int = words.pop(0)
        if isinstance(here, list):
            if not str(word).isdigit() or int(word) >= len(here):
                at = ".".join(map(str, path))
                raise RecipeError([Problem(position, dotted, f"{at} is a list of {len(here)}; {word!r} is no place")])
            word = int(word)
        if not words:
            break
        below = here.get(word) if isinstance(here, dict) else here[word]
        if isinstance(below, str):
            below = {"name": below}
        elif below is None:
            below = {}
        elif not isinstance(below, dict | list):
            at = ".".join(map(str, (*path, word)))
            raise RecipeError([Problem(position, dotted, f"{at} is {below!r} and has no keys")])
        here[word] = below
        here, path = below, (*path, word)
    if word in _SELECTORS and isinstance(here, dict) and path and here.get(word, value) != value:
        kept = _kept_on_change(here, path)
        here.clear()
        here.update(kept)
    if value is None and path == ("modalities",):
        here.pop(word, None)
    else:
        here[word] = value
    path = (*path, word)
    for key in [key for key in located.positions if key[: len(path)] == path]:
        del located.positions[key]
    located.positions[path] = position
