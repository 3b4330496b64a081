"""One recipe over another, and `key=value` over both, with the positions of what wins.

The mappings of the core are merged; all else, each option of a component too, is replaced as a whole. A short form
means the long one, so both merge alike: `fusion: concat` is `fusion: {name: concat}`, `image: timm` under `modalities`
is `image: {encoder: timm}`, and `loss: {focal: 2}` is `loss: {focal: {weight: 2}}`, as with any form of a weight.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from fusionkit.errors import Position, Problem, RecipeError
from fusionkit.sections import Data, default_loss
from fusionkit.weighting import is_weight
from fusionkit.yamlfile import KeyPath, Located, dotted, load_yaml


def merge(parent: Located, child: Located, losses: Set[str], into: KeyPath = ()) -> Located:
    """Lay `child` over `parent`; `null` over a mapping removes it, another component drops the former one's options.

    Args:
        parent, child: recipes, or parts of one.
        losses: the names of all losses; they tell `loss: {focal: 2}` from options of the loss that `parent` names.
        into: of an option's value, change only what stands here.
    """
    return _Merge(parent, child, losses, into).merged()


@dataclass
class _Item:
    """In the data of an override: one item of a list."""

    place: int
    value: Any


class _Merge:
    def __init__(self, parent: Located, child: Located, losses: Set[str], into: KeyPath):
        self.parent, self.child, self.losses, self.into = parent, child, losses, into
        self.positions = dict(parent.positions)

    def merged(self) -> Located:
        data = self.over(self.parent.data, self.child.data, ())
        return Located(data, self.positions, self.parent.problems + self.child.problems)

    def over(self, old: Any, new: Any, path: KeyPath) -> Any:
        """`new` laid over `old`; both stand at `path`."""
        if isinstance(new, _Item):
            changed = self.over(old[new.place], new.value, (*path, new.place))
            return [*old[: new.place], changed, *old[new.place + 1 :]]
        written, old, new = new, self.long(old, path), self.long(new, path)
        if not (isinstance(old, dict) and isinstance(new, dict)) or self.is_whole(path):
            self.forget(path)
            own = {key: at for key, at in self.child.positions.items() if key[: len(path)] == path}
            self.positions[path] = next(iter(own.values()), self.child.position(path))
            self.positions |= own
            return written
        if position := self.child.positions.get(path):
            self.positions[path] = position
        merged = self.kept(old, new, path)
        for key, value in new.items():
            below = (*path, key)
            if value is None and isinstance(self.long(merged.get(key), below), dict):
                del merged[key]
                self.forget(below)
            else:
                merged[key] = self.over(merged.get(key), value, below)
        return merged

    def is_whole(self, path: KeyPath) -> bool:
        """Whether what stands here is the value of an option, or part of one, and to be replaced."""
        if path == self.into[: len(path)] != self.into:
            return False
        match path:
            case ("data", key, *_):
                return key not in Data.model_fields
            case ("loss", key):
                return key not in self.losses and not isinstance(key, int)
            case ("fusion", _, *_) | ("modalities", _, "encoder", _, *_) | ("loss" | "augment" | "metrics", _, _, *_):
                return True
        return False

    def long(self, value: Any, path: KeyPath) -> Any:
        """The mapping that a short form stands for; anything else as it is."""
        match path:
            case _ if isinstance(value, str) and _is_component(path):
                return {"name": value}
            case ("modalities", _) if isinstance(value, str):
                return {"encoder": value}
            case ("loss", name) if name in self.losses and is_weight(value):
                return {"weight": value}
        return value

    def kept(self, old: dict, new: dict, path: KeyPath) -> dict:
        """What of `old` goes on: all of it, unless `new` chooses another component."""
        if path == ("loss",) and isinstance(old.get("name"), str) and not self.losses.isdisjoint(new):
            return {old["name"]: {key: value for key, value in old.items() if key != "name"}}
        if path == ("loss",) and "name" in new and not self.losses.isdisjoint(old):
            return {}
        selector = "source" if path == ("data",) else "name"
        chosen = new.get(selector) if path == ("data",) or _is_component(path) else None
        if not isinstance(chosen, str) or chosen == old.get(selector, chosen):
            return dict(old)
        kept = {key: value for key, value in old.items() if path == ("data",) and key in Data.model_fields}
        for key in old.keys() - kept.keys():
            self.forget((*path, key))
        self.positions[path] = self.child.position((*path, selector))  # to blame where an option is now missing
        return kept

    def forget(self, path: KeyPath) -> None:
        for key in [key for key in self.positions if key[: len(path)] == path]:
            del self.positions[key]


def _is_component(path: KeyPath) -> bool:
    """Whether what stands here names a component and its options."""
    match path:
        case ("fusion",) | ("loss",) | ("modalities", _, "encoder") | ("loss" | "augment" | "metrics", int()):
            return True
    return False


def apply_override(located: Located, override: str, losses: Set[str]) -> Located:
    """The recipe with `key=value` laid over it as a child of one key; the value is YAML.

    Raises:
        RecipeError: it has no `=`, its value is not YAML, or its key leads to no place of a list.
    """
    position = Position(f"override {override!r}")
    key, equals, text = override.partition("=")
    words = key.strip().split(".")
    if not equals or not all(words):
        raise RecipeError([Problem(position, "", "write key=value, for example train.epochs=5")])
    if words[0] == "base":
        raise RecipeError([Problem(position, "", "`base` stands in files only")])
    try:
        value = load_yaml(text, "")
        problems = value.problems
    except RecipeError as error:
        problems = error.problems
    if problems:
        raise RecipeError(Problem(position, "", problem.message) for problem in problems)
    return change(located, key.strip(), value.data, position, losses)


def change(located: Located, key: str, value: Any, position: Position, losses: Set[str]) -> Located:
    """The recipe with `value` laid over it as a child of one dotted key; `position` is to blame for it.

    Raises:
        RecipeError: the key leads to no place of a list.
    """
    words, data = key.split("."), located.data
    if words[0] == "loss" and len(words) > 1 and "loss" not in data:
        data = data | {"loss": default_loss(data.get("task"))}
    path, nested = _nested(words, value, data, (), position)
    parent = Located(data, located.positions, located.problems)
    return merge(parent, Located(nested, {path: position}), losses, into=path)


def _has_dots(path: KeyPath) -> bool:
    """Whether the keys of the mapping that stands here hold dots: `encoder.image`."""
    match path:
        case ("train", "lr_scale") | ("train", "stages", int(), "lr_scale"):
            return True
    return False


def _nested(words: list[str], value: Any, here: Any, above: KeyPath, position: Position) -> tuple[KeyPath, Any]:
    """The whole path of an override, and its value under these keys; `here` is what stands at `above` so far."""
    if not words:
        return above, value
    if isinstance(here, list):
        if not (words[0].isdecimal() and int(words[0]) < len(here)):
            message = f"{words[0]!r} is no place of this list, which has {len(here)}, counted from 0"
            raise RecipeError([Problem(position, dotted(above), message)])
        place = int(words[0])
        path, data = _nested(words[1:], value, here[place], (*above, place), position)
        return path, _Item(place, data)
    joined = ".".join(words)
    if _has_dots(above) or (isinstance(here, dict) and joined in here):
        key, words = joined, []
    else:
        key, *words = words
    path, data = _nested(words, value, here.get(key) if isinstance(here, dict) else None, (*above, key), position)
    return path, {key: data}
