"""`fusionkit plugins new`: a small package of a plugin that works as written, from templates.

Each holds one method, tests that inherit the suite of its kind, and a recipe that runs in seconds.
"""

from __future__ import annotations

import ast
import keyword
import re
import shlex
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jinja2
import yaml
from packaging.version import Version

from fusionkit import packages
from fusionkit.components import DISTRIBUTION, KINDS, PLUGIN_API
from fusionkit.errors import RequestError, nearest
from fusionkit.registry import Registry


@dataclass(frozen=True)
class Example:
    """What the method in the package of one kind is.

    Args:
        a_kind: the kind in words, with its article.
        summary: of the method, one line.
        usage: how a recipe names it; nothing where it is part of every run.
    """

    a_kind: str
    summary: str
    usage: str = ""


EXAMPLES = {
    "fusion": Example("a fusion", "adds the modalities up, each through a gate", "fusion: {}"),
    "loss": Example("a loss", "Poly-1, cross-entropy whose first polynomial term weighs more", "loss: {}"),
    "encoder": Example("an encoder", "residual blocks for vectors", "modalities: {{spectrum: {}}}"),
    "dataset": Example("a dataset", "one folder a modality, one file a sample", "data: {{source: {}, root: data}}"),
    "metric": Example("a metric", "geometric mean of the producer's accuracies", "metrics: [{}]"),
    "augmentation": Example("an augmentation", "random erasing of a rectangle of the ground", "augment: [{}]"),
    "callbacks": Example("callbacks", "the size of the weights of each part, epoch by epoch"),
    "report-section": Example("a report section", "the classes that are most often confused"),
}
"""By kind of package."""
RESERVED = frozenset({"build", "data", "dist", "make_data", "plugin", "runs", "tests"})
"""Modules and folders that the package has, or that git ignores."""


@dataclass(frozen=True)
class Names:
    """What the parts of a package are called.

    Args:
        package: the distribution, as `fusionkit-film`.
        kind: a key of `EXAMPLES`.
        module: its importable package, `fusionkit_film`.
        name: the file of the method, `film`.
        title: its class, `Film`.
        component: what a recipe calls it; empty of callbacks and report sections.
    """

    package: str
    kind: str
    module: str
    name: str
    title: str
    component: str


@dataclass(frozen=True)
class Written:
    """A package that was written.

    Args:
        folder: where.
        files: all of them, relative to the folder.
        names: what its parts are called.
        notes: what is not as one would expect.
        commands: to install, test and run it.
    """

    folder: Path
    files: tuple[Path, ...]
    names: Names
    notes: tuple[str, ...]
    commands: tuple[str, ...]


def write_package(package: str, kind: str, to: Path | None, registry: Registry) -> Written:
    """Write the package of a plugin. Nothing is overwritten.

    Args:
        package: the name of the distribution.
        kind: of what it provides; `report_section` and `report section` are `report-section`.
        to: the folder, which is made; by default one of the package's name.
        registry: the plugins that are installed.

    Raises:
        RequestError: the name or the kind is refused, or the folder is there already and not empty.
    """
    kind = _kind(kind)
    names, notes = _names(package, kind, registry)
    texts = render(names)
    _hold_apart(names, texts)
    folder = to or Path(package)
    _write(folder, texts)
    commands = (
        f'cd {shlex.quote(str(folder))} && python -m pip install -e ".[test]"',
        "python -m pytest",
        f"{_data_command(names)} && fusionkit run recipe.yaml",
    )
    return Written(folder, tuple(map(Path, texts)), names, notes, commands)


def render(names: Names) -> dict[str, str]:
    """The text of each file of the package, by its path."""
    # There is no HTML among them.
    environment = jinja2.Environment(  # noqa: S701
        loader=jinja2.PackageLoader("fusionkit", "templates/plugin"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    example = EXAMPLES[names.kind]
    told: Mapping[str, Any] = asdict(names) | {
        "a_kind": example.a_kind,
        "summary": example.summary,
        "usage": example.usage.format(names.component),
        "requirement": requirement(version(DISTRIBUTION)),
        "plugin_api": PLUGIN_API,
        "data_command": _data_command(names),
    }
    own = names.kind.replace("-", "_")
    templates = {
        "README.md": "README.md",
        "pyproject.toml": "pyproject.toml",
        ".gitignore": "gitignore",
        ".github/workflows/test.yml": "test.yml",
        f"{names.module}/__init__.py": "init.py",
        f"{names.module}/plugin.py": "plugin.py",
        f"{names.module}/{names.name}.py": "method.py",
        f"tests/test_{names.name}.py": "test.py",
        "recipe.yaml": "recipe.yaml",
    }
    if names.kind != "dataset":
        templates["make_data.py"] = "make_data.py"
    return {
        path: environment.select_template([f"{own}/{template}.j2", f"{template}.j2"]).render(told)
        for path, template in templates.items()
    }


def requirement(installed: str) -> str:
    """The versions of fusionkit that a package made with this one is for: those of the same minor version."""
    found = Version(installed)
    least = found.public if found.is_prerelease else f"{found.major}.{found.minor}"  # 0.2.dev1 is below 0.2
    return f"{DISTRIBUTION}>={least},<{found.major}.{found.minor + 1}"


def _kind(text: str) -> str:
    kind = re.sub(r"[\s_-]+", "-", text.strip().lower())
    if kind not in EXAMPLES:
        near = nearest(kind, EXAMPLES)
        hint = f"did you mean {near!r}? " if near else ""
        raise RequestError(f"there is no kind of plugin {text!r}; {hint}kinds are {', '.join(EXAMPLES)}")
    return kind


def _names(package: str, kind: str, registry: Registry) -> tuple[Names, tuple[str, ...]]:
    """What the parts are called, and what of it is not as one would expect."""
    if not re.fullmatch(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?", package, re.ASCII):
        raise RequestError(f"{package!r} is no name of a package; use letters and digits, with `-` between words")
    module = re.sub(r"[-_.]+", "_", package).lower()
    name = module.removeprefix("fusionkit_")
    title = "".join(word.capitalize() for word in name.split("_"))
    for what, part in (("module", module), ("file", name), ("class", title)):
        named = part.isidentifier() and not keyword.iskeyword(part) and yaml.safe_load(part) == part
        if not named or part in RESERVED:
            raise RequestError(
                f"the {what} of {package!r} would be called {part!r}, which cannot be; choose another name"
            )
    if there := _installed(package, module):
        raise RequestError(f"{there} is installed already; choose another name for the package")
    if kind not in KINDS:
        return Names(package, kind, module, name, title, ""), ()
    taken = {entry.component.name: entry.plugin.owner for entry in registry.components if entry.component.kind == kind}
    if name not in taken:
        return Names(package, kind, module, name, title, name), ()
    told = f"a {kind} {name!r} is there already, from {taken[name]}"
    if module in taken or module == name:
        raise RequestError(f"{told}; choose another name for the package")
    return Names(package, kind, module, name, title, module), (f"{told}: recipes call this one {module!r}",)


def _installed(package: str, module: str) -> str:
    """What is there of this name."""
    if (there := packages.installed(package)) is not None:
        return f"{package} {there}"
    standard = module in sys.stdlib_module_names
    return f"a module {module!r}" if standard or find_spec(module) is not None else ""


def _hold_apart(names: Names, texts: Mapping[str, str]) -> None:
    """Refuse a class that is called as something that its file imports or defines besides."""
    for path, text in texts.items():
        if not path.endswith(".py"):
            continue
        bound: Counter[str] = Counter()
        for node in ast.parse(text).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                bound.update(alias.asname or alias.name for alias in node.names)
            elif isinstance(node, ast.ClassDef | ast.FunctionDef):
                bound[node.name] += 1
        if twice := [name for name, count in bound.items() if count > 1]:
            raise RequestError(
                f"the class of {names.package!r} would be called {twice[0]!r}, as another one that it needs; "
                "choose another name"
            )


def _data_command(names: Names) -> str:
    return f"fusionkit data make {names.component} data" if names.kind == "dataset" else "python make_data.py"


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RequestError(f"{folder} is there already and not empty; name another folder with --to")
        for path, text in texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with (folder / path).open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
    except OSError as error:
        raise RequestError(f"{error.filename or folder} cannot be written: {error.strerror}") from None
