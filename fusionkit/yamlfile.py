"""Reads YAML and remembers where every value stood, so that any later error can name file, line and column."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
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


_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "bool", "null", "int", "float", "map", "seq")}
_MOST_VALUES = 100_000
"""A recipe has dozens of values; nested aliases can make billions out of ten lines."""


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = node.value
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)  # YAML 1.1 would read 010 as eight


@dataclass
class Located:
    """Plain data with the position of every key path in it; `()` is the whole.

    Args:
        data: the data.
        positions: where they stand; of a mapping's value, where its key stands.
        problems: what is wrong although the file could be read: duplicate keys, forbidden tags.
    """

    data: Any
    positions: dict[KeyPath, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def position(self, path: KeyPath) -> Position:
        """Where `path` stands, or the nearest key above it."""
        for length in range(len(path), -1, -1):
            if found := self.positions.get(path[:length]):
                return found
        return Position("recipe")


def load_yaml(text: str, file: str) -> Located:
    """Parse one YAML document; what can be told together with later findings is in `Located.problems`.

    Raises:
        RecipeError: it is no YAML (tabs are named as such).
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        return _Reading(file).located(node)
    except yaml.MarkedYAMLError as error:
        line, column, message = _syntax(text, error)
    except yaml.reader.ReaderError as error:
        line, column = text.count("\n", 0, error.position) + 1, error.position - text.rfind("\n", 0, error.position)
        message = f"YAML allows no {text[error.position]!r} here"
    except RecursionError:
        line, column, message = 1, 1, "nested too deeply"
    raise RecipeError([Problem(Position(file, line, column), "", message)]) from None


_EXPLANATIONS = [
    (r"mapping values are not allowed", "a `:` that cannot stand here; indent like the lines above, or quote the text"),
    (r"could not find expected ':'", "this line has no `:`; write `key: value`"),
    (r"but found '<(scalar|alias|anchor|tag)>'", "something follows the end of a value; quote the whole value"),
    (
        r"expected (<block end>|'<document start>', but found '<block)",
        "the indentation agrees with none of the lines above",
    ),
    (r"unexpected end of stream", "the quote is not closed"),
    (r"expected '<document start>'", "something follows the end of a value; quote the whole value"),
    (
        r"expected the node content, but found '(.)'",
        r"no value stands before this `\1`; text that starts so needs quotes",
    ),
    (r"expected ',' or '.', but got '([{\[])'", r"text with `\1` in it needs quotes here"),
    (r"expected ',' or '(.)'", r"a `,` or the closing `\1` is missing"),
    (r"found character '\\t'", "a tab stands here; use spaces"),
    (r"found character '(.)' that cannot start", r"text cannot start with `\1`; put it in quotes"),
    (r"undefined alias '(.*)'", r"there is no anchor &\1 above"),
    (r"found another document", "a recipe is one document; nothing may follow this `---`"),
]


def _syntax(text: str, error: yaml.MarkedYAMLError) -> tuple[int, int, str]:
    """Line, column and sentence for what the parser says in its own words."""
    # An open bracket or quote is noticed far below; a key without `:` one line below.
    begun = error.context in {"while scanning a quoted scalar", "while scanning a simple key"}
    mark = (error.context_mark if begun else error.problem_mark) or error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = text.splitlines()
    if line <= len(lines) and re.match(r" *\t", lines[line - 1]):
        return line, column, "a tab indents this line; YAML takes spaces only"
    told = error.problem or error.context or "not readable"
    for pattern, sentence in _EXPLANATIONS:
        if match := re.search(pattern, told):
            opened = (
                f" (opened in line {error.context_mark.line + 1})"
                if error.context_mark and "closing" in sentence
                else ""
            )
            return line, column, f"YAML syntax: {match.expand(sentence)}{opened}"
    return line, column, f"YAML syntax: {told}"


class _Reading:
    """Turns nodes into plain data and writes down where each value stood."""

    def __init__(self, file: str):
        self.file, self.loader = file, _Loader("")
        self.positions: dict[KeyPath, Position] = {}
        self.problems: list[Problem] = []

    def located(self, node: yaml.Node | None) -> Located:
        data = None if node is None else self.value(node, (), frozenset())
        return Located(data, self.positions, self.problems)

    def here(self, node: yaml.Node) -> Position:
        return Position(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def problem(self, position: Position, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(position, dotted(path), message))

    def value(self, node: yaml.Node, path: KeyPath, above: frozenset[int]) -> Any:
        """The data of a node; `above` are the nodes that hold it."""
        position = self.positions.setdefault(path, self.here(node))
        if len(self.positions) > _MOST_VALUES:
            message = f"more than {_MOST_VALUES} values, counting what aliases repeat"
            raise RecipeError([Problem(position, dotted(path), message)])
        if node.tag not in _TAGS:
            self.problem(position, path, f"the tag {_short(node.tag)} is not allowed")
            return None
        if id(node) in above:
            self.problem(position, path, "an alias inside of what it stands for")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, position, path)
        above |= {id(node)}
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path, above)
        return [self.value(item, (*path, i), above) for i, item in enumerate(node.value)]

    def mapping(self, node: yaml.MappingNode, path: KeyPath, above: frozenset[int]) -> dict[str | int, Any]:
        mapping: dict[str | int, Any] = {}
        for key_node, value_node in node.value:
            position = self.here(key_node)
            name: Any = self.scalar(key_node, position, path) if isinstance(key_node, yaml.ScalarNode) else None
            below = (*path, name)
            if isinstance(name, bool) or not isinstance(name, str | int):
                self.problem(position, path, "a key must be a word or a whole number")
            elif name == "<<" and key_node.style is None:
                self.problem(position, path, "the merge key `<<` is not supported; write the keys out, or use `base:`")
            elif name in mapping:
                self.problem(position, below, f"given twice, first in line {self.positions[below].line}; remove one")
            else:
                self.positions[below] = position
                mapping[name] = self.value(value_node, below, above)
        return mapping

    def scalar(self, node: yaml.ScalarNode, position: Position, path: KeyPath) -> Any:
        try:
            return self.loader.construct_object(node)
        except (ValueError, KeyError):  # for example `!!int abc`
            self.problem(position, path, f"{node.value!r} is no {_short(node.tag).removeprefix('!!')}")
            return None


def dotted(path: KeyPath) -> str:
    """A key path as the user reads it: `train.lr_scale`, `loss.0.weight`."""
    return ".".join(map(str, path))


def _short(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")
