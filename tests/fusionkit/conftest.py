"""A stranger's plugin package, and the command line called in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fusionkit import registry
from fusionkit.cli import app


@dataclass(frozen=True)
class Answer:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def fusionkit(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Call the command line: `fusionkit("check", "mosi")`."""

    def call(*words: object) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app([str(word) for word in words], prog_name="fusionkit")
        out, err = capsys.readouterr()
        return Answer(int(ended.value.code or 0), out, err)

    return call


@dataclass(frozen=True)
class Packages:
    """A folder on the path where tests put installed packages."""

    folder: Path

    def add(self, name: str, version: str = "1.2", **modules: str) -> None:
        """Install a distribution whose modules are these texts; the one called `plugin` is its entry point."""
        package = self.folder / name
        package.mkdir()
        (package / "__init__.py").touch()
        for module, text in modules.items():
            (package / f"{module}.py").write_text(text, encoding="utf-8")
        info = self.folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[fusionkit]\n{name} = {name}.plugin\n")


@pytest.fixture
def packages(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packages]:
    """Installed packages that come and go with the test."""
    folder = tmp_path_factory.mktemp("site-packages")
    monkeypatch.syspath_prepend(folder)
    registry._load.cache_clear()
    yield Packages(folder)
    registry._load.cache_clear()
    for module in [name for name, held in sys.modules.items() if str(folder) in str(getattr(held, "__file__", ""))]:
        del sys.modules[module]
