"""Fresh environments: the wheel of the checkout and plugin packages, installed offline as a user would install them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", "__pycache__", "*.egg-info", "build", "dist", "runs", "data"
)


def call(*words: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command that must succeed, without anything of this process's Python in its environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "FUSIONKIT"))}
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env=environment | variables, capture_output=True, text=True, check=False
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
    """Build the checkout within this empty folder."""
    copy = folder / "fusionkit"
    shutil.copytree(ROOT, copy, ignore=_LEFT_OUT)
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", copy / "out", cwd=copy)
    [sdist], [wheel] = (copy / "out").glob("*.tar.gz"), (copy / "out").glob("*.whl")
    return Distributions(copy, sdist, wheel)


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

    def install(self, *folders: Path) -> None:
        """Install packages from their source folders, which stay as they are; what they depend on has to be there."""
        copies = [
            shutil.copytree(folder, self.home / "sources" / folder.name, ignore=_LEFT_OUT, dirs_exist_ok=True)
            for folder in folders
        ]
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

    def _pip(self, action: str, *words: object) -> None:
        offline = ["--no-index"] if action == "install" else []
        call(
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", self.programs / "python"),
            *(action, *offline, *words),
            cwd=self.home,
        )
