"""The recipes for URFC: they load, their models fit the data, and dirt in the data ends where it is told."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from fusionkit_datasets.urfc_make import make_urfc
from PIL import Image

from fusionkit import load_recipe, run
from fusionkit.check import check

pytestmark = pytest.mark.usefixtures("undrawn")

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(autouse=True)
def no_cache_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["urfc", "urfc_demo"])
def test_recipe_fits_without_data(name: str):
    report = str(check(load_recipe(RECIPES / f"{name}.yaml")))
    assert "3 x 100 x 100" in report
    assert "7 x 26 x 24" in report
    assert "9 classes" in report


@pytest.mark.slow
def test_demo_on_a_few_dirty_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Not how well it does: that it runs from the files to the table, and lists all that was spoilt."""
    root = tmp_path / "urfc_demo"
    make_urfc(root, places=80, test_places=2, seed=3)
    tiles, visits = (
        sorted((root / folder).rglob(f"*.{kind}")) for folder, kind in [("train_image", "jpg"), ("train_visit", "txt")]
    )
    tiles[0].write_bytes(tiles[0].read_bytes()[:900])
    Image.new("RGB", (100, 100)).save(tiles[1])
    visits[2].write_bytes(b"")
    visits[3].write_bytes(b"nonsense\n" + visits[3].read_bytes())
    tiles[4].unlink()
    monkeypatch.setenv("FUSIONKIT_DATA", str(tmp_path))
    done = run(
        RECIPES / "urfc_demo.yaml",
        overrides=["train.epochs=1", "train.warmup_epochs=0", "data.max_bad=0.05"],
        runs=tmp_path / "runs",
    )
    assert set(done.result.baselines) == {"image", "visits"}
    assert done.result.n == 20
    with (done.path / "bad_samples.csv").open(encoding="utf-8") as file:
        bad = {(Path(row["path"]).name, row["line"]) for row in csv.DictReader(file)}
    assert bad == {(tiles[0].name, ""), (tiles[1].name, ""), (visits[2].name, ""), (visits[3].name, "1")}
