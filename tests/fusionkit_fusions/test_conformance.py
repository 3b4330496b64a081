"""Every registered fusion keeps every rule, with as many modalities as its method allows."""

from functools import cache

import pytest
from fusionkit_fakes import fusions_with_defaults

from fusionkit.registry import load_registry
from fusionkit.testing.fusions import CHECKS, options_are_a_schema
from fusionkit.testing.subjects import Trial, subjects

COUNTS: dict[str, set[int]] = {
    "difference": {2},
    "mfb": {2},
    "mutan": {2},
    "dual_encoder": {2},
    "semantic_matching": {2},
    "cross_attention": {2, 3, 4},
}
"""The numbers of modalities that a method allows, where they are not 1 to 4."""
NAMES = fusions_with_defaults()


@cache
def tried(name: str) -> Trial:
    return subjects(load_registry().resolve("fusion", name))


@pytest.mark.parametrize("name", NAMES)
def test_takes_what_its_method_allows(name):
    assert set(tried(name).taken) == COUNTS.get(name, {1, 2, 3, 4})
    assert not tried(name).faults
    options_are_a_schema(load_registry().resolve("fusion", name))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_keeps_the_rule(name, check):
    for subject in tried(name).taken.values():
        check(subject)
