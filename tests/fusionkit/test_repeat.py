"""Runs that are repeated with other packages than they were made with: what is recorded, and what is told."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from toy_recipe import write_toy

from fusionkit import registry
from fusionkit.repeat import differences, folder_of

OWN = version("fusionkit-geo")
FUSION = """
from fusionkit import Component, hookimpl

@hookimpl
def fusionkit_components():
    yield Component("fusion", "join", "acme.parts:Join")
    yield Component("fusion", "other", "acme.parts:Join")
"""
PARTS = """
import torch
from fusionkit import Fusion

class Join(Fusion):
    def forward(self, features):
        return torch.cat([held.pooled for held in features.values()], 1)
"""
HEARS = """
from fusionkit import hookimpl

class Listener:
    def on_fit_end(self, fit): ...

@hookimpl
def fusionkit_callbacks(recipe):
    return [Listener()] if recipe.name == "toy" else []
"""
SECTION = """
from fusionkit import hookimpl

@hookimpl
def fusionkit_report_sections(run):
    return [("Of acme", "text")]
"""
UNUSED = FUSION.replace("join", "unused").replace("other", "unused_too").replace("acme", "idle")


@pytest.fixture
def installed(packages: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str | None], None]:
    """Five packages of which a run of `toy.yaml` uses three; and how to have another version of one."""
    monkeypatch.chdir(tmp_path)
    write_toy(tmp_path)
    Path("toy.yaml").write_text(Path("toy.yaml").read_text().replace("{name: concat, dim: 8}", "join"))
    packages.add("acme", plugin=FUSION, parts=PARTS)
    packages.add("hears", plugin=HEARS)
    packages.add("silent", plugin=HEARS.replace('"toy"', '"nothing"'))
    packages.add("tells", plugin=SECTION)
    packages.add("idle", plugin=UNUSED, parts=PARTS)

    def change(package: str, to: str | None) -> None:
        (old,) = packages.folder.glob(f"{package}-*.dist-info")
        if to is None:
            shutil.rmtree(old)
        else:
            new = old.rename(packages.folder / f"{package}-{to}.dist-info")
            (new / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {to}\n")
        importlib.invalidate_caches()
        registry._load.cache_clear()

    return change


@pytest.mark.slow
def test_a_run_records_what_it_uses_and_says_where_that_has_changed(fusionkit, installed):
    first = Path(fusionkit("run", "toy.yaml").out.strip())
    told = json.loads((first / "provenance.json").read_text())
    assert told["plugins_used"] == {"acme": "1.2", "fusionkit-geo": OWN, "hears": "1.2", "tells": "1.2"}
    assert {"idle", "silent"} <= {plugin["owner"] for plugin in told["plugins"]}
    assert f"acme 1.2, fusionkit-geo {OWN}, hears 1.2, tells 1.2" in (first / "report.html").read_text()
    assert differences(first) == []

    installed("acme", "2.0")
    installed("tells", None)
    installed("idle", "3.0")
    lines = ["note: this run used acme 1.2; 2.0 is installed", "note: this run used tells 1.2; it is not installed"]
    told = [line for line in fusionkit("predict", first, "-o", "new.csv").err.splitlines() if " used " in line]
    assert told == lines
    second = fusionkit("run", first / "recipe.yaml")
    assert [line for line in second.err.splitlines() if " used " in line] == lines
    assert "this run used acme 1.2; 2.0 is installed" in (Path(second.out.strip()) / "report.html").read_text()

    (first / "result.json").unlink()
    resumed = fusionkit("run", "toy.yaml", "--resume", first)
    assert resumed.code == 0
    assert [line for line in resumed.err.splitlines() if " used " in line] == lines
    taught = ["check", "toy.yaml", f"loss={{cross_entropy: 1, distillation: {{weight: 1, teacher: {first}}}}}"]
    installed("acme", "2.1")
    assert f"note: the teacher {first} used acme 2.0; 2.1 is installed" in fusionkit(*taught).out

    installed("acme", None)
    asked = [
        ("predict", first, "-o", "new.csv"),
        ("run", first / "resolved.yaml"),
        ("run", "toy.yaml", "--resume", first),
    ]
    for words in asked:
        answer = fusionkit(*words)
        assert answer.code == 2
        cause, effect, *_ = answer.err.splitlines()
        assert cause == f"{first / 'provenance.json'}: this run used acme 2.0; it is not installed"
        assert "no fusion is named 'join'" in effect


@pytest.mark.parametrize(
    ("provenance", "lines"),
    [
        ({"packages": {"fusionkit-geo": "0.0.1", "torch": "1"}}, [f"it used fusionkit-geo 0.0.1; {OWN} is installed"]),
        ({"packages": {"fusionkit-geo": OWN}}, []),
        ({"plugins_used": {"fusionkit-geo": OWN, "nobodys": "1"}}, ["it used nobodys 1; it is not installed"]),
        ({"plugins_used": None, "packages": None}, []),
        ({}, []),
        ([], []),
    ],
)
def test_older_and_odd_provenance(tmp_path: Path, provenance: Any, lines: list[str]) -> None:
    (tmp_path / "provenance.json").write_text(json.dumps(provenance))
    assert differences(tmp_path, "it") == lines


def test_what_is_no_run_has_no_differences(tmp_path: Path) -> None:
    assert differences(tmp_path) == []
    assert folder_of(tmp_path / "recipe.yaml") is None
    (tmp_path / "provenance.json").write_text("{}")
    assert folder_of(tmp_path / "recipe.yaml") == tmp_path
    assert folder_of(tmp_path / "other.yaml") is None
