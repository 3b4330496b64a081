"""Fresh environments: the wheel of the checkout and plugin packages, installed offline as a user would install them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", "__pycache__", "*.egg-info", "build", "dist", "runs", "data"
)


def call(*words: object, cwd: Path, given: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command that must succeed, without anything of this process's Python in its environment.

    Args:
        words: the program and its arguments.
        cwd: the folder in which it runs.
        given: its standard input.
        variables: of its environment.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "FUSIONKIT"))}
    done = subprocess.run(
        list(map(str, words)),
        cwd=cwd,
        env=environment | variables,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


@dataclass(frozen=True)
class Distributions:
    """What a release is: a clean copy of the checkout, the sdist of it, and the wheel made from that sdist."""

    copy: Path
    sdist: Path
    wheel: Path


def build(folder: Path) -> Distributions:
    """Build the checkout within this folder, unless that has been done before."""
    copy = folder / "fusionkit"
    if not copy.exists():
        shutil.copytree(ROOT, copy, ignore=_LEFT_OUT)
        call(sys.executable, "-m", "build", "--no-isolation", "--outdir", copy / "out", cwd=copy)
    [sdist], [wheel] = (copy / "out").glob("*.tar.gz"), (copy / "out").glob("*.whl")
    return Distributions(copy, sdist, wheel)


class Answer(NamedTuple):
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


_COMMANDS = """
import io, json, os, sys, traceback
from contextlib import redirect_stderr, redirect_stdout
from fusionkit.cli import app

answers = []
for folder, words in json.load(sys.stdin):
    os.chdir(folder)
    code = 0
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            app(words, prog_name="fusionkit")
        except SystemExit as ended:
            code = int(ended.code or 0)
        except Exception:
            traceback.print_exc()
            code = 1
    answers.append((code, out.getvalue(), err.getvalue()))
json.dump(answers, sys.stdout)
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment of its own, in which the third-party packages of this one are visible.

    Args:
        home: the folder in which all of it lies.
        programs: the folder of its programs, `python` and `fusionkit` among them.
        packages: the folder of what is installed in it.
    """

    home: Path
    programs: Path
    packages: Path

    @classmethod
    def create(cls, home: Path, wheel: Path) -> Environment:
        """Make it within this folder and install the wheel in it."""
        venv.create(home / "env", with_pip=False, symlinks=True)
        programs = home / "env" / ("Scripts" if os.name == "nt" else "bin")
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        [packages] = call(programs / "python", "-c", ask, cwd=home).stdout.splitlines()
        environment = cls(home, programs, Path(packages))
        environment._pip("install", "--no-deps", wheel)
        # A path in a .pth file is not searched for further .pth files: the checkout's own install stays out of sight.
        visible = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
        (environment.packages / "dependencies.pth").write_text("\n".join(visible) + "\n")
        return environment

    @property
    def sources(self) -> Path:
        """The folder of copies of the packages that were installed."""
        return self.home / "sources"

    def install(self, *folders: Path) -> None:
        """Install packages from copies of their source folders; what they depend on has to be there."""
        copies = [shutil.copytree(folder, self.sources / folder.name, ignore=_LEFT_OUT) for folder in folders]
        self._pip("install", "--no-build-isolation", *copies)

    def uninstall(self, *names: str) -> None:
        """Uninstall distributions."""
        self._pip("uninstall", "--yes", *names)

    def python(self, *words: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run its interpreter with these arguments, which must succeed."""
        return call(self.programs / "python", *words, cwd=cwd, **variables)

    def fusionkit(self, *words: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run its `fusionkit` command with these arguments, which must succeed."""
        return call(self.programs / "fusionkit", *words, cwd=cwd, **variables)

    def commands(self, commands: Iterable[tuple[Path, Iterable[object]]], **variables: str) -> list[Answer]:
        """Call the command line, one command after the other in one process, which spares the imports of each.

        Args:
            commands: of each the folder in which it is called, and its arguments.
            variables: of the process's environment.
        """
        told = json.dumps([(str(folder), list(map(str, words))) for folder, words in commands])
        # -P: as where a program is called, what lies in the current folder is not imported.
        done = call(self.programs / "python", "-P", "-c", _COMMANDS, cwd=self.home, given=told, **variables)
        return [Answer(*answer) for answer in json.loads(done.stdout)]

    def _pip(self, action: str, *words: object) -> None:
        offline = ["--no-index"] if action == "install" else []
        call(
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", self.programs / "python"),
            *(action, *offline, *words),
            cwd=self.home,
        )
