"""What goes in a coming version: marked at least one minor version ahead, and told where it is used.

A mark says what to use instead and ends with the version: ``"use `film`; gone in 0.3"``. Components carry theirs in
their record (`Component.deprecated`), options and keys of recipes as `Annotated[int, Field(deprecated="...")]`,
functions and classes by `deprecated`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typing_extensions
from packaging.version import Version
from pydantic import BaseModel

from fusionkit.yamlfile import KeyPath


class FusionkitDeprecationWarning(FutureWarning):
    """A function or class of fusionkit goes in a coming version; shown to whoever calls it."""


def deprecated(mark: str) -> typing_extensions.deprecated:
    """Decorate a function or class of fusionkit that goes in a coming version.

    Raises:
        ValueError: the mark does not say in which.
    """
    gone_in(mark)
    return typing_extensions.deprecated(mark, category=FusionkitDeprecationWarning)


def gone_in(mark: str) -> Version:
    """The version in which something goes.

    Raises:
        ValueError: the mark does not say.
    """
    found = re.search(r"; gone in (\d+\.\d+)$", mark)
    if not found:
        raise ValueError(f"a deprecation ends with the version in which it goes, as '; gone in 0.3', unlike {mark!r}")
    return Version(found[1])


def is_ahead(mark: str, version: str) -> bool:
    """Whether what is marked is still there for at least one minor version after `version`."""
    now = Version(version)
    return gone_in(mark).release[:2] > (now.major, now.minor)


def deprecated_keys(section: BaseModel) -> Iterator[tuple[KeyPath, str]]:
    """The deprecated keys that were given another value than their default, and their marks."""
    for name in section.model_fields_set:
        field, value = type(section).model_fields[name], section.__dict__[name]
        # A resolved recipe gives every key its value, so that one at its default says nothing.
        if field.deprecation_message and value != field.get_default(call_default_factory=True):
            yield (name,), field.deprecation_message
        yield from (((name, *path), mark) for path, mark in _inside(value))


def _inside(value: Any) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, BaseModel):
        yield from deprecated_keys(value)
    elif isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from (((key, *path), mark) for path, mark in _inside(item))
