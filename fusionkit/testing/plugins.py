"""What every plugin module has to keep, rule by rule. Each check takes the module's name and raises a `Fault`.

`fusionkit plugins` and the reading of every recipe import all plugin modules, so each has to be light and whole.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint

from fusionkit.components import ENTRY_POINT_GROUP
from fusionkit.errors import RequestError
from fusionkit.registry import Registry, build_registry
from fusionkit.testing.fault import Fault

HEAVY = ("torch", "torchvision", "timm", "lightning", "transformers", "rasterio", "scipy", "sklearn", "matplotlib")
"""What takes long to import, and is needed only where a component is used."""


def it_loads(module: str) -> None:
    """The module can be imported, and its hooks are spelt and marked right."""
    (plugin,) = _registry(module).plugins
    if plugin.status != "ok":
        raise Fault("it_loads", f"{module} does not load: {plugin.why}")


def importing_is_light(module: str) -> None:
    """The module imports none of `HEAVY`; the classes that it lists are imported where a recipe uses them."""
    script = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run(  # noqa: S603 - a fresh interpreter, for what this one has imported already
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if done.returncode:
        return  # told by its own check
    if heavy := done.stdout.split():
        raise Fault(
            "importing_is_light",
            f"{module} imports {', '.join(heavy)}, and every command waits for it; "
            "name each class as Component(kind, name, 'package.module:Class') and leave its import to fusionkit",
        )


def components_are_there(module: str) -> None:
    """Every component that is listed can be imported, and its options are a schema."""
    registry = _registry(module)
    for entry in registry.components:
        component = entry.component
        try:
            registry.options(component.kind, component.name)
        except RequestError as error:
            raise Fault("components_are_there", f"{component.kind}:{component.name}: {error}") from error


CHECKS: tuple[Callable[[str], None], ...] = (it_loads, importing_is_light, components_are_there)


def _registry(module: str) -> Registry:
    return build_registry([EntryPoint(module, module, ENTRY_POINT_GROUP)])
