"""Three packages of strangers, installed into a fresh environment: they do there all that the built-ins do."""

from __future__ import annotations

import ast
import csv
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from fresh import ROOT, Answer, Environment

import fusionkit
import fusionkit.testing

PACKAGES = {name: ROOT / "tests" / "plugin_packages" / name for name in ("cross-stitch", "plot-files", "robust")}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(built, tmp_path_factory) -> Environment:
    made = Environment.create(tmp_path_factory.mktemp("strangers"), built.wheel)
    made.install(*PACKAGES.values())
    return made


@pytest.fixture(scope="module")
def tested(environment) -> str:
    """What pytest says of the packages' own tests."""
    words = ("-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider", *PACKAGES)
    return environment.python(*words, cwd=environment.sources).stdout


def readme_commands(package: str) -> list[list[str]]:
    """The commands under "Try it" in a package's README."""
    [block] = re.findall(r"## Try it\n.*?```sh\n(.*?)```", (PACKAGES[package] / "README.md").read_text(), re.DOTALL)
    return [shlex.split(line) for line in block.splitlines()]


@pytest.fixture(scope="module")
def tried(environment) -> dict[str, list[Answer]]:
    """What `fusionkit` answered to each README's commands; and, under no name, the list of plugins."""
    asked = {"": [["plugins", "--json"]]}
    for package in PACKAGES:
        asked[package] = []
        for program, *words in readme_commands(package):
            if program == "python":
                environment.python(*words, cwd=environment.sources / package)
            else:
                assert program == "fusionkit"
                asked[package].append(words)
    each = [(environment.sources / package, words) for package, held in asked.items() for words in held]
    answers = iter(environment.commands(each))
    return {package: [next(answers) for _ in held] for package, held in asked.items()}


@pytest.fixture(scope="module")
def uninstalled(environment, tested, tried) -> dict[str, Answer]:
    """What `fusionkit check` says of each recipe when the packages are gone; after all that needs them."""
    environment.uninstall(*(f"fusionkit-{package}" for package in PACKAGES))
    found = environment.commands([(environment.sources / package, ["check", "recipe.yaml"]) for package in PACKAGES])
    return dict(zip(PACKAGES, found, strict=True))


@pytest.mark.parametrize("package", PACKAGES)
def test_they_use_what_is_public(package):
    public = {"fusionkit": fusionkit.__all__, "fusionkit.testing": fusionkit.testing.__all__}
    for file in PACKAGES[package].rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "fusionkit":
                assert {alias.name for alias in node.names} <= set(public[str(node.module)]), file
            elif isinstance(node, ast.Import):
                assert not [alias.name for alias in node.names if alias.name.startswith("fusionkit.")], file
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "fusionkit":
                assert node.attr in public["fusionkit"], file


def test_their_own_tests_pass(tested):
    assert re.search(r"^\d+ passed in", tested, re.MULTILINE), tested


def test_they_are_listed_with_owner_and_version(tried):
    [listed] = tried[""]
    found = json.loads(listed.out)
    owners = {(p["name"], p["owner"], p["version"], p["status"]) for p in found["plugins"]}
    assert {
        ("cross_stitch", "fusionkit-cross-stitch", "0.3.0", "ok"),
        ("plot_files", "fusionkit-plot-files", "1.0.2", "ok"),
        ("robust", "fusionkit-robust", "0.1.4", "ok"),
    } <= owners
    components = {(c["kind"], c["name"]): (c["owner"], c["status"]) for c in found["components"]}
    assert components["fusion", "cross_stitch"] == ("fusionkit-cross-stitch", "ok")
    assert components["dataset", "plot_files"] == ("fusionkit-plot-files", "ok")
    assert components["augmentation", "band_shift"] == ("fusionkit-plot-files", "ok")
    assert components["loss", "symmetric_cross_entropy"] == ("fusionkit-robust", "ok")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_commands_of_the_readme_work(tried, package):
    for answer in tried[package]:
        assert answer.code == 0, answer.err
    folder = Path(tried[package][-1].out.strip())
    assert folder.parts[0] == "runs"


def run_of(environment: Environment, tried: dict[str, list[Answer]], package: str) -> Path:
    return environment.sources / package / tried[package][-1].out.strip()


def test_the_fusion_exchanges_between_the_stages(environment, tried):
    run = run_of(environment, tried, "cross-stitch")
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    kept = [float(row["fusion/own"]) for row in rows]
    assert len(kept) == 3
    assert kept[0] != 0.9  # what it began with: the units learn
    assert json.loads((run / "result.json").read_text())["metrics"]["oa"]["value"] > 0.5  # one image alone


def test_the_dataset_knows_what_is_absent(environment, tried):
    result = json.loads((run_of(environment, tried, "plot-files") / "result.json").read_text())
    assert result["inputs"]["image"]["shape"] == [3, 8, 8]
    assert 0 < result["absent"]["spectrum"] < result["absent"]["spectrum"] * 7


def test_callback_and_section_leave_what_they_promise(environment, tried):
    run = run_of(environment, tried, "robust")
    with (run / "gradient_norms" / "fusion.csv").open() as file:
        norms = [float(row["norm"]) for row in csv.DictReader(file)]
    epochs = yaml.safe_load((run / "recipe.yaml").read_text())["train"]["epochs"]
    assert len(norms) % epochs == 0
    assert min(norms) > 0
    report = (run / "report.html").read_text()
    assert "<h2>Gradient norms</h2>" in report
    assert re.search(rf"fusion: median .*, greatest .* in step \d+ of {len(norms)}", report)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_recipe_says_what_to_install_when_its_package_is_gone(uninstalled, package):
    code, out, err = uninstalled[package]
    assert (code, out) == (2, "")
    [required] = yaml.safe_load((PACKAGES[package] / "recipe.yaml").read_text())["requires"]
    first, *others = err.splitlines()
    assert f"pip install '{required}'" in first
    assert "requires" in first
    assert all(f"it may come with fusionkit-{package}, which the recipe requires" in line for line in others)
