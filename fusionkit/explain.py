"""Turns pydantic's errors into sentences that a user can act on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from fusionkit.errors import suggestion
from fusionkit.yamlfile import KeyPath


def explain(
    error: ValidationError, model: type[BaseModel], data: Any, other_keys: Iterable[str] = ()
) -> Iterator[tuple[KeyPath, str]]:
    """Yield `(keys, message)` for each thing wrong.

    Args:
        error: what pydantic found.
        model: what the data were validated against.
        data: the data.
        other_keys: keys that are right at the top level although the model does not know them.
    """
    told: dict[KeyPath, list[str]] = {}
    for problem in error.errors(include_url=False, include_context=True):
        path = _real_path(problem["loc"], data, missing=problem["type"] == "missing")
        if problem["type"] == "extra_forbidden":
            known = {*_fields_at(model, path[:-1]), *(other_keys if len(path) == 1 else ())}
            message = f"unknown key{suggestion(str(path[-1]), known)}"
        elif problem["type"] == "missing":
            message = "is required and missing"
        else:
            message = _sentence(problem["type"], problem["msg"])
            if not isinstance(problem["input"], dict | list):
                message += f", not {problem['input']!r}"
        told.setdefault(path, []).append(message)
    for path, messages in told.items():
        # A value that may be of several types earns one complaint for each.
        first, *rest = dict.fromkeys(messages)
        yield path, "; or ".join([first, *rest])


def _sentence(kind: str, message: str) -> str:
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind == "string_pattern_mismatch":
        return message.replace("String should match pattern", "should match")
    return message.replace("Input should be", "should be")


def _real_path(location: tuple[int | str, ...], data: Any, missing: bool) -> KeyPath:
    """The part of pydantic's location that exists in the data: it also names types of unions, which no user wrote."""
    path: list[str | int] = []
    here = data
    for i, step in enumerate(location):
        if isinstance(here, dict) and step in here:
            here = here[step]
        elif isinstance(here, dict) and str(step).isdigit() and int(step) in here:
            step = int(step)
            here = here[step]
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
        elif not (missing and i == len(location) - 1):
            continue
        path.append(step)
    return tuple(path)


def _fields_at(model: type[BaseModel], path: KeyPath) -> set[str]:
    """The keys that models of this tree know at `path`."""
    models = [model]
    for step in path:
        annotations = []
        for known in models:
            if step in known.model_fields:
                annotations.append(known.model_fields[str(step)].annotation)
            else:
                annotations.append(known)  # a key of a mapping or an index of a list: the type stays
        models = [found for annotation in annotations for found in _models_in(annotation)]
    return {name for found in models for name in found.model_fields}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]
