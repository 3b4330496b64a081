"""The command line as a whole: what is imported when, exit codes, and what goes to which stream."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy_recipe import write_toy

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A folder with a recipe and its data: two modalities, of which each alone tells half."""
    write_toy(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


LISTED = """
import sys
from fusionkit.cli import app
try:
    app(sys.argv[1:], prog_name="fusionkit")
finally:
    print("\\n".join(sys.modules), file=sys.stderr)
"""


def modules_after(*words: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    done = subprocess.run([sys.executable, "-c", LISTED, *words], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [("--help",), ("run", "--help"), ("plugins", "--help"), ("--version",), ("recipes",)])
def test_help_loads_no_plugin_and_no_torch(words):
    loaded = modules_after(*words)
    assert "fusionkit.cli" in loaded
    assert not {name for name in loaded if name.startswith("fusionkit_")}
    assert not loaded & {"torch", "numpy", "fusionkit.registry"}


@pytest.mark.parametrize("words", [("plugins",), ("plugins", "--json")])
def test_plugins_imports_no_torch(words):
    loaded = modules_after(*words)
    assert "fusionkit_fusions.plugin" in loaded
    assert not loaded & {"torch", "numpy", "lightning", "timm"}


def test_run_prints_the_run_folder_and_nothing_else(fusionkit, toy):
    answer = fusionkit("run", "toy.yaml", "baselines=true", "--runs", "here")
    assert answer.code == 0, answer.err
    [folder] = answer.out.splitlines()
    assert Path(folder).parent == Path("here")
    result = json.loads((toy / folder / "result.json").read_text())
    assert result["n"] == 20
    assert "modalities" in answer.err
    assert f"{result['metrics']['oa']['value']:.3f}" in answer.err
    for modality in ("near", "far"):
        assert f"{result['baselines'][modality]['oa']['value']:.3f}" in answer.err


def test_run_json_prints_the_result_alone(fusionkit, toy):
    answer = fusionkit("run", "toy.yaml", "--json", "--name", "mine")
    [folder] = (toy / "runs").iterdir()
    assert folder.name.startswith("mine-")
    assert json.loads(answer.out) == json.loads((folder / "result.json").read_text())


def test_what_a_plugin_prints_does_not_reach_standard_output(fusionkit, toy, packages):
    packages.add(
        "chatty",
        plugin="from fusionkit import hookimpl\n"
        "@hookimpl\ndef fusionkit_callbacks(recipe):\n    print('chatter')\n    return []\n",
    )
    answer = fusionkit("run", "toy.yaml", "--json")
    json.loads(answer.out)
    assert "chatter" in answer.err


def test_overrides_come_after_the_recipe_among_options(fusionkit, toy):
    answer = fusionkit("run", "toy.yaml", "train.lr=3e-3", "--runs", "here", "fusion.dim=4", "seed=7", "--json")
    [folder] = (toy / "here").iterdir()
    resolved = (folder / "resolved.yaml").read_text()
    assert "dim: 4" in resolved
    assert json.loads(answer.out)["seed"] == 7


def test_resume_goes_on_with_an_unfinished_run(fusionkit, toy):
    [folder] = fusionkit("run", "toy.yaml").out.splitlines()
    result = toy / folder / "result.json"
    first = result.read_text()
    assert "finished" in fusionkit("run", "toy.yaml", "--resume", folder).err
    result.unlink()
    assert fusionkit("run", "toy.yaml", "seed=1", "--resume", folder).code == 2
    assert fusionkit("run", "toy.yaml", "--resume", folder).out == f"{folder}\n"
    assert json.loads(result.read_text())["metrics"] == json.loads(first)["metrics"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["toy.yaml", "train.epochs"], "override 'train.epochs': write key=value"),
        (["toy.yaml", "train.epochs=many"], "override 'train.epochs=many': train.epochs:"),
        (["toy.yaml", "fusion=concta"], "did you mean 'concat'"),
        (["nowhere.yaml"], "there is no file nowhere.yaml"),
        (["recipes/mosi.yaml"], "the recipe that comes with fusionkit is called 'mosi'"),
        (["mossi"], "did you mean 'mosi'"),
        (["toy.yaml", "--resume", "."], "no run folder"),
    ],
)
def test_a_wrong_request_is_told_in_a_line_and_leaves_nothing(fusionkit, toy, words, told):
    answer = fusionkit("run", *words)
    assert answer.code == 2
    assert told in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert not (toy / "runs").exists()


@pytest.mark.parametrize(
    "words", [["run"], ["run", "toy.yaml", "--rnus", "x"], ["ruin"], ["check"], ["recipes", "shwo"]]
)
def test_a_misspelt_command_is_a_wrong_request(fusionkit, toy, words):
    assert fusionkit(*words).code == 2


def test_check_prints_the_shapes(fusionkit, toy):
    answer = fusionkit("check", "toy.yaml", "fusion.dim=16")
    assert answer.code == 0
    rows = {line.split()[0]: line for line in answer.out.splitlines()}
    assert {"near", "far", "fusion", "head", "total"} <= rows.keys()
    # head: 16 inputs, 4 classes, a bias
    assert " 68 " in " ".join(rows["head"].split()) + " "
    assert not (toy / "runs").exists()


def test_check_takes_a_shipped_recipe_without_its_data(fusionkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FUSIONKIT_DATA", raising=False)
    answer = fusionkit("check", "mosi")
    assert answer.code == 0, answer.err
    assert "audio" in answer.out


def test_a_broken_recipe_names_every_line(fusionkit, toy):
    path = toy / "toy.yaml"
    path.write_text(path.read_text().replace("epochs: 1", "epochs: none").replace("labels:", "lables:"))
    answer = fusionkit("check", "toy.yaml")
    assert answer.code == 2
    assert "toy.yaml:4:3: data.lables: unknown key; did you mean 'labels'?" in answer.err
    assert "toy.yaml:9:" in answer.err


def test_schema_names_our_components(fusionkit, tmp_path):
    printed = fusionkit("schema")
    assert fusionkit("schema", "-o", tmp_path / "schema.json").out == ""
    assert json.loads((tmp_path / "schema.json").read_text()) == json.loads(printed.out)
    assert "early_stack" in printed.out


def test_describe_tells_of_the_data(fusionkit, toy):
    answer = fusionkit("data", "describe", "toy.yaml")
    assert answer.code == 0
    assert "near" in answer.out
    assert fusionkit("data", "describe", "toy.yaml", "data.labels=toy.npz:lable").code == 2


def test_a_bug_keeps_its_plain_traceback():
    broken = "from fusionkit import catalogue, cli; catalogue.shipped = lambda: 1 / 0; cli.app(['recipes'])"
    done = subprocess.run([sys.executable, "-c", broken], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert "╭" not in done.stderr


def test_python_m_is_the_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fusionkit", "recipes"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "mosi" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour_on_a_terminal_only_where_wanted(variables, coloured, tmp_path):
    import pty

    ours, theirs = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-m", "fusionkit", "plugins"],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env=environment | {"TERM": "xterm-256color"} | variables,
    ):
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 4096):
                seen += part
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(ours)
    assert b"concat" in seen
    assert (b"\x1b[36m" in seen) == coloured
