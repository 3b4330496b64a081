"""Grids that are run: what is kept, what is run again, what is told; most with a quick stand-in for training."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from toy_recipe import write_toy

import fusionkit
from fusionkit import grid_run, grid_work
from fusionkit.errors import FusionkitError, RecipeError, RequestError
from fusionkit.grid_code import code_hash
from fusionkit.grid_folder import GridFolder
from fusionkit.grid_proof import prove
from fusionkit.grids import Cell, load_grid
from fusionkit.progress import Progress
from fusionkit.runs import Run

pytestmark = pytest.mark.usefixtures("undrawn")

GRID = "base: toy.yaml\naxes: {fusion: [concat, late]}\nseeds: 2\n"

STAND_IN = """
import json, shutil, sys
from pathlib import Path
folder = Path(sys.argv[1])
made = Path({made!r}) / ("late" if "late" in folder.name else "concat")
(folder.parent.parent / "begun").open("a").write(folder.name + "\\n")
{first}
for path in made.iterdir():
    if path.name not in ("resolved.yaml", "checkpoints", "tensorboard", "result.json"):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
(folder / "code.json").write_text(json.dumps({{"code": {code!r}}}))
shutil.copy(made / "result.json", folder)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A real run of each variant, to be copied by the stand-in."""
    folder = tmp_path_factory.mktemp("made")
    write_toy(folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        for name, baselines in (("concat", "true"), ("late", "false")):
            overrides = [f"fusion={name}", f"baselines={baselines}"]
            run = fusionkit.run("toy.yaml", overrides=overrides, progress=Progress(quiet=True))
            run.path.rename(folder / name)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The current folder, with a grid, its base and its data."""
    write_toy(tmp_path)
    (tmp_path / "g.yaml").write_text(GRID)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stand_in(made, monkeypatch):
    """Have the quick stand-in run the cells, after these lines."""

    def stand_in(first: str = "", code: str | None = None) -> None:
        script = STAND_IN.format(made=str(made), first=first, code=code or code_hash())
        monkeypatch.setattr(grid_work, "COMMAND", [sys.executable, "-c", script])

    stand_in()
    return stand_in


def run_grid(**options) -> list[tuple[Cell, Run]]:
    return list(fusionkit.grid("g.yaml", progress=Progress(quiet=True), **options))


def begun(toy: Path) -> list[str]:
    """The folders of all cells that were begun, as often as they were."""
    path = toy / "grids" / "g" / "begun"
    return path.read_text().split() if path.exists() else []


def told(toy: Path) -> list[dict]:
    return json.loads((toy / "grids" / "g" / "cells.json").read_text())["cells"]


def test_every_cell_is_run_and_given_once(toy, stand_in):
    found = run_grid(jobs=2)
    assert sorted((cell.levels["fusion"], cell.seed) for cell, _ in found) == [
        ("concat", 0),
        ("concat", 1),
        ("late", 0),
        ("late", 1),
    ]
    assert all(run.result.n == 20 for _, run in found)
    assert len(begun(toy)) == 4
    assert [(cell["status"], cell["attempts"]) for cell in told(toy)] == [("finished", 1)] * 4
    assert (toy / "grids" / "g" / "grid.yaml").read_text() == GRID
    assert all((toy / "grids" / "g" / cell["folder"] / "result.json").is_file() for cell in told(toy))


def test_what_is_finished_is_not_run_again(toy, stand_in):
    first = run_grid()
    again = run_grid()
    assert [(cell.title, run.path) for cell, run in again] == [(cell.title, run.path) for cell, run in first]
    assert len(begun(toy)) == 4


def test_a_grid_that_grows_runs_what_is_new(toy, stand_in):
    run_grid()
    (toy / "g.yaml").write_text(GRID.replace("seeds: 2", "seeds: 3"))
    assert len(run_grid()) == 6
    assert len(begun(toy)) == len(set(begun(toy))) == 6


def test_a_renamed_level_is_the_same_cell(toy, stand_in):
    run_grid()
    (toy / "g.yaml").write_text(GRID.replace("[concat, late]", "{stacked: concat, voted: late}"))
    assert {cell.name for cell, _ in run_grid()} == {"fusion=stacked", "fusion=voted"}
    assert len(begun(toy)) == 4


def test_a_closed_iterator_stops_and_another_call_goes_on(toy, stand_in):
    cells = fusionkit.grid("g.yaml", progress=Progress(quiet=True))
    next(cells)
    cells.close()
    assert len(run_grid()) == 4
    assert begun(toy).count(begun(toy)[0]) == 1


def test_a_cell_that_fails_is_recorded_and_the_rest_goes_on(toy, stand_in):
    stand_in("if 'late-seed1' in folder.name: sys.exit('out of paper')")
    cells = fusionkit.grid("g.yaml", retries=2, progress=Progress(quiet=True))
    assert len(list(itertools.islice(cells, 3))) == 3
    with pytest.raises(FusionkitError, match="1 of 4 cells failed, the first: fusion=late, seed 1: out of") as error:
        next(cells)
    assert error.value.exit_code == 1
    [failed] = [cell for cell in told(toy) if cell["status"] == "failed"]
    assert (failed["name"], failed["seed"], failed["reason"], failed["attempts"]) == (
        "fusion=late",
        1,
        "out of paper",
        3,
    )
    stand_in()
    assert len(run_grid()) == 4
    assert sorted(begun(toy).count(name) for name in set(begun(toy))) == [1, 1, 1, 4]


def test_results_of_other_code_are_run_again_and_the_old_ones_kept(toy, stand_in):
    stand_in(code="0ld")
    run_grid()
    assert {cell["code"] for cell in told(toy)} == {"0ld"}
    stand_in()
    run_grid()
    assert {cell["code"] for cell in told(toy)} == {code_hash()}
    assert len(begun(toy)) == 8
    assert len(list((toy / "grids" / "g" / "older").glob("*/result.json"))) == 4


def test_results_of_other_code_may_be_kept(toy, stand_in):
    stand_in(code="0ld")
    run_grid()
    (toy / "g.yaml").write_text(GRID.replace("seeds: 2", "seeds: 3"))
    stand_in()
    assert len(run_grid(keep=True)) == 6
    assert sorted(cell["code"] for cell in told(toy)) == sorted(["0ld"] * 4 + [code_hash()] * 2)


def test_results_of_other_data_are_run_again(toy, stand_in, made):
    run_grid()
    write_toy(toy, shift=1)
    (toy / "g.yaml").write_text(GRID.replace("seeds: 2", "seeds: 3"))
    run_grid()
    assert sorted(begun(toy).count(name) for name in set(begun(toy))) == [1, 1, 2, 2, 2, 2]


def test_a_finished_grid_needs_no_data(toy, stand_in):
    run_grid()
    os.remove(toy / "toy.npz")
    loaded = load_grid("g.yaml")
    with pytest.raises(RecipeError):
        prove(loaded)
    assert len(run_grid()) == 4


def test_a_damaged_result_is_run_again(toy, stand_in):
    [(_, run), *_] = run_grid()
    (run.path / "result.json").write_text('{"format": 1')
    shutil.rmtree(run.path / "baselines", ignore_errors=True)
    assert len(run_grid()) == 4
    assert len(begun(toy)) == 5


def test_two_grids_do_not_work_in_one_folder(toy, stand_in):
    with GridFolder(toy / "grids" / "g").held(), pytest.raises(RequestError, match="another grid works in"):
        run_grid()
    assert len(run_grid()) == 4


def test_nothing_is_run_where_one_cell_cannot_work(toy, stand_in):
    (toy / "g.yaml").write_text(
        "base: toy.yaml\naxes:\n  fusion: [concat, mid_fusion]\n  train.optimizer: [adam, adma]\nseeds: 1\n"
    )
    with pytest.raises(RecipeError) as error:
        run_grid()
    assert "g.yaml:3:20" in str(error.value)
    assert begun(toy) == []


def test_all_cells_that_do_not_fit_are_told(toy, stand_in):
    (toy / "g.yaml").write_text(
        "base: toy.yaml\naxes:\n  data.inputs: [{near: 'toy.npz:near', far: 'toy.npz:fur'}]\n  fusion: [concat, late]\n"
    )
    with pytest.raises(RecipeError) as error:
        run_grid()
    [line] = str(error.value).splitlines()
    assert line.startswith("g.yaml:3:17: ")
    assert begun(toy) == []


def test_data_that_are_missing_are_told_before_anything_runs(toy, stand_in):
    os.remove(toy / "toy.npz")
    with pytest.raises(RequestError, match=r"toy\.npz"):
        run_grid()
    assert begun(toy) == []


def test_jobs_and_a_cluster_do_not_go_together(toy, stand_in):
    with pytest.raises(RequestError, match="leave out the jobs"):
        run_grid(jobs=2, scheduler="tcp://127.0.0.1:1")


def test_lines_tell_how_it_goes_on(toy, stand_in, capsys):
    list(fusionkit.grid("g.yaml"))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["1/4", "2/4", "3/4", "4/4"]
    assert "OA 0." in lines[0]
    assert "left" in lines[0]
    assert "left" not in lines[3]
    list(fusionkit.grid("g.yaml"))
    assert "4 of 4 cells are finished already" in capsys.readouterr().err


def test_cores_are_shared_among_jobs(toy, stand_in, monkeypatch):
    monkeypatch.setattr(grid_run, "_cores", lambda: 8)
    stand_in("import os; (folder.parent.parent / 'threads').open('a').write(os.environ['OMP_NUM_THREADS'] + ' ')")
    run_grid(jobs=3)
    assert (toy / "grids" / "g" / "threads").read_text().split() == ["2"] * 4
