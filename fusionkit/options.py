"""The constructor is the schema: a component's keyword-only, typed arguments are its options in a recipe."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic_core import to_json

Probability = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""

_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")
DATA_VARIABLE, DEFAULT_DATA = "FUSIONKIT_DATA", "./data"


def expand_path(path: Path | str) -> Path:
    """Replace `~` and `${VAR}`; `${FUSIONKIT_DATA}` is `./data` unless it is set.

    Raises:
        ValueError: a variable is not set or empty, or there is no such user.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        found = os.environ.get(name) or (DEFAULT_DATA if name == DATA_VARIABLE else "")
        if not found:
            raise ValueError(f"the environment variable {name} is not set")
        return found

    expanded = Path(_VARIABLE.sub(value, str(path)))
    try:
        return expanded.expanduser()
    except RuntimeError:
        raise ValueError(f"there is no user {expanded.parts[0]}") from None


DataPath = Annotated[Path, AfterValidator(expand_path)]
"""A path in a recipe: `~` and `${VAR}` are expanded, and it is relative to the current folder."""


class Options(BaseModel):
    """Base of every derived model. Strict: `"256"` is no number, and neither is `.inf`."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


def options_model(target: type) -> type[Options]:
    """Derive the pydantic model of a component's options from its constructor.

    Raises:
        TypeError: the constructor takes `**kwargs`, or has an option that is not keyword-only or without a usable type.
    """
    init = target.__init__  # type: ignore[misc] # only the signature is read
    if init is object.__init__:
        return create_model(target.__name__, __base__=Options, __module__=target.__module__)
    for name, parameter in inspect.signature(init).parameters.items():
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is not parameter.empty:
            raise TypeError(f"option {name!r} of {target.__qualname__}.__init__ needs a `*` before it: keyword-only")
    return _model(target.__name__, init, inspect.getdoc(target) or "")


def arguments_model(function: Callable[..., Any]) -> type[Options]:
    """Derive the pydantic model of a function's keyword-only arguments.

    Raises:
        TypeError: the function takes `**kwargs`, or an argument has no usable type.
    """
    return _model(function.__name__, function)


def _model(title: str, function: Callable[..., Any], docstring: str = "") -> type[Options]:
    """The keyword-only arguments of a function: type, default and description."""
    described = argument_docs(docstring) | argument_docs(inspect.getdoc(function) or "")
    what, unwrapped = function.__qualname__, inspect.unwrap(function)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            raise TypeError(f"{what} takes **{name}; options are named one by one")
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        if name not in unwrapped.__annotations__:
            raise TypeError(f"option {name!r} of {what} has no type")
        # One at a time: the types of positional arguments may be imported for type checkers only.
        alone = SimpleNamespace(__annotations__={name: unwrapped.__annotations__[name]})
        try:
            hint = get_type_hints(alone, globalns=unwrapped.__globals__, include_extras=True)[name]
        except NameError as error:
            raise TypeError(f"the type of option {name!r} of {what} is not imported at run time: {error}") from error
        except Exception as error:  # it is an expression, which may raise anything
            raise TypeError(f"the type of option {name!r} of {what} cannot be read: {error}") from error
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hint, Field(default, description=described.get(name)))
    try:
        model = create_model(title, __base__=Options, __module__=function.__module__, **fields)
        model.model_json_schema()
    except (PydanticUserError, NameError) as error:  # a type that YAML cannot hold, a name with an underscore
        raise TypeError(f"{what}: {str(error).splitlines()[0]}") from error
    if misfit := _default_that_does_not_fit(model):
        name, why = misfit
        raise TypeError(f"the default of option {name!r} of {what} does not fit its type: {why}")
    return model


def _default_that_does_not_fit(model: type[Options]) -> tuple[str, str] | None:
    """The first option whose default no recipe could give, and why."""
    defaults = {name: field.default for name, field in model.model_fields.items() if not field.is_required()}
    try:
        model.model_validate_json(to_json(defaults, fallback=repr))
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            # What is required is missing, and what a validator refuses may be right in another environment.
            if problem["type"] not in ("missing", "value_error"):
                return str(problem["loc"][0]), problem["msg"]
    return None


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
