"""Installed distributions: in which version, and what of a requirement is lacking."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version


def installed(package: str) -> str | None:
    """The version of a distribution; None where it is not installed, or not whole."""
    try:
        return metadata.version(package) or None
    except (metadata.PackageNotFoundError, FileNotFoundError):
        return None


def fits(requirement: Requirement) -> bool:
    """Whether the distribution is installed in a version that the requirement allows; its extras are not looked at."""
    try:
        version = Version(installed(requirement.name) or "")
    except InvalidVersion:
        return False
    return requirement.specifier.contains(version, prereleases=True)


def lacking(what: str) -> list[Requirement]:
    """What is not installed of a requirement such as `acme[text]>=2` and of what its extras ask for.

    Nothing is known to be lacking of what is no requirement.
    """
    try:
        return list(_lacking(Requirement(what)))
    except InvalidRequirement:
        return []


def lacking_of(package: str) -> list[Requirement]:
    """What an installed distribution asks for, beside its extras, and is not installed."""
    return [needed for needed in _asked_by(package, "") if not fits(needed)]


def _lacking(requirement: Requirement) -> Iterator[Requirement]:
    if not fits(requirement):
        yield requirement
        return
    always = {str(needed) for needed in _asked_by(requirement.name, "")}
    for extra in sorted(requirement.extras):
        for needed in _asked_by(requirement.name, extra):
            if str(needed) not in always:
                yield from _lacking(needed)


def _asked_by(package: str, extra: str) -> Iterator[Requirement]:
    for line in metadata.requires(package) or () if installed(package) else ():
        try:
            needed = Requirement(line)
        except InvalidRequirement:  # as old metadata may have it
            continue
        if needed.marker is None or needed.marker.evaluate({"extra": extra}):
            yield needed
