"""What is wrong with the installed plugins, and what to do about it: `fusionkit plugins doctor`.

It imports every component, so it finds what a list of plugins cannot.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from packaging.requirements import Requirement

from fusionkit.components import DISTRIBUTION
from fusionkit.packages import installed, lacking, lacking_of
from fusionkit.registry import DISABLE_VARIABLE, Entry, Plugin, Registry, Unusable

Status = Literal["broken", "clash", "needs package", "needs extra", "disabled"]
"""The worst first."""
FAILURES: tuple[Status, ...] = ("broken", "clash")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        status: in a word.
        what: a plugin, component or package, in words.
        reason: what is wrong with it, as the rest of the sentence.
        remedy: what to do.
    """

    status: Status
    what: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} {self.reason}; {self.remedy}"


def examine(registry: Registry) -> list[Finding]:
    """Everything that is wrong with the plugins of a registry, the worst first."""
    order = get_args(Status)
    found = [*_plugins(registry), *_components(registry), *_packages(registry)]
    return sorted(found, key=lambda finding: order.index(finding.status))


def _plugins(registry: Registry) -> Iterator[Finding]:
    for plugin in registry.plugins:
        what = f"plugin {plugin.name} of {plugin.owner} {plugin.version}"
        if plugin.status == "disabled":
            yield Finding("disabled", what, f"is {plugin.reason}", "take it out there to use it")
        elif plugin.status == "broken":
            yield Finding("broken", what, f"does not load: {plugin.reason}", plugin.remedy or _mended(plugin))


def _components(registry: Registry) -> Iterator[Finding]:
    for entry in registry.components:
        kind, name = entry.component.kind, entry.component.name
        try:
            registry.options(kind, name)
        except Unusable as error:
            first = next(e for e in registry.components if (e.component.kind, e.component.name) == (kind, name))
            if error.status != "clash":
                yield Finding(error.status, error.what, error.reason, error.remedy or _mended(entry.plugin))
            elif entry is first:
                yield Finding("clash", error.what, error.reason, _one_of(registry, entry))
        else:
            extra = entry.component.extra
            if extra and (needed := lacking(extra)):
                what = f"{kind} {name!r} of {entry.plugin.owner}"
                yield Finding("needs extra", what, f"needs {', '.join(map(_plain, needed))}", f"pip install '{extra}'")


def _packages(registry: Registry) -> Iterator[Finding]:
    for owner, version in sorted({(plugin.owner, plugin.version) for plugin in registry.plugins}):
        for needed in lacking_of(owner):
            has = installed(needed.name)
            reason = f"needs {_plain(needed)}, " + (f"and {has} is installed" if has else "which is not installed")
            remedy = f"pip install '{_plain(needed)}'"
            if needed.name == DISTRIBUTION:
                remedy = f"upgrade {owner}, or {remedy}"
            yield Finding("needs package", f"{owner} {version}", reason, remedy)


def _mended(plugin: Plugin) -> str:
    """What to do about a mistake in somebody's package."""
    if needed := lacking_of(plugin.owner):
        return f"install what {plugin.owner} needs: pip install {shlex.join(map(_plain, needed))}"
    return f"upgrade {plugin.owner}, or tell its makers"


def _one_of(registry: Registry, entry: Entry) -> str:
    """What to do about a clash: the built-in one stays where there is one."""
    others = [e.plugin for e in registry.find(f"{entry.component.kind}:{entry.component.name}")]
    less = next((plugin for plugin in others if plugin.owner != DISTRIBUTION), others[0])
    return f"uninstall one of them, or leave one out: {DISABLE_VARIABLE}={less.name}"


def _plain(requirement: Requirement) -> str:
    """A requirement without the conditions under which it holds."""
    return f"{requirement.name}{requirement.specifier}"
