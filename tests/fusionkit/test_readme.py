"""What the README says works: its recipes, its data, its plugin and the commands on them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"<!-- readme: (\S+) -->\n```\w+\n(.*?)```", README, re.DOTALL))
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
COMMANDS = [line.split("#")[0].strip() for line in SHELL.splitlines() if line.startswith("fusionkit ")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with the README's recipes and data."""
    for name in ("tiles.yaml", "fields.yaml"):
        (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FUSIONKIT_DATA", raising=False)
    exec(compile(FILES["fields.py"], "README.md", "exec"), {})
    return tmp_path


def test_every_file_of_the_readme_is_tested_here():
    assert set(FILES) == {
        "tiles.yaml",
        "fields.py",
        "fields.yaml",
        "gated/fusion.py",
        "gated/plugin.py",
        "gated/test_fusion.py",
        "pyproject.toml",
    }


SLOWER = ("fusionkit run", "fusionkit data make", "fusionkit data prepare")


def test_preparing_data(fusionkit, folder, monkeypatch):
    """The command, on places made up in the folder that it names."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    (command,) = [command for command in COMMANDS if command.startswith("fusionkit data prepare")]
    words = shlex.split(command)[1:]
    assert fusionkit("data", "make", "urfc", words[-1], "--places", "30").code == 0
    answer = fusionkit(*words)
    assert answer.code == 0, answer.err
    assert list((folder / "cache").rglob("visits.npy"))


@pytest.mark.parametrize("command", [command for command in COMMANDS if not command.startswith(SLOWER)])
def test_the_quick_commands(fusionkit, folder, command):
    answer = fusionkit(*shlex.split(command)[1:])
    assert answer.code == 0, answer.err


def test_the_targets_of_make_that_it_names():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"^make (\w+)", SHELL, re.MULTILINE)) <= set(targets)


@pytest.mark.slow
def test_a_run_of_ones_own_data_leaves_the_files_named(fusionkit, folder):
    answer = fusionkit("run", "fields.yaml", "train.epochs=1", "baselines=false")
    assert answer.code == 0, answer.err
    there = {path.name for path in Path(answer.out.strip()).iterdir()}
    table = README.partition("| file | holds |")[2].partition("\n\n")[0]
    named = {
        name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1:2][0] if row else "")
    }
    assert len(named) > 10
    assert {name.rstrip("/") for name in named} <= there


def test_the_plugin(fusionkit, folder, packages):
    packages.add("gated", "0.1.0", **{name: FILES[f"gated/{name}.py"] for name in ("fusion", "plugin")})
    assert '[project.entry-points.fusionkit]\ngated = "gated.plugin"' in FILES["pyproject.toml"]
    shown = fusionkit("plugins", "show", "gated")
    assert "width of the result." in shown.out
    checked = fusionkit("check", "fields.yaml", "fusion=gated")
    assert checked.code == 0, checked.err
    assert "gated" in checked.out
    suite: dict = {}
    exec(compile(FILES["gated/test_fusion.py"], "README.md", "exec"), suite)
    tests = suite["TestGated"]()
    names = [name for name in dir(tests) if name.startswith("test_")]
    assert len(names) > 15
    for name in names:
        getattr(tests, name)()


def test_the_words_are_those_of_the_design():
    def words(file: str) -> dict[str, str]:
        section = (ROOT / file).read_text(encoding="utf-8").partition("## Words")[2].partition("\n## ")[0]
        return dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE))

    assert words("README.md") == words("DESIGN.md")
    assert "modality" in words("README.md")
