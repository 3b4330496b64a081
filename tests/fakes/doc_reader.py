"""Follows a page as a reader would: writes its files, types its commands, runs its code, checks its recipes.

What becomes of a block is said by its language and by marks, comments above it:

- `<!-- file: NAME -->`: it is written to this file; a recipe or a grid has to be valid, a script has to compile.
- `sh`: the lines are commands, in this order. `<!-- exits: 1 -->`: the last one ends with this code.
- `python`: it is run; blocks of a page share their names.
- `yaml` with `<!-- over: RECIPE -->`: it is laid over this recipe (a file of the page, or one that comes with
  fusionkit) and has to be valid. `---` divides alternatives.
- `text` with `<!-- printed -->`: the command above has printed these lines; `<!-- printed: other figures -->`: numbers
  may differ.
- `<!-- shown only: REASON -->`: it cannot run here. Commands and their options have to exist all the same, targets of
  make and extras too; YAML has to be valid, Python has to compile, shell to parse.

Anything else is an error. In commands, `RUN` stands for the folder of the latest run.
"""

from __future__ import annotations

import contextlib
import glob
import importlib
import io
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import tempfile
import tomllib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from doc_pages import ROOT, Block, PageError
from doc_stand_ins import Site, cut
from typer.testing import CliRunner

from fusionkit import catalogue, registry
from fusionkit.cli import app
from fusionkit.errors import RecipeError, RequestError
from fusionkit.grids import load_grid
from fusionkit.recipe import load_recipe
from fusionkit.yamlfile import load_yaml


@dataclass
class Reader:
    """One who follows a page.

    Args:
        folder: where they are; the current folder at first.
        site: where packages are installed.
    """

    folder: Path
    site: Site
    names: dict[str, Any] = field(default_factory=dict)
    printed: str = ""

    def follow(self, block: Block) -> None:
        """Do what a block says.

        Raises:
            PageError: it does not work, or is not understood.
        """
        try:
            self._follow(block)
        except PageError:
            raise
        except (Exception, SystemExit) as error:
            raise block.error(f"{type(error).__name__}: {error}") from error

    def _follow(self, block: Block) -> None:
        if "shown only" in block.marks:
            if not block.marks["shown only"]:
                raise block.error("say why it is only shown")
            _check_shown(block)
        elif "file" in block.marks:
            self._write(block)
        elif block.language == "sh":
            self._type(block)
        elif block.language == "python":
            with self._listening():
                exec(_compiled(block), self.names)
        elif block.language == "yaml" and "over" in block.marks:
            self._lay_over(block)
        elif block.language == "text" and "printed" in block.marks:
            self._compare(block)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)
        else:
            raise block.error(f"nothing is known of a block of {block.language!r} without a mark; see doc_reader.py")

    def _write(self, block: Block) -> None:
        path = Path(block.marks["file"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        match block.language:
            case "yaml":
                _check_yaml(_above(block) + block.text, path, block)
                path.write_text(block.text, encoding="utf-8")
            case "python":
                _compiled(block)
            case "sh" | "bash":
                _check_shell(block)
            case "toml":
                tomllib.loads(block.text)

    def _lay_over(self, block: Block) -> None:
        base = Path(block.marks["over"])
        base = base if base.exists() else catalogue.locate(block.marks["over"])
        path = self.folder / Path(block.page).with_suffix(".yaml").name
        line = block.line
        for document in re.split(r"^---\n", block.text, flags=re.MULTILINE):
            _check_yaml("\n" * (line - 1) + document + f"base: {base.absolute()}\n", path, block)
            line += document.count("\n") + 1

    def _compare(self, block: Block) -> None:
        """Lines may be broken otherwise, and of a table with other figures the first cells are compared."""
        other_figures = block.marks["printed"] == "other figures"

        def plain(text: str) -> str:
            return " ".join(re.sub(r"[-+]?\d[\d.,]*", "0", text).split() if other_figures else text.split())

        printed = plain(self.printed)
        for paragraph in re.split(r"\n(?=\s*\n|\|)", block.text):
            told = plain(paragraph)
            if other_figures and told.startswith("|"):
                told = told[: told.index("|", 1) + 1]
            if told not in printed:
                raise block.error(f"nothing like {told!r} was printed, but\n{self.printed}")

    def _type(self, block: Block) -> None:
        typed = list(_lines(block))
        with self._listening():
            for number, words in typed:
                expected = int(block.marks.get("exits", 0)) if (number, words) == typed[-1] else 0
                variables = dict(word.split("=", 1) for word in takewhile(_VARIABLE.match, words))
                name, *rest = words[len(variables) :]
                if name not in _COMMANDS:
                    raise block.error(f"{name!r} is not understood; see doc_reader.py", number)
                with _own_process(self.folder), patch.dict(os.environ, variables):
                    code = _COMMANDS[name](self, self._expanded(rest))
                if code != expected:
                    raise block.error(f"{' '.join(words)} ended with {code}\n{self._heard()}", number)

    def _expanded(self, words: Sequence[str]) -> list[str]:
        found: list[str] = []
        for word in words:
            if re.search(r"\bRUN\b", word):
                latest = max(self.folder.glob("runs/*/result.json"), key=lambda path: path.stat().st_mtime_ns).parent
                word = re.sub(r"(runs/)?\bRUN\b", latest.relative_to(self.folder).as_posix(), word)
            found += sorted(glob.glob(word)) if re.search(r"[*?]", word) else [word]
        return found

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Keep what is printed meanwhile as that of the latest block."""
        self._heard_now = io.StringIO()
        try:
            with contextlib.redirect_stdout(self._heard_now), contextlib.redirect_stderr(self._heard_now):
                yield
        finally:
            self.printed = self._heard()

    def _heard(self) -> str:
        return self._heard_now.getvalue()

    def fusionkit(self, words: list[str]) -> int:
        done = CliRunner().invoke(app, cut(words), prog_name="fusionkit")
        print(done.output)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code

    def python(self, words: list[str]) -> int:
        match words:
            case ["-m", ("pytest" | "pip") as module, *rest]:
                return _COMMANDS[module](self, rest)
            case _:
                runpy.run_path(words[0], run_name="__main__")
                return 0

    def pytest(self, words: list[str]) -> int:
        with warnings.catch_warnings():
            return int(pytest.main([*words, "-p", "no:cacheprovider", "--capture=sys", "--rootdir", str(Path.cwd())]))

    def cd(self, words: list[str]) -> int:
        os.chdir(words[0])
        return 0

    def pip(self, words: list[str]) -> int:
        match words:
            case ["install", *_, package] if Path(folder := package.partition("[")[0], "pyproject.toml").is_file():
                self.site.install(Path(folder).resolve())
            case ["uninstall", *_, package]:
                self.site.uninstall(package)
            case _:
                raise RequestError(f"pip {' '.join(words)} needs a package index; mark it as shown only")
        return 0


_COMMANDS: dict[str, Callable[[Reader, list[str]], int]] = {
    "fusionkit": Reader.fusionkit,
    "python": Reader.python,
    "pytest": Reader.pytest,
    "pip": Reader.pip,
    "cd": Reader.cd,
}


_VARIABLE = re.compile(r"[A-Z_]+=")


@contextlib.contextmanager
def _own_process(folder: Path) -> Iterator[None]:
    """What a process of its own would see: files as they are now, and packages as they are installed now."""
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    registry._load.cache_clear()
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = written
        registry._load.cache_clear()
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", "")).startswith(str(folder)):
                del sys.modules[name]


def _lines(block: Block) -> Iterator[tuple[int, list[str]]]:
    """The commands of a block, each with its line on the page."""
    held, first = "", 0
    for number, line in enumerate(block.text.splitlines(), block.line):
        held, first = held + line, first if held else number
        if held.endswith("\\"):
            held = held.removesuffix("\\")
            continue
        if words := shlex.split(held, comments=True):
            yield first, words
        held = ""


def check_command(words: Sequence[str]) -> None:
    """A command that is not run: it, its options, targets and extras exist.

    Raises:
        RequestError: they do not.
    """
    match words:
        case ["fusionkit", *rest]:
            told = CliRunner().invoke(app, [*rest, "--help"], prog_name="fusionkit")
            if told.exit_code:
                raise RequestError(told.output.strip() or str(told.exception))
        case ["make", *targets]:
            known = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
            if unknown := set(targets) - known:
                raise RequestError(f"the Makefile has no {', '.join(unknown)}")
        case ["pip", "install", *what] | ["python", "-m", "pip", "install", *what]:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            for extras in re.findall(rf"{project['name']}\[(.*?)\]", " ".join(what)):
                if unknown := set(extras.split(",")) - set(project["optional-dependencies"]):
                    raise RequestError(f"{project['name']} has no extra {', '.join(unknown)}")
        case ["python", script, *_] if script.endswith(".py") and not (ROOT / script).is_file():
            raise RequestError(f"there is no {script}")


def _check_shown(block: Block) -> None:
    match block.language:
        case "sh":
            _check_shell(block)
            for number, words in _lines(block):
                try:
                    check_command(words)
                except RequestError as error:
                    raise block.error(str(error), number) from None
        case "python":
            _compiled(block)
        case "yaml":
            with tempfile.TemporaryDirectory() as folder:
                _check_yaml(_above(block) + block.text, Path(folder, "shown.yaml"), block)
        case "json":
            json.loads(block.text)


def _check_yaml(text: str, path: Path, block: Block) -> None:
    """Write YAML to this file, and see that it is valid: as a recipe or a grid if it is one.

    Args:
        text: what stands in the block, with as many empty lines before it as there are lines above it on the page.
    """
    path.write_text(text, encoding="utf-8")
    try:
        data = load_yaml(text, str(path)).data
        if isinstance(data, dict) and {"axes", "remove"} & data.keys():
            load_grid(path)
        elif isinstance(data, dict) and {"modalities", "base"} & data.keys():
            load_recipe(path)
    except RecipeError as error:
        first = error.problems[0].position
        told = "; ".join(f"{problem.key}: {problem.message}" for problem in error.problems)
        raise block.error(told, first.line if first.file == str(path) else block.line) from error


def _check_shell(block: Block) -> None:
    told = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    if told.returncode:
        raise block.error(told.stderr.strip())


def _above(block: Block) -> str:
    """Empty lines in the place of what stands above a block, so that errors name the lines of the page."""
    return "\n" * (block.line - 1)


def _compiled(block: Block) -> Any:
    """The code of a block."""
    try:
        return compile(_above(block) + block.text, block.page, "exec")
    except SyntaxError as error:
        raise block.error(f"SyntaxError: {error.msg}", error.lineno) from None
