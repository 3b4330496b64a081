"""`fusionkit recipes`, and the catalogue behind it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fusionkit import catalogue

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A catalogue of a recipe that inherits from another."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "parent.yaml").write_text(
        "# fusionkit run recipes/parent.yaml\n#\n# What it is, at 0.2 m. More of it.\na: 1\n"
    )
    (folder / "child.yaml").write_text("base: parent.yaml\n")
    (folder / "plain.yaml").write_text("a: 1\n")
    (folder / "grids").mkdir()
    (folder / "grids" / "child.yaml").write_text("base: ../child.yaml\naxes: {seed: [1, 2]}\n")
    monkeypatch.setattr(catalogue, "folder", lambda: folder)
    monkeypatch.chdir(tmp_path)
    return folder


def test_every_recipe_of_the_checkout_is_listed_with_what_it_is(fusionkit):
    answer = fusionkit("recipes")
    lines = dict(line.split(maxsplit=1) for line in answer.out.splitlines()[1:])
    assert set(lines) == {path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.yaml")}
    assert all(summary.endswith(".") for summary in lines.values())


def test_the_summary_is_the_first_sentence(fusionkit, shelf):
    assert re.search(r"^parent +What it is, at 0.2 m.$", fusionkit("recipes").out, re.MULTILINE)


def test_show_prints_the_file(fusionkit):
    assert fusionkit("recipes", "show", "mosi").out == (RECIPES / "mosi.yaml").read_text(encoding="utf-8")


def test_show_corrects_the_spelling(fusionkit):
    answer = fusionkit("recipes", "show", "moosi")
    assert answer.code == 2
    assert "did you mean 'mosi'?" in answer.err


def test_copy_takes_the_parent_along_and_prints_the_file(fusionkit, shelf):
    answer = fusionkit("recipes", "copy", "child")
    assert answer.out == "child.yaml\n"
    assert "parent.yaml" in answer.err
    for name in ("child.yaml", "parent.yaml"):
        assert Path(name).read_text() == (shelf / name).read_text()


@pytest.mark.parametrize(("to", "written"), [("new/folder", "new/folder/plain.yaml"), ("new/my.yaml", "new/my.yaml")])
def test_copy_to_a_folder_or_a_file(fusionkit, shelf, to, written):
    assert fusionkit("recipes", "copy", "plain", "--to", to).out == f"{written}\n"
    assert Path(written).read_text() == "a: 1\n"


def test_a_grid_is_copied_with_the_recipes_below_it_in_their_places(fusionkit, shelf):
    answer = fusionkit("recipes", "copy", "grids/child", "--to", "new")
    assert answer.out == "new/grids/child.yaml\n"
    assert "run it: fusionkit grid new/grids/child.yaml" in answer.err
    for name in ("grids/child.yaml", "child.yaml", "parent.yaml"):
        assert Path("new", name).read_text() == (shelf / name).read_text()


def test_a_grid_is_not_copied_away_from_its_base(fusionkit, shelf):
    answer = fusionkit("recipes", "copy", "grids/child", "--to", "mine.yaml")
    assert answer.code == 2
    assert "grids/child goes into a folder" in answer.err
    assert not Path("mine.yaml").exists()


def test_a_shipped_grid_is_run_by_its_name(fusionkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("grids/urfc_demo").mkdir(parents=True)  # where its results are
    answer = fusionkit("grid", "grids/urfc_demo", "--dry-run")
    assert answer.code == 0, answer.err
    assert "27 cells" in answer.err


@pytest.mark.parametrize("taken", ["child.yaml", "parent.yaml"])
def test_copy_never_overwrites(fusionkit, shelf, taken):
    Path(taken).write_text("mine")
    answer = fusionkit("recipes", "copy", "child")
    assert answer.code == 2
    assert answer.err == f"error: {taken} is there already; name another place with --to\n"
    assert Path(taken).read_text() == "mine"
    assert not Path({"child.yaml": "parent.yaml", "parent.yaml": "child.yaml"}[taken]).exists()


def test_a_parent_that_is_there_unchanged_is_left(fusionkit, shelf):
    Path("parent.yaml").write_bytes((shelf / "parent.yaml").read_bytes())
    assert fusionkit("recipes", "copy", "child").code == 0


def test_copy_to_a_place_that_cannot_be(fusionkit, shelf):
    Path("file").write_text("")
    answer = fusionkit("recipes", "copy", "plain", "--to", "file/below")
    assert answer.code == 2
    assert "cannot be written" in answer.err


def test_a_file_comes_before_a_shipped_recipe_of_its_name(shelf):
    assert catalogue.locate("plain") == shelf / "plain.yaml"
    Path("plain").write_text("")
    assert catalogue.locate("plain") == Path("plain")
