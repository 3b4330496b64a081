"""A component in words, for people: what it does, and the name, type, default and meaning of each option."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from pydantic import BaseModel


class OptionRow(NamedTuple):
    """One option; `default` is `required` where there is none."""

    name: str
    type: str
    default: str
    meaning: str


def options_in_words(model: type[BaseModel]) -> dict[str, list[OptionRow]]:
    """The options of a model under its own name, which comes first; then the keys of each model that they name."""
    words = _Words(model.model_json_schema())
    told: dict[str, list[OptionRow]] = {}
    waiting = {model.__name__: words.schema}
    while waiting:
        for name, part in waiting.items():
            told[name] = [words.row(key, held, part) for key, held in part.get("properties", {}).items()]
        waiting = {name: part for name, part in words.named.items() if name not in told}
    return told


class _Words:
    """Puts the types of one JSON Schema in words, and remembers the models named on the way."""

    def __init__(self, schema: dict[str, Any]):
        self.schema = schema
        self.named: dict[str, dict[str, Any]] = {}

    def row(self, key: str, held: dict[str, Any], part: dict[str, Any]) -> OptionRow:
        default = "required" if key in part.get("required", ()) else plain(held.get("default"))
        return OptionRow(key, self.type(held), default, " ".join(held.get("description", "").split()))

    def type(self, held: dict[str, Any]) -> str:
        """A type in a word or two: `whole number > 0`, `list of text`, `en | zh`."""
        if "$ref" in held:
            return self.type(self.schema["$defs"][held["$ref"].rpartition("/")[2]])
        if "const" in held:
            return plain(held["const"])
        if "enum" in held:
            return " | ".join(map(plain, held["enum"]))
        for several in ("anyOf", "oneOf"):
            if several in held:
                return " | ".join(dict.fromkeys(map(self.type, held[several])))
        kind = held.get("type")
        if kind in ("integer", "number"):
            return f"{'whole number' if kind == 'integer' else 'number'} {_bounds(held)}".strip()
        if kind == "array":
            return self._array(held)
        if kind == "object":
            return self._object(held)
        if kind == "string":
            return "path" if str(held.get("format")).endswith("path") else "text"
        return {"boolean": "true | false", "null": "null"}.get(str(kind), "anything")

    def _array(self, held: dict[str, Any]) -> str:
        if "prefixItems" in held:
            return f"[{', '.join(map(self.type, held['prefixItems']))}]"
        return f"list of {_bracketed(self.type(held.get('items', {})))}"

    def _object(self, held: dict[str, Any]) -> str:
        if "properties" not in held:
            return f"mapping to {_bracketed(self.type(held.get('additionalProperties') or {}))}"
        name = held.get("title", "")
        if not name.isidentifier():  # a generic model: its keys say more than its name
            return f"{{{', '.join(held['properties'])}}}"
        self.named[name] = held
        return name


def plain(value: Any) -> str:
    """A value as a recipe would say it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def prose(docstring: str) -> str:
    """What a docstring says before its sections (Args, Raises, ...)."""
    kept = []
    for line in docstring.splitlines():
        if line in {"Args:", "Arguments:", "Attributes:", "Raises:", "Returns:"}:
            break
        kept.append(line)
    return "\n".join(kept).strip()


def _bounds(held: dict[str, Any]) -> str:
    signs = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    return ", ".join(f"{sign} {held[key]:g}" for key, sign in signs.items() if key in held)


def _bracketed(words: str) -> str:
    return f"({words})" if " | " in words else words
