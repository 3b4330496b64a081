"""Every registered fusion keeps every rule, with as many modalities as its method allows."""

from functools import cache

import pytest

from fusionkit.registry import load_registry
from fusionkit.testing.fusions import CHECKS, options_are_a_schema
from fusionkit.testing.subjects import Subject, subjects

COUNTS: dict[str, set[int]] = {"difference": {2}, "mfb": {2}, "mutan": {2}}
"""The numbers of modalities that a method allows, where they are not 1 to 4."""
NAMES = load_registry().names("fusion")


@cache
def taken(name: str) -> dict[int, Subject]:
    return subjects(load_registry().resolve("fusion", name))[0]


@pytest.mark.parametrize("name", NAMES)
def test_takes_what_its_method_allows(name):
    assert set(taken(name)) == COUNTS.get(name, {1, 2, 3, 4})
    options_are_a_schema(load_registry().resolve("fusion", name))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_keeps_the_rule(name, check):
    for subject in taken(name).values():
        check(subject)
