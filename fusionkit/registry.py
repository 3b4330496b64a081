"""Finds plugins through entry points and pluggy, and the components they provide.

A broken plugin never takes the program down: it is kept with its owner and the reason. Nothing here imports torch;
a component's class is imported by `Registry.resolve` alone.
"""

from __future__ import annotations

import os
import re
import traceback
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points, version
from inspect import isroutine
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal

import pluggy

from fusionkit.components import DISTRIBUTION, ENTRY_POINT_GROUP, PLUGIN_API, Component, Hooks
from fusionkit.errors import RequestError, suggestion
from fusionkit.packages import lacking

if TYPE_CHECKING:
    from fusionkit.options import Options

DISABLE_VARIABLE = "FUSIONKIT_DISABLE_PLUGINS"
_BASES = {"augmentation": ("Augmentation", "Mixing")}
"""Of which classes a component may be, where that is not the kind's own name alone."""


class Unusable(RequestError):  # noqa: N818 - it is no error of fusionkit
    """A component or plugin that is installed and cannot be used.

    Args:
        what: it, in words.
        reason: what is wrong with it, as the rest of a sentence.
        remedy: what its user may do.
        status: as in `fusionkit plugins`.
    """

    def __init__(
        self, what: str, reason: str, remedy: str = "", status: Literal["broken", "clash", "needs extra"] = "broken"
    ):
        self.what, self.reason, self.remedy, self.status = what, reason, remedy, status
        super().__init__(f"{what} {reason}; {remedy}" if remedy else f"{what} {reason}")


@dataclass
class Plugin:
    """One entry point of the group `fusionkit`, as `fusionkit plugins` shows it.

    Args:
        name: the entry point's name.
        owner: the distribution that declares it.
        version: that distribution's version.
        status: whether it loaded.
        reason: one line on why it did not.
        remedy: what its user may do, where that is known.
        traceback: the whole story, for `-v`.
    """

    name: str
    owner: str
    version: str
    status: Literal["ok", "broken", "disabled"] = "ok"
    reason: str = ""
    remedy: str = ""
    traceback: str = ""

    @property
    def why(self) -> str:
        """Reason and remedy."""
        return "; ".join(filter(None, [self.reason, self.remedy]))

    def fail(self, error: BaseException) -> None:
        self.status = "broken"
        if isinstance(error, Unusable):
            self.reason, self.remedy = error.reason, error.remedy
        else:
            self.reason, self.remedy = _in_a_line(error), _remedy(error)
        self.traceback = "".join(traceback.format_exception(error))


@dataclass(frozen=True)
class Entry:
    """A component and the plugin that provides it; `clash` where another plugin offers the same kind and name."""

    component: Component
    plugin: Plugin
    clash: bool = False

    @property
    def status(self) -> Literal["ok", "clash", "needs extra"]:
        if self.clash:
            return "clash"
        return "needs extra" if self.component.extra and lacking(self.component.extra) else "ok"


@dataclass
class Registry:
    """All plugins found and the components of those that loaded."""

    plugins: list[Plugin] = field(default_factory=list)
    components: list[Entry] = field(default_factory=list)
    manager: pluggy.PluginManager = field(default_factory=lambda: _manager())

    def names(self, kind: str) -> list[str]:
        """The names of all components of one kind, sorted."""
        return sorted({entry.component.name for entry in self.components if entry.component.kind == kind})

    def find(self, name: str) -> list[Entry]:
        """The entries that `name` or `kind:name` may mean."""
        kind, _, bare = name.rpartition(":")
        return [e for e in self.components if e.component.name == bare and kind in ("", e.component.kind)]

    def get(self, kind: str, name: str) -> Entry:
        """The one entry of this kind and name.

        Raises:
            RequestError: there is none (with the nearest spelling), or two packages offer it.
        """
        found = [e for e in self.components if (e.component.kind, e.component.name) == (kind, name)]
        if not found:
            hint = suggestion(name, self.names(kind))
            broken = [plugin for plugin in self.plugins if plugin.status != "ok"]
            if broken:
                listed = ", ".join(f"{p.name} of {p.owner} ({p.status})" for p in broken)
                hint += f" (not loaded: {listed}; see `fusionkit plugins`)"
            raise RequestError(f"no {kind} is named {name!r}{hint}")
        if len(found) > 1:
            owners = " and ".join(f"{e.plugin.owner} ({e.plugin.name})" for e in found)
            remedy = f"uninstall one, or name its plugin in {DISABLE_VARIABLE}"
            raise Unusable(f"{kind} {name!r}", f"is offered by {owners}", remedy, "clash")
        return found[0]

    def resolve(self, kind: str, name: str) -> Any:
        """Import the class of a component.

        Raises:
            RequestError: as for `get`; or the class cannot be imported, or is not of its kind.
        """
        entry = self.get(kind, name)
        component = entry.component
        what = f"{kind} {name!r} of {entry.plugin.owner}"
        module, _, attribute = component.target.partition(":")
        try:
            imported = import_module(module)
        except (Exception, SystemExit) as error:  # a stranger's import may raise anything
            told = _in_a_line(error)
            gone = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
            if component.extra and isinstance(error, ImportError) and not f"{module}.".startswith(f"{gone}."):
                remedy = f"pip install '{component.extra}'"
                raise Unusable(what, f"needs more than is installed ({told})", remedy, "needs extra") from error
            raise Unusable(what, f"cannot be imported: {told}", _remedy(error)) from error
        if not hasattr(imported, attribute):
            raise Unusable(what, f"is broken: {module} has no {attribute!r}")
        target = getattr(imported, attribute)
        contract = import_module("fusionkit.contract")
        bases = [getattr(contract, base, object) for base in _BASES.get(kind, (kind.capitalize(),))]
        if not (isinstance(target, type) and issubclass(target, tuple(bases))):
            names = " or ".join(f"fusionkit.{base.__name__}" for base in bases)
            raise Unusable(what, f"is broken: {component.target} is no subclass of {names}")
        if missing := sorted(getattr(target, "__abstractmethods__", ())):
            raise Unusable(what, f"is broken: {component.target} does not implement {', '.join(missing)}")
        return target

    def options(self, kind: str, name: str) -> type[Options]:
        """The model of a component's options.

        Raises:
            RequestError: as for `resolve`; or its constructor is no schema, or an option has the name of a key of the
                core that stands beside it.
        """
        target = self.resolve(kind, name)
        # Here, as only a component's class needs them: listing plugins stays quick.
        from fusionkit.options import options_model
        from fusionkit.sections import keys_beside

        try:
            model = options_model(target)
            if taken := model.model_fields.keys() & keys_beside(kind):
                raise TypeError(f"its option {min(taken)!r} has the name of a key of the core")
        except (TypeError, ValueError) as error:
            what = f"{kind} {name!r} of {self.get(kind, name).plugin.owner}"
            raise Unusable(what, f"is broken: {error}") from error
        return model


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(ENTRY_POINT_GROUP)
    manager.add_hookspecs(Hooks)
    return manager


def load_registry() -> Registry:
    """Load every installed plugin that is not disabled; the result is kept for the life of the process."""
    disabled = frozenset(filter(None, os.environ.get(DISABLE_VARIABLE, "").replace(" ", "").split(",")))
    return _load(disabled)


@cache
def _load(disabled: frozenset[str]) -> Registry:
    return build_registry(entry_points(group=ENTRY_POINT_GROUP), disabled)


def build_registry(points: Iterable[EntryPoint], disabled: Iterable[str] = ()) -> Registry:
    """Load these entry points; `disabled` names entry points or distributions that are not to be imported."""
    registry, skip = Registry(), {_canonical(name) for name in disabled}
    found: list[tuple[Component, Plugin]] = []
    for plugin, point in sorted(((_plugin(point), point) for point in points), key=lambda p: (p[0].owner, p[0].name)):
        registry.plugins.append(plugin)
        if skip & {_canonical(name) for name in (plugin.name, plugin.owner, f"{plugin.owner}:{plugin.name}")}:
            plugin.status, plugin.reason = "disabled", f"named in {DISABLE_VARIABLE}"
            continue
        try:
            module = point.load()
            _hold_to_api(module, plugin)
            components = _components(module)
            registry.manager.register(module, f"{plugin.owner}:{plugin.name}")
        except (Exception, SystemExit) as error:  # a stranger's import may raise anything
            plugin.fail(error)
        else:
            found += [(component, plugin) for component in components]
    owners: dict[tuple[str, str], list[Plugin]] = defaultdict(list)
    for component, plugin in found:
        owners[component.kind, component.name].append(plugin)
    registry.components = [Entry(c, p, clash=len(owners[c.kind, c.name]) > 1) for c, p in found]
    return registry


def _canonical(name: str) -> str:
    """A name without what package indexes take for the same: `My_Package` is `my-package`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _plugin(point: EntryPoint) -> Plugin:
    # An interrupted installation may leave a distribution without its metadata, which importlib_metadata raises: some
    # packages put that in the place of the standard library's.
    try:
        told = point.dist.metadata.json if point.dist else {}
    except FileNotFoundError:
        told = {}
    return Plugin(point.name, str(told.get("name", "?")), str(told.get("version", "?")))


def _in_a_line(error: BaseException) -> str:
    return shorten(f"{type(error).__name__}: {error}", 300)


def _remedy(error: BaseException) -> str:
    """What to do where something of fusionkit is imported that is not there; else nothing is known."""
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "fusionkit":
        return f"it does not fit {DISTRIBUTION} {version(DISTRIBUTION)}: upgrade one of the two"
    return ""


def _hold_to_api(module: Any, plugin: Plugin) -> None:
    """Refuse a plugin that was made for another version of the plugin API.

    Raises:
        Unusable: it was; the remedy is what to upgrade.
        TypeError: what it states is no version.
    """
    stated = getattr(module, "PLUGIN_API", 1)
    if type(stated) is not int:
        raise TypeError(
            f"PLUGIN_API is {stated!r}; write the version of the plugin API that the plugin was made for, "
            f"as PLUGIN_API = {PLUGIN_API}"
        )
    if stated != PLUGIN_API:
        made_by = "the plugin" if plugin.owner == "?" else plugin.owner
        behind = DISTRIBUTION if stated > PLUGIN_API else made_by
        raise Unusable(
            f"plugin {plugin.name} of {plugin.owner}",
            f"was made for version {stated} of the plugin API, and {DISTRIBUTION} {version(DISTRIBUTION)} serves "
            f"version {PLUGIN_API}",
            f"upgrade {behind}",
        )


def _components(module: Any) -> list[Component]:
    """The records of a plugin that is found to be right.

    Raises:
        TypeError: a hook is misspelt, not marked or missing, or yields something else than records.
    """
    hooks = [name for name in vars(Hooks) if not name.startswith("_")]
    routines = {name: found for name in dir(module) if isroutine(found := getattr(module, name))}
    marked = {name for name, found in routines.items() if hasattr(found, f"{ENTRY_POINT_GROUP}_impl")}
    for name in sorted(marked.union(name for name in routines if name.startswith(f"{ENTRY_POINT_GROUP}_"))):
        if name not in hooks:
            raise TypeError(f"{name} is no hook of fusionkit{suggestion(name, hooks)}")
        if name not in marked:
            raise TypeError(f"{name} is not marked with @fusionkit.hookimpl")
    if not marked:
        raise TypeError(f"there is no hook in it; hooks are {', '.join(hooks)}")
    if "fusionkit_components" not in marked:
        return []
    components = module.fusionkit_components()
    components = list(components) if isinstance(components, Iterable) else [components]
    seen: set[tuple[str, str]] = set()
    for component in components:
        if not isinstance(component, Component):
            raise TypeError(f"fusionkit_components must yield Component records, not {component!r}")
        if (component.kind, component.name) in seen:
            raise TypeError(f"fusionkit_components yields {component.kind} {component.name!r} twice")
        seen.add((component.kind, component.name))
    return components
