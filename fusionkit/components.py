"""What a plugin hands to the core: component records, and the hooks that carry them.

Nothing here imports torch, so `fusionkit plugins` can list every component of every package at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import pluggy

if TYPE_CHECKING:
    from fusionkit.recipe import Recipe
    from fusionkit.runs import Run

ENTRY_POINT_GROUP = "fusionkit"
DISTRIBUTION = "fusionkit-geo"
PLUGIN_API = 1
"""The version of the plugin API that this fusionkit serves: hooks, records, base classes and what they are given.

A plugin module states the one that it was written for as a constant of the same name, and as a number: what it imports
from here is always the version at hand. One that states none was written for version 1."""

Kind = Literal["encoder", "fusion", "loss", "dataset", "metric", "augmentation"]
KINDS: tuple[Kind, ...] = get_args(Kind)

hookspec = pluggy.HookspecMarker(ENTRY_POINT_GROUP)
hookimpl = pluggy.HookimplMarker(ENTRY_POINT_GROUP)
"""Marks a function of a plugin's module as one of the `Hooks`."""


@dataclass(frozen=True)
class Component:
    """One encoder, fusion, loss, dataset, metric or augmentation that a plugin provides.

    Args:
        kind: what it is; one of `KINDS`.
        name: what a recipe calls it.
        target: `"package.module:Class"`, imported only when a recipe uses the component.
        summary: one line for `fusionkit plugins`.
        extra: how to install what the target needs beyond the plugin's own dependencies,
            for example `"fusionkit-geo[text]"`; shown where that is not installed, or the target's import fails.
        deprecated: what to use instead and when it goes, for example ``"use `film`; gone in 0.3"``; recipes that use
            the component are told.
    """

    kind: Kind
    name: str
    target: str
    summary: str = ""
    extra: str | None = None
    deprecated: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"component {self.name!r} has the kind {self.kind!r}; kinds are {', '.join(KINDS)}")
        if not re.fullmatch(r"[A-Za-z][\w-]*", self.name):
            raise ValueError(f"a component is named {self.name!r}; use a letter, then letters, digits, `_` and `-`")
        module, _, attribute = self.target.partition(":")
        if not module or not attribute:
            raise ValueError(f"component {self.name!r} has the target {self.target!r}; write 'package.module:Class'")

    @property
    def about(self) -> str:
        """The summary for lists, which says where the component is deprecated."""
        return "; ".join(filter(None, [f"deprecated: {self.deprecated}" if self.deprecated else "", self.summary]))


class Hooks:
    """The hooks that a plugin may implement."""

    @hookspec
    def fusionkit_components(self) -> Iterable[Component]:  # type: ignore[empty-body]
        """Yield the records of the components that the plugin provides."""

    @hookspec
    def fusionkit_callbacks(self, recipe: Recipe) -> Iterable[Any]:  # type: ignore[empty-body]
        """Return objects with any of the methods of `fusionkit.Callback` for a run of `recipe`."""

    @hookspec
    def fusionkit_report_sections(self, run: Run) -> Iterable[tuple[str, str]]:  # type: ignore[empty-body]
        """Return `(title, text)` pairs that `report.html` shows after its own sections; the text is escaped.

        `run.result` is known by then, and all files are there but the report and `result.json`.
        """
