"""The constructor is the schema: a component's keyword-only, typed arguments are its options in a recipe."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

Probability = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""

_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")
DATA_VARIABLE, DEFAULT_DATA = "FUSIONKIT_DATA", "./data"


def expand_path(path: Path | str) -> Path:
    """Replace `~` and `${VAR}`; `${FUSIONKIT_DATA}` is `./data` unless it is set.

    Raises:
        ValueError: a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name in os.environ:
            return os.environ[name]
        if name == DATA_VARIABLE:
            return DEFAULT_DATA
        raise ValueError(f"the environment variable {name} is not set")

    return Path(_VARIABLE.sub(value, str(path))).expanduser()


DataPath = Annotated[Path, AfterValidator(expand_path)]
"""A path in a recipe: `~` and `${VAR}` are expanded, and it is relative to the current folder."""


class Options(BaseModel):
    """Base of every derived model. Strict: `"256"` is no number."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True, protected_namespaces=())


def options_model(target: type) -> type[Options]:
    """Derive the pydantic model of a component's options from its constructor.

    Raises:
        TypeError: the constructor has an option without a type, or takes `**kwargs`.
    """
    init = target.__init__  # type: ignore[misc] # only the signature is read
    fields = {} if init is object.__init__ else _fields(init, inspect.getdoc(target) or "")
    return create_model(target.__name__, __base__=Options, __module__=target.__module__, **fields)


def arguments_model(function: Callable[..., Any]) -> type[Options]:
    """Derive the pydantic model of a function's keyword-only arguments.

    Raises:
        TypeError: one has no type, or the function takes `**kwargs`.
    """
    return create_model(function.__name__, __base__=Options, __module__=function.__module__, **_fields(function))


def _fields(function: Callable[..., Any], docstring: str = "") -> dict[str, Any]:
    """The keyword-only arguments of a function: type, default and description."""
    hints = get_type_hints(function, include_extras=True)
    described = argument_docs(docstring) | argument_docs(inspect.getdoc(function) or "")
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            raise TypeError(f"{function.__qualname__} takes **{name}; options are named one by one")
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        if name not in hints:
            raise TypeError(f"option {name!r} of {function.__qualname__} has no type")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints[name], Field(default, description=described.get(name)))
    return fields


_ARGUMENT = re.compile(r"^(\w+)\s*(?:\(.*?\))?:\s*(.*)$")


def argument_docs(docstring: str) -> dict[str, str]:
    """The `Args:` section of a Google-style docstring, argument by argument."""
    docs: dict[str, str] = {}
    current, indent, inside = None, None, False
    for line in docstring.splitlines():
        text = line.strip()
        if text in {"Args:", "Arguments:"}:
            inside, indent = True, None
        elif inside and text:
            depth = len(line) - len(line.lstrip())
            indent = depth if indent is None else indent
            if depth == 0:
                inside = False
            elif depth == indent and (match := _ARGUMENT.match(text)):
                current = match[1]
                docs[current] = match[2]
            elif current:
                docs[current] += " " + text
    return docs
