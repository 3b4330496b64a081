"""What is known of installed distributions."""

from __future__ import annotations

from typing import Any

import pytest
from packaging.requirements import Requirement

from fusionkit.packages import fits, installed, lacking, lacking_of


@pytest.fixture
def acme(packages: Any) -> None:
    """acme 1.2 and base 2.0rc1, of which acme asks for more than there is."""
    packages.add("acme")
    packages.add("base", version="2.0rc1")
    asked = [
        "base>=1",
        "base>=3",
        "nowhere; python_version < '3'",
        "Some_Thing[x] (>=1) garbage",
        "nowhere>=2; extra == 'text'",
        "acme[deep]; extra == 'text'",
        "elsewhere; extra == 'deep'",
        "base; extra == 'light'",
    ]
    with (packages.folder / "acme-1.2.dist-info" / "METADATA").open("a") as file:
        file.writelines(f"Requires-Dist: {line}\n" for line in asked)


@pytest.mark.usefixtures("acme")
def test_the_version_of_what_is_installed(packages: Any) -> None:
    assert (installed("acme"), installed("Acme"), installed("nowhere")) == ("1.2", "1.2", None)
    (packages.folder / "acme-1.2.dist-info" / "METADATA").unlink()
    assert installed("acme") is None


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    ("requirement", "right"),
    [
        ("acme", True),
        ("acme>=1.2,<2", True),
        ("acme>=1.3", False),
        ("nowhere", False),
        ("base>=1", True),  # a release candidate that is there is good enough
        ("base>=2", False),
    ],
)
def test_a_requirement_is_held_against_what_is_installed(requirement: str, right: bool) -> None:
    assert fits(Requirement(requirement)) is right


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("acme", []),
        ("acme[light]", []),
        ("acme[deep]", ["elsewhere"]),
        ("acme[text]", ["nowhere>=2", "elsewhere"]),
        ("acme[no_such_extra]", []),
        ("acme>=2", ["acme>=2"]),
        ("numba and a good deal of luck", []),
    ],
)
def test_what_is_lacking_of_an_extra(what: str, told: list[str]) -> None:
    assert [f"{one.name}{one.specifier}" for one in lacking(what)] == told


@pytest.mark.usefixtures("acme")
def test_what_is_lacking_of_a_package() -> None:
    assert [str(one) for one in lacking_of("acme")] == ["base>=3"]
    assert lacking_of("base") == []
    assert lacking_of("nowhere") == []
