"""Turns pydantic's errors into sentences that a user can act on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fusionkit.errors import nearest, suggestion
from fusionkit.sections import Section, home
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
        missing: whether there is no value.
        meant: of an unknown key, the keys that were meant.
        value: what was given, where that is worth saying.
    """

    path: KeyPath
    branches: tuple[tuple[KeyPath, str], ...]
    message: str
    wrong_kind: bool = False
    missing: bool = False
    meant: KeyPath = ()
    value: str = ""


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
    complaints = [_complaint(problem, model, data, set(other_keys)) for problem in error.errors(include_url=False)]
    complaints = _of_nearest_types(complaints)
    misspelt = {complaint.meant for complaint in complaints}
    told: dict[KeyPath, list[_Complaint]] = defaultdict(list)
    for complaint in complaints:
        if not (complaint.missing and complaint.path in misspelt):
            told[complaint.path].append(complaint)
    for path, several in told.items():
        yield path, "; or ".join(dict.fromkeys(c.message for c in several)) + several[-1].value


def _complaint(problem: ErrorDetails, model: type[BaseModel], data: Any, other_keys: set[str]) -> _Complaint:
    kind = problem["type"]
    path, branches = _real_path(problem["loc"], data, kind == "missing")
    if kind == "missing":
        return _Complaint(path, branches, "is required and missing", missing=True)
    if kind in ("value_error", "assertion_error"):
        return _Complaint(path, branches, problem["msg"].partition(", ")[2])
    if kind == "extra_forbidden":
        key, tried = str(path[-1]), {tried for site, tried in branches if site == path[:-1]}
        known = _fields_at(model, path[:-1], tried) - {key}
        known |= other_keys if len(path) == 1 else set()
        message, meant = _unknown(key, known, of_core=len(path) == 1 or issubclass(model, Section))
        return _Complaint(path, branches, message, meant=(*path[:-1], meant) if meant else ())
    if kind == "json_invalid":  # JSON can hold all that YAML can, but for one thing
        return _Complaint(path, branches, "holds half of a surrogate pair, which is no character")
    message = f"should be {_KINDS[kind]}" if kind in _KINDS else _sentence(problem["msg"])
    wrong_kind = kind in _KINDS or kind == "literal_error"
    return _Complaint(path, branches, message, wrong_kind=wrong_kind, value=shown(problem["input"]))


def _unknown(key: str, known: set[str], *, of_core: bool) -> tuple[str, str | None]:
    """What is said of an unknown key, and the key that was meant."""
    if known <= {"name"}:
        return "unknown key; this component has no options", None
    if of_core and (section := home(key)):
        return f"unknown key; it belongs to {section}", None
    return f"unknown key{suggestion(key, known)}", nearest(key, known)


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
            kept = by_type[min(of_kind, key=lambda tried: len(by_type[tried]))]
            dropped = [c for several in by_type.values() for c in several if c not in kept]
            complaints = [complaint for complaint in complaints if complaint not in dropped]
    return complaints


def _fields_at(model: type[BaseModel], path: KeyPath, tried: set[str]) -> set[str]:
    """The keys that models of this tree know at `path`; of several models, those that pydantic says it tried."""
    models = [model]
    for step in path:
        annotations = []
        for known in models:
            if step in known.model_fields:
                annotations.append(known.model_fields[str(step)].annotation)
            else:
                annotations.append(known)  # a key of a mapping or an index of a list: the type stays
        models = [found for annotation in annotations for found in _models_in(annotation)]
    models = [found for found in models if found.__name__ in tried] or models
    return {name for found in models for name in found.model_fields}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]
