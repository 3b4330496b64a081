"""What plugins add to a run: callbacks and report sections. What fails in one is told by the plugin's name.

A callback may be what a training depends on, so one that fails ends the run, which can be resumed. A report section
comes when all is trained and measured, so one that fails is left out, and said to be.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from fusionkit.errors import FusionkitError, suggestion
from fusionkit.registry import DISABLE_VARIABLE, Registry, load_registry
from fusionkit.trainer import Callback, Fit

if TYPE_CHECKING:
    from fusionkit.recipe import Recipe
    from fusionkit.runs import Run

EVENTS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class PluginCallback(Callback):
    """A callback of a plugin.

    Args:
        callback: has any of the methods of `Callback`.
        plugin: whose it is.

    Raises:
        FusionkitError: no event reaches the callback, or it has a method that no event calls. From the events: it
            fails.
    """

    def __init__(self, callback: Any, plugin: _Implementation):
        self.callback, self.plugin = callback, plugin
        self.name = f"the callback {getattr(callback, '__name__', type(callback).__name__)}"
        methods = [name for name in dir(callback) if name.startswith("on_")]
        if unknown := sorted(set(methods).difference(EVENTS)):
            raise FusionkitError(f"{plugin}: {self.name} has {unknown[0]}, no event{suggestion(unknown[0], EVENTS)}")
        if not methods:
            raise FusionkitError(f"{plugin}: {self.name} has no method for any event; they are {', '.join(EVENTS)}")

    def on_fit_start(self, fit: Fit) -> None:
        self._call("on_fit_start", fit)

    def on_step_end(self, fit: Fit, terms: dict[str, float]) -> None:
        self._call("on_step_end", fit, terms)

    def on_epoch_end(self, fit: Fit) -> None:
        self._call("on_epoch_end", fit)

    def on_fit_end(self, fit: Fit) -> None:
        self._call("on_fit_end", fit)

    def _call(self, event: str, fit: Fit, *more: Any) -> None:
        method = getattr(self.callback, event, None)
        if method is None:
            return
        try:
            method(fit, *more)
        except (Exception, SystemExit) as error:  # a stranger's code may raise anything
            raise FusionkitError(
                f"{self.plugin}: {self.name} fails in {event} of {fit.name}: {_told(error)}\n"
                f"{self.plugin.remedy}, and go on with --resume {fit.run_folder}"
            ) from error


def callbacks_of(recipe: Recipe, registry: Registry | None = None) -> list[PluginCallback]:
    """The callbacks that plugins have for a run.

    Args:
        recipe: of the run.
        registry: of the plugins; default: of those installed.

    Raises:
        FusionkitError: a plugin fails, or hands out what is no callback.
    """
    found: list[PluginCallback] = []
    for plugin in _implementations("fusionkit_callbacks", registry):
        try:
            provided = [callback for given in plugin.hook(recipe=recipe) for callback in given]
        except (Exception, SystemExit) as error:
            raise FusionkitError(f"{plugin}: fusionkit_callbacks fails: {_told(error)}\n{plugin.remedy}") from error
        found += [PluginCallback(callback, plugin) for callback in provided]
    return found


def sections_of(run: Run, tell: Callable[[str], None], registry: Registry | None = None) -> list[tuple[str, str]]:
    """The sections that plugins add to the report of a run; in the place of one that fails stands its traceback.

    Args:
        run: with its result, and with all files but report and `result.json`.
        tell: is told of what fails, in a line.
        registry: of the plugins; default: of those installed.
    """
    sections: list[tuple[str, str]] = []
    for plugin in _implementations("fusionkit_report_sections", registry):
        try:
            provided = [section for given in plugin.hook(run=run) for section in given]
            for section in provided:
                if not (isinstance(section, tuple) and list(map(type, section)) == [str, str]):
                    raise TypeError(f"a section is (title, text), not {section!r}")
            sections += provided
        except (Exception, SystemExit) as error:
            tell(f"warning: {plugin}: its report section fails: {_told(error)}; the report shows the traceback")
            sections.append((f"Failed: {plugin}", "".join(traceback.format_exception(error))))
    return sections


def packages_of_sections(registry: Registry | None = None) -> list[str]:
    """The packages that are asked for sections of a report."""
    return [plugin.owner for plugin in _implementations("fusionkit_report_sections", registry)]


@dataclass(frozen=True)
class _Implementation:
    """One plugin's own implementation of a hook: `hook(...)` hands back a list of what it returned, empty of None."""

    name: str
    owner: str
    hook: Callable[..., list[Any]]

    def __str__(self) -> str:
        return f"plugin {self.name} of {self.owner}"

    @property
    def remedy(self) -> str:
        return f"mend the plugin, or leave it out by {DISABLE_VARIABLE}={self.name}"


def _implementations(hook: str, registry: Registry | None) -> Iterator[_Implementation]:
    manager = (registry or load_registry()).manager
    for found in getattr(manager.hook, hook).get_hookimpls():
        owner, _, name = found.plugin_name.partition(":")
        others = [plugin for plugin in manager.get_plugins() if plugin is not found.plugin]
        yield _Implementation(name, owner, manager.subset_hook_caller(hook, others))


def _told(error: BaseException) -> str:
    return shorten(f"{type(error).__name__}: {error}", 300)
