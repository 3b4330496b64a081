"""`fusionkit plugins new` from a clean environment: packages of every kind are installed, green and run as written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fresh import Answer, Environment

from fusionkit.components import KINDS
from fusionkit.scaffold import EXAMPLES

pytestmark = pytest.mark.slow

TABLE = r"modalities .*\noptical .*\nspectrum .*\noptical \+ spectrum "


@pytest.fixture(scope="module")
def clean(built, tmp_path_factory) -> Environment:
    """With fusionkit alone in it."""
    return Environment.create(tmp_path_factory.mktemp("clean"), built.wheel)


@pytest.fixture(scope="module")
def folders(clean) -> dict[str, Path]:
    """The packages, by their kinds."""
    answers = clean.commands(
        (clean.home, ["plugins", "new", f"fusionkit-my-{kind}", "--kind", kind]) for kind in EXAMPLES
    )
    assert [answer.code for answer in answers] == [0] * len(EXAMPLES), answers
    return {kind: clean.home / f"fusionkit-my-{kind}" for kind in EXAMPLES}


@pytest.fixture(scope="module")
def installed(clean, folders) -> Environment:
    """With all packages in it."""
    clean.install(*folders.values())
    return clean


@pytest.fixture(scope="module")
def answers(installed, folders) -> dict[str, Answer]:
    """What `fusionkit run` says of each recipe; and, under no kind, the list of plugins."""
    asked = {"": (installed.home, ["plugins", "--json"])}
    asked["data"] = (folders["dataset"], ["data", "make", "my_dataset", "data"])
    for kind, folder in folders.items():
        if kind != "dataset":
            installed.python("make_data.py", cwd=folder)
        asked[kind] = (folder, ["run", "recipe.yaml", "train.epochs=1"])
    return dict(zip(asked, installed.commands(asked.values()), strict=True))


def result(folder: Path, answer: Answer) -> dict:
    """The figures of a run."""
    return json.loads((folder / answer.out.strip() / "result.json").read_text())


def test_all_are_found(answers):
    found = json.loads(answers[""].out)
    ours = {"fusionkit-geo"}
    assert {plugin["owner"] for plugin in found["plugins"]} - ours == {f"fusionkit-my-{kind}" for kind in EXAMPLES}
    assert {plugin["status"] for plugin in found["plugins"]} == {"ok"}
    components = {(c["kind"], c["name"]) for c in found["components"] if c["owner"] not in ours}
    assert components == {(kind, f"my_{kind}") for kind in KINDS}


def test_their_own_tests_are_green(installed, folders):
    words = ("-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider", *folders.values())
    told = installed.python(*words, cwd=installed.home).stdout
    assert re.search(r"^\d+ passed in", told, re.MULTILINE), told


@pytest.mark.parametrize("kind", EXAMPLES)
def test_its_recipe_ends_in_a_table(answers, folders, kind):
    answer = answers[kind]
    assert answer.code == 0, answer.err
    assert re.search(TABLE, answer.err), answer.err
    assert result(folders[kind], answer)["baselines"].keys() == {"optical", "spectrum"}


def test_what_is_no_part_of_the_model_leaves_its_trace(answers, folders):
    assert "my_metric" in result(folders["metric"], answers["metric"])["metrics"]
    run = folders["callbacks"] / answers["callbacks"].out.strip()
    rows = (run / "checkpoints" / "fusion" / "weights.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["epoch", "1"]
    run = folders["report-section"] / answers["report-section"].out.strip()
    assert "Most confused classes</h2>" in (run / "report.html").read_text()


def test_a_package_that_is_gone_is_named_by_its_recipe(installed, folders):
    """The last test: what it uninstalls stays so."""
    installed.uninstall("fusionkit-my-fusion")
    [answer] = installed.commands([(folders["fusion"], ["check", "recipe.yaml"])])
    assert answer.code == 2
    place, _, told = answer.err.splitlines()[0].rpartition(": ")
    assert place.startswith("recipe.yaml:4:12: requires")
    assert told == "fusionkit-my-fusion is not installed; pip install 'fusionkit-my-fusion'"
    assert "no fusion is named 'my_fusion'; it may come with fusionkit-my-fusion" in answer.err
