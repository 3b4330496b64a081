"""What the README says of other places: the files that a run leaves, and the words of the design."""

from __future__ import annotations

import re

import pytest
from doc_pages import ROOT, blocks
from doc_stand_ins import one_epoch

import fusionkit
from fusionkit.progress import Progress

pytestmark = pytest.mark.usefixtures("undrawn")

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_run_of_ones_own_data_leaves_the_files_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one_epoch(monkeypatch)
    files = {block.marks["file"]: block.text for block in blocks("README.md", README) if "file" in block.marks}
    exec(compile(files["fields.py"], "README.md", "exec"), {})
    (tmp_path / "fields.yaml").write_text(files["fields.yaml"], encoding="utf-8")
    run = fusionkit.run("fields.yaml", overrides=["baselines=false"], progress=Progress(quiet=True))
    table = README.partition("| file | holds |")[2].partition("\n\n")[0]
    named = {
        name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1:2][0] if row else "")
    }
    assert len(named) > 10
    assert {name.rstrip("/") for name in named} <= {path.name for path in run.path.iterdir()}


def test_the_words_are_those_of_the_design():
    def words(file: str) -> dict[str, str]:
        section = (ROOT / file).read_text(encoding="utf-8").partition("## Words")[2].partition("\n## ")[0]
        return dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE))

    assert words("README.md") == words("DESIGN.md")
    assert "modality" in words("README.md")
