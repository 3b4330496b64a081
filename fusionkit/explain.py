"""Turns pydantic's errors into sentences that a user can act on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from fusionkit.errors import suggestion
from fusionkit.sections import home
from fusionkit.yamlfile import KeyPath

_KINDS = {
    "bool_type": "true or false",
    "dict_type": "a mapping of keys to values",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "a mapping of keys to values",
    "string_type": "text",
    "tuple_type": "a list",
}
"""What pydantic calls a value of the wrong kind, and what it should be."""


@dataclass(frozen=True)
class _Complaint:
    """One of pydantic's errors.

    Args:
        path: the keys that exist in the data.
        branches: where a value may be of several types: the place of that value, and the type tried.
        message: what is wrong.
        wrong_kind: whether the value is of another kind altogether.
        value: what was given, where that is worth saying.
    """

    path: KeyPath
    branches: tuple[tuple[KeyPath, str], ...]
    message: str
    wrong_kind: bool
    value: str


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
    complaints = []
    for problem in error.errors(include_url=False):
        path, branches = _real_path(problem["loc"], data, problem["type"] == "missing")
        kind, value = problem["type"], ""
        if kind == "extra_forbidden":
            message = _unknown(path, model, other_keys if len(path) == 1 else ())
        elif kind == "missing":
            message = "is required and missing"
        elif kind in ("value_error", "assertion_error"):
            message = problem["msg"].partition(", ")[2]
        else:
            message = f"should be {_KINDS[kind]}" if kind in _KINDS else _sentence(problem["msg"])
            value = shown(problem["input"])
        complaints.append(_Complaint(path, branches, message, kind in _KINDS or kind == "literal_error", value))
    told: dict[KeyPath, list[_Complaint]] = defaultdict(list)
    for complaint in _of_nearest_types(complaints):
        told[complaint.path].append(complaint)
    for path, several in told.items():
        yield path, "; or ".join(dict.fromkeys(c.message for c in several)) + several[-1].value


def _unknown(path: KeyPath, model: type[BaseModel], other_keys: Iterable[str]) -> str:
    key, known = str(path[-1]), {*_fields_at(model, path[:-1]), *other_keys}
    if known <= {"name"}:
        return "unknown key; this component has no options"
    section = home(key)
    return "unknown key" + (f"; it belongs to {section}" if section else suggestion(key, known))


def _sentence(message: str) -> str:
    for before, after in [("Input should", "should"), (" after validation", "")]:
        message = message.replace(before, after)
    for container in ("List", "Dictionary", "Tuple", "Set", "String", "Value"):
        message = message.removeprefix(f"{container} ")
    return message[:1].lower() + message[1:]


def shown(value: Any) -> str:
    """What was given, as YAML would write it; nothing of mappings and lists."""
    if isinstance(value, dict | list):
        return ""
    if isinstance(value, str):
        return f", not the text {value!r}"
    return f", not {'null' if value is None else str(value).lower()}"


def _real_path(
    location: tuple[int | str, ...], data: Any, missing: bool
) -> tuple[KeyPath, tuple[tuple[KeyPath, str], ...]]:
    """The part of pydantic's location that exists in the data, and the rest: types of unions, which no user wrote."""
    path: list[str | int] = []
    branches = []
    here = data
    for i, step in enumerate(location):
        if isinstance(here, dict) and str(step).isdecimal() and int(step) in here:
            step = int(step)
        inside = step in here if isinstance(here, dict) else isinstance(here, list) and step in range(len(here))
        if inside:
            here = here[step]
        elif not (missing and i == len(location) - 1):
            branches.append((tuple(path), str(step)))
            continue
        path.append(step)
    return tuple(path), tuple(branches)


def _of_nearest_types(complaints: list[_Complaint]) -> list[_Complaint]:
    """Where a value may be of several types, the complaints about the type that it comes nearest to.

    That is the one with the fewest complaints among those of its kind; where it is of no kind, all are told.
    """
    for site in sorted({site for complaint in complaints for site, _ in complaint.branches}, key=len):
        by_type: dict[str, list[_Complaint]] = defaultdict(list)
        for complaint in complaints:
            for at, tried in complaint.branches:
                if at == site:
                    by_type[tried].append(complaint)
        of_kind = [
            tried for tried, several in by_type.items() if not any(c.wrong_kind and c.path == site for c in several)
        ]
        if of_kind:
            nearest = min(of_kind, key=lambda tried: len(by_type[tried]))
            others = [c for tried, several in by_type.items() if tried != nearest for c in several]
            complaints = [complaint for complaint in complaints if complaint not in others]
    return complaints


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
