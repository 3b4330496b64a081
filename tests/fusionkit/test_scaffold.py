"""`fusionkit plugins new`: what the packages are called and hold, and what is refused.

That they are green as written is shown by tests/test_scaffold_installed.py.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint, entry_points, version

import pytest
import yaml
from packaging.requirements import Requirement

import fusionkit.testing
from fusionkit import requirements
from fusionkit.components import KINDS, PLUGIN_API
from fusionkit.contract import Augmentation, Dataset, Encoder, Fusion, Loss, Metric
from fusionkit.errors import RequestError
from fusionkit.recipe import load_recipe
from fusionkit.registry import build_registry, load_registry
from fusionkit.scaffold import EXAMPLES, RESERVED, requirement, write_package

EACH = pytest.mark.parametrize("kind", EXAMPLES)
BASES = dict(zip(KINDS, (Encoder, Fusion, Loss, Dataset, Metric, Augmentation), strict=True))


@pytest.fixture
def write(tmp_path):
    """Write a package and return what is told of it."""

    def made(package="fusionkit-mine", kind="fusion", to="made"):
        return write_package(package, kind, tmp_path / to, load_registry())

    return made


def texts(written) -> dict[str, str]:
    return {path.as_posix(): (written.folder / path).read_text(encoding="utf-8") for path in written.files}


def test_every_kind_of_component_has_a_package():
    assert set(KINDS) < set(EXAMPLES)
    assert set(EXAMPLES) - set(KINDS) == {"callbacks", "report-section"}


@EACH
def test_what_is_written(write, kind):
    written = write(kind=kind)
    there = {path.relative_to(written.folder) for path in written.folder.rglob("*") if path.is_file()}
    assert there == set(written.files)
    wanted = {"pyproject.toml", "README.md", "recipe.yaml", ".gitignore", ".github/workflows/test.yml"}
    wanted |= {"fusionkit_mine/__init__.py", "fusionkit_mine/plugin.py", "fusionkit_mine/mine.py", "tests/test_mine.py"}
    assert {path.as_posix() for path in there} - {"make_data.py"} == wanted


@EACH
def test_the_project_file_is_right(write, kind):
    project = tomllib.loads(texts(write(kind=kind))["pyproject.toml"])["project"]
    assert project["name"] == "fusionkit-mine"
    assert project["entry-points"]["fusionkit"] == {"mine": "fusionkit_mine.plugin"}
    [needed] = map(Requirement, project["dependencies"])
    assert needed.name == "fusionkit-geo"
    assert needed.specifier.contains(version("fusionkit-geo"), prereleases=True)
    assert "license" not in project


@EACH
def test_every_file_can_be_read(write, kind):
    files = texts(write(kind=kind))
    for path, text in files.items():
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        assert "{{" not in text
        assert "{%" not in text
        if path.endswith(".py"):
            ast.parse(text)
    assert yaml.safe_load(files[".github/workflows/test.yml"])["jobs"]
    plugin = ast.parse(files["fusionkit_mine/plugin.py"])
    constants = [node.value.value for node in plugin.body if isinstance(node, ast.Assign)]
    assert constants == [PLUGIN_API]  # as a number: an imported one would be the version at hand


@EACH
def test_what_it_imports_is_public(write, kind):
    public = {"fusionkit": fusionkit.__all__, "fusionkit.testing": fusionkit.testing.__all__}
    for path, text in texts(write(kind=kind)).items():
        for node in ast.walk(ast.parse(text)) if path.endswith(".py") else ():
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "fusionkit":
                assert {alias.name for alias in node.names} <= set(public[str(node.module)]), path


@EACH
def test_the_component_and_its_recipe_are_right(write, kind, monkeypatch, tmp_path):
    written = write(f"fusionkit-a-{kind}", kind)
    names = written.names
    monkeypatch.syspath_prepend(written.folder)
    point = EntryPoint(names.name, f"{names.module}.plugin", "fusionkit")
    registry = build_registry([*entry_points(group="fusionkit"), point])
    assert [plugin.status for plugin in registry.plugins if plugin.name == names.name] == ["ok"]
    if kind in BASES:
        target = registry.resolve(kind, names.component)
        assert issubclass(target, BASES[kind])
        assert target.__name__ == names.title
    monkeypatch.setattr(requirements, "unmet", lambda *asked: None)  # it is not installed, only importable
    recipe = load_recipe(written.folder / "recipe.yaml", registry=registry)
    assert (recipe.requires, recipe.baselines) == ([names.package], True)
    used = {recipe.dataset.name, recipe.fusion.name, *(m.encoder.name for m in recipe.modalities.values())}
    used |= {term.loss.name for term in recipe.losses} | {chosen.name for chosen in recipe.augment}
    used |= {chosen.name for chosen in recipe.metrics}
    assert names.component in used or kind not in KINDS
    for module in [name for name in sys.modules if name.partition(".")[0] == names.module]:
        monkeypatch.delitem(sys.modules, module)


def test_style_is_clean_as_written(tmp_path):
    """By the package's own settings and by those of this project, for a short name and a long one."""
    for kind in EXAMPLES:
        for word in ("x", "ratherlongnamed"):
            write_package(f"fusionkit-{word}-{kind}", kind, tmp_path / f"{word}-{kind}", load_registry())
    ours = "E,F,W,I,UP,B,SIM,RUF,N,PT"
    for words in (["check"], ["check", "--extend-select", ours, "--ignore", "F722,F821,N812"], ["format", "--diff"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--no-cache", tmp_path], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@EACH
def test_the_same_again_gives_the_same(write, kind):
    assert texts(write(kind=kind, to="one")) == texts(write(kind=kind, to="other"))


def test_names_follow_the_package(write):
    names = write("Fusionkit_Cross.modal-gate", "loss").names
    assert (names.module, names.name, names.title, names.component) == (
        "fusionkit_cross_modal_gate",
        "cross_modal_gate",
        "CrossModalGate",
        "cross_modal_gate",
    )
    assert write("acme", "loss", to="acme").names.module == "acme"
    assert write("fusionkit-concat", "callbacks", to="callbacks").names.component == ""


def test_a_name_that_is_taken_gives_way_to_that_of_the_package(write):
    written = write("fusionkit-film")
    assert written.names.component == "fusionkit_film"
    assert written.notes == (
        "a fusion 'film' is there already, from fusionkit-geo: recipes call this one 'fusionkit_film'",
    )
    assert "fusion: fusionkit_film\n" in texts(written)["recipe.yaml"]
    assert write("fusionkit-film", "loss", to="loss").names.component == "film"  # it clashes within its kind alone


@pytest.mark.parametrize("kind", ["report_section", "report section", " Report-Section"])
def test_spellings_of_a_kind(write, kind):
    assert write(kind=kind).names.kind == "report-section"


@pytest.mark.parametrize(
    ("package", "kind", "told"),
    [
        ("fusionkit-film", "fuson", "no kind of plugin 'fuson'; did you mean 'fusion'? kinds are fusion, loss, enc"),
        ("fusionkit-film", "trainer", "no kind of plugin 'trainer'; kinds are fusion, loss"),
        ("fusionkit film", "loss", "'fusionkit film' is no name of a package"),
        ("-film", "loss", "is no name of a package"),
        ("../film", "loss", "is no name of a package"),
        ("fusionkit-3d", "loss", "the file of 'fusionkit-3d' would be called '3d'"),
        ("fusionkit-lambda", "loss", "the file of 'fusionkit-lambda' would be called 'lambda'"),
        ("fusionkit-none", "loss", "the class of 'fusionkit-none' would be called 'None'"),
        ("fusionkit-tensor", "loss", "would be called 'Tensor', as another one that it needs"),
        ("fusionkit-encoder", "encoder", "would be called 'Encoder', as another one that it needs"),
        ("fusionkit-on", "loss", "the file of 'fusionkit-on' would be called 'on'"),  # to a YAML file, `on` is true
        ("fusionkit-plugin", "loss", "would be called 'plugin'"),
        ("json", "loss", "a module 'json' is installed already"),
        ("fusionkit-geo", "loss", "fusionkit-geo 0"),
        ("FusionKit_Geo", "loss", "is installed already"),
        ("numpy", "loss", "is installed already"),
        ("concat", "fusion", "a fusion 'concat' is there already, from fusionkit-geo; choose another name"),
    ],
)
def test_what_is_refused(write, tmp_path, package, kind, told):
    with pytest.raises(RequestError) as refused:
        write(package, kind)
    assert told in str(refused.value)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_names_of_the_folders_of_the_package_are_refused(write, name):
    with pytest.raises(RequestError, match="choose another name"):
        write(name, "loss")


def test_nothing_is_overwritten(write, tmp_path):
    (tmp_path / "made").mkdir()
    write()  # an empty folder is as good as none
    with pytest.raises(RequestError, match="is there already and not empty"):
        write(kind="loss")
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="cannot be written"):
        write(to="file")


@pytest.mark.parametrize(
    ("installed", "range"),
    [
        ("0.1.0", ">=0.1,<0.2"),
        ("0.9.12", ">=0.9,<0.10"),
        ("1.4", ">=1.4,<1.5"),
        ("0.2.0.dev3+abc", ">=0.2.0.dev3,<0.3"),
        ("0.2.0rc1", ">=0.2.0rc1,<0.3"),
    ],
)
def test_the_range_of_versions(installed, range):
    assert requirement(installed) == f"fusionkit-geo{range}"
    public = installed.partition("+")[0]
    assert Requirement(requirement(installed)).specifier.contains(public, prereleases=True)


def test_the_command_says_what_it_wrote_and_what_comes_next(fusionkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = fusionkit("plugins", "new", "fusionkit-mine", "--kind", "dataset")
    assert answer.code == 0, answer.err
    first, *files = answer.out.partition("next:")[0].splitlines()
    assert first == "fusionkit-mine: a dataset, which recipes call 'mine'"
    assert all((tmp_path / file.strip()).is_file() for file in files)
    assert answer.out.partition("next:")[2].split("\n")[1:-1] == [
        '  cd fusionkit-mine && python -m pip install -e ".[test]"',
        "  python -m pytest",
        "  fusionkit data make mine data && fusionkit run recipe.yaml",
    ]
    again = fusionkit("plugins", "new", "fusionkit-mine", "--kind", "loss")
    assert (again.code, again.out) == (2, "")
    assert again.err == "error: fusionkit-mine is there already and not empty; name another folder with --to\n"
    assert fusionkit("plugins", "new", "fusionkit-mine", "--kind", "loss", "--to", "a b").code == 0
    assert "cd 'a b/c' && " in fusionkit("plugins", "new", "fusionkit-m", "--kind", "callbacks", "--to", "a b/c").out
