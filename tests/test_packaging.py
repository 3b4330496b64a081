"""The sdist and the wheel: what is inside, and that the wheel works in a fresh environment, from any folder."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from fresh import ROOT, Environment, call

IMPORTABLE = [folder for place in (".", "plugins", "datasets") for folder in (ROOT / place).glob("fusionkit*/")]
PACKAGES = [folder for folder in IMPORTABLE if (folder / "__init__.py").is_file()]


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """A fresh environment with the wheel in it and its dependencies visible."""
    return Environment.create(tmp_path_factory.mktemp("fresh"), built.wheel)


def python_files(folders: list[Path]) -> set[str]:
    """Every module of these packages, as it is named in a wheel."""
    return {path.relative_to(folder.parent).as_posix() for folder in folders for path in folder.rglob("*.py")}


def test_the_wheel_holds_every_module_and_nothing_else_on_top(built):
    names = zipfile.ZipFile(built.wheel).namelist()
    assert {name for name in names if name.endswith(".py")} == python_files(PACKAGES)
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {folder.name for folder in PACKAGES}


def test_the_wheel_holds_recipes_and_what_reports_need(built):
    names = set(zipfile.ZipFile(built.wheel).namelist())
    assert {f"fusionkit/_recipes/{path.name}" for path in (ROOT / "recipes").glob("*.yaml")} <= names
    files = [path for folder in ("templates", "fonts") for path in (ROOT / "fusionkit" / folder).rglob("*.*")]
    assert files
    assert {path.relative_to(ROOT).as_posix() for path in files} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_a_wheel_of_the_checkout_is_that_of_the_sdist(built, tmp_path):
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, cwd=built.copy)
    [direct] = tmp_path.glob("*.whl")
    assert sorted(zipfile.ZipFile(direct).namelist()) == sorted(zipfile.ZipFile(built.wheel).namelist())


def test_the_sdist_holds_what_one_needs_to_build_and_test(built):
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"LICENSE", "README.md", "Makefile", "constraints.txt", "pyproject.toml", "tests/conftest.py"}
    wanted |= {"README.zh-CN.md", "mkdocs.yml", "docs/losses.md", "docs/_hooks/site_hooks.py"}
    assert wanted <= names
    assert {f"recipes/{path.name}" for path in (ROOT / "recipes").glob("*.yaml")} <= names


def test_the_editable_install_finds_the_recipes_of_the_checkout():
    from fusionkit import catalogue

    assert catalogue.folder() == ROOT / "recipes"


def test_the_environment_runs_the_wheel_and_not_the_checkout(installed, tmp_path):
    ask = "import fusionkit, fusionkit_fusions; print(fusionkit.__file__); print(fusionkit_fusions.__file__)"
    for file in installed.python("-c", ask, cwd=tmp_path).stdout.splitlines():
        assert Path(file).is_relative_to(installed.packages)


def test_the_installed_command_works_from_another_folder(installed, tmp_path):
    assert "recipes" in installed.fusionkit("--help", cwd=tmp_path).stdout
    plugins = installed.fusionkit("plugins", cwd=tmp_path).stdout
    assert "broken" not in plugins
    assert plugins.count("concat ") == 1  # once, although another install is in sight
    listed = installed.fusionkit("recipes", cwd=tmp_path).stdout
    assert {path.stem for path in (ROOT / "recipes").glob("*.yaml")} <= set(listed.split())
    installed.fusionkit("recipes", "copy", "mosi", cwd=tmp_path)
    assert (tmp_path / "mosi.yaml").read_text() == (ROOT / "recipes" / "mosi.yaml").read_text()
    assert "total" in installed.fusionkit("check", "mosi.yaml", cwd=tmp_path).stdout


def test_pins_cover_what_is_installed_and_nothing_local():
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = {Requirement(line).name: Requirement(line).specifier for line in lines}
    assert all(len(exact) == 1 and next(iter(exact)).operator == "==" for exact in pinned.values())
    for text in requires("fusionkit-geo") or []:
        wanted = Requirement(text)
        if wanted.name == "fusionkit-geo":  # an extra of ours within another: its own lines are in the list too
            continue
        exact = pinned[wanted.name.lower()]
        assert wanted.specifier.contains(next(iter(exact)).version), text
