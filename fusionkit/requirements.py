"""The packages that a recipe requires: `requires: [fusionkit-film>=0.2]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from fusionkit.packages import fits, installed

if TYPE_CHECKING:
    from fusionkit.registry import Registry


def parse(text: str) -> Requirement:
    """A package's name and the versions that are right.

    Raises:
        ValueError: it is something else.
    """
    try:
        asked = Requirement(text)
        plain = not (asked.extras or asked.marker or asked.url)
    except InvalidRequirement:
        plain = False
    if not plain:
        raise ValueError(f"{text!r}: write a package's name and the versions that are right, as fusionkit-film>=0.2")
    return asked


def unmet(asked: Requirement, registry: Registry) -> str | None:
    """Why a requirement is not met, and what to do; None where it is."""
    version = installed(asked.name)
    if version is None:
        return f"{asked.name} is not installed; pip install '{asked}'"
    if not fits(asked):
        return f"{asked.name} {version} is installed, which is not {asked.specifier}; pip install '{asked}'"
    for plugin in registry.plugins:
        if plugin.status != "ok" and canonicalize_name(plugin.owner) == canonicalize_name(asked.name):
            return f"{asked.name} is installed, but its plugin {plugin.name} is {plugin.status}: {plugin.why}"
    return None
