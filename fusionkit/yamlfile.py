"""Reads YAML and remembers where every value stood, so that any later error can name file, line and column."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from fusionkit.errors import Position, Problem, RecipeError

KeyPath: TypeAlias = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """The core schema of YAML 1.2: `3e-5` is a number; `no`, `on` and `2024-01-01` are text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own way


for _tag, _pattern, _first in [
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
]:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), [c if c != "\0" else "" for c in _first]
    )


_SCALARS = {f"tag:yaml.org,2002:{name}" for name in ("str", "bool", "null", "int", "float")}
_MOST_VALUES = 100_000
"""A recipe has dozens of values; nested aliases can make billions out of ten lines."""


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = node.value
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)  # YAML 1.1 would read 010 as eight


@dataclass
class Located:
    """Plain data and the position of every key path in it; `()` is the whole."""

    data: Any
    positions: dict[KeyPath, Position] = field(default_factory=dict)

    def position(self, path: KeyPath) -> Position:
        """Where `path` stands, or the nearest key above it."""
        for length in range(len(path), -1, -1):
            if found := self.positions.get(path[:length]):
                return found
        return Position("recipe")

    def part(self, key: str | int) -> Located:
        """The value under one key, with its positions."""
        inner = {path[1:]: position for path, position in self.positions.items() if path[:1] == (key,)}
        return Located(self.data[key], inner)


def load_yaml(text: str, file: str) -> Located:
    """Parse one YAML document.

    Raises:
        RecipeError: bad syntax (tabs are named as such), or a key given twice; all duplicate keys are told at once.
    """
    try:
        loader = _Loader(text)
        loader.name = file
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise RecipeError([Problem(Position(file, line, column), "", _syntax_message(text, line, error))]) from None
    except yaml.YAMLError as error:
        raise RecipeError([Problem(Position(file, 1, 1), "", f"not readable as YAML: {error}")]) from None
    located, problems = Located(None), []
    if node is not None:
        located.data = _construct(node, (), file, located.positions, problems, set())
    if problems:
        raise RecipeError(problems)
    return located


def load_yaml_file(path: Path) -> Located:
    """Read and parse a YAML file.

    Raises:
        RecipeError: it cannot be read, or as for `load_yaml`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RecipeError([Problem(Position(str(path)), "", "not a text file in UTF-8")]) from None
    except OSError as error:
        raise RecipeError([Problem(Position(str(path)), "", f"cannot be read: {error.strerror}")]) from None
    return load_yaml(text, str(path))


def _syntax_message(text: str, line: int, error: yaml.MarkedYAMLError) -> str:
    lines = text.splitlines()
    if 0 < line <= len(lines) and re.match(r"^ *\t", lines[line - 1]):
        return "a tab indents this line; YAML takes spaces only"
    what = error.problem or error.context or "not readable as YAML"
    return f"YAML syntax: {what}"


def _construct(
    node: yaml.Node, path: KeyPath, file: str, positions: dict[KeyPath, Position], problems: list[Problem], open_: set
) -> Any:
    """Turn nodes into plain data; the position of a mapping's value is that of its key."""

    def here(node: yaml.Node) -> Position:
        return Position(file, node.start_mark.line + 1, node.start_mark.column + 1)

    positions.setdefault(path, here(node))
    key = ".".join(map(str, path))
    if len(positions) > _MOST_VALUES:
        raise RecipeError([Problem(here(node), key, f"more than {_MOST_VALUES} values")])
    if id(node) in open_:
        problems.append(Problem(here(node), key, "an alias that contains itself"))
        return None
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, here(node), key, problems)
    open_ = open_ | {id(node)}
    if isinstance(node, yaml.SequenceNode):
        return [_construct(item, (*path, i), file, positions, problems, open_) for i, item in enumerate(node.value)]
    mapping: dict[str | int, Any] = {}
    first: dict[str | int, Position] = {}
    for key_node, value_node in node.value:
        name = _scalar(key_node, here(key_node), key, problems) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(name, (str, int)) or isinstance(name, bool):
            problems.append(Problem(here(key_node), key, "a key must be a word or a whole number"))
            continue
        if name in mapping:
            where = ".".join(map(str, (*path, name)))
            problems.append(Problem(here(key_node), where, f"given twice; first at line {first[name].line}"))
            continue
        first[name] = positions[(*path, name)] = here(key_node)
        mapping[name] = _construct(value_node, (*path, name), file, positions, problems, open_)
    return mapping


def _scalar(node: yaml.ScalarNode, position: Position, key: str, problems: list[Problem]) -> Any:
    if node.tag not in _SCALARS:
        problems.append(Problem(position, key, f"the tag {node.tag} is not allowed"))
        return None
    try:
        return _Loader("").construct_object(node, deep=True)
    except (ValueError, KeyError):  # for example `!!int abc`
        problems.append(Problem(position, key, f"{node.value!r} is no {node.tag.rpartition(':')[2]}"))
        return None
