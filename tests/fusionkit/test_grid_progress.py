"""What a grid says while it runs: the live table, and lines."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from fusionkit.grid_folder import GridFolder
from fusionkit.grid_progress import GridProgress, span
from fusionkit.grid_work import Outcome
from fusionkit.grids import Cell, Grid
from fusionkit.progress import Progress

RECIPE = {"task": "classification"}


@pytest.fixture
def cells() -> tuple[Cell, ...]:
    return tuple(
        Cell(f"fusion={f}", {"fusion": f}, seed, RECIPE, f"{f}{seed}") for f in ("concat", "late") for seed in (0, 1)
    )


@pytest.fixture
def shown(cells, tmp_path) -> GridProgress:
    grid = Grid("g", Path("g.yaml"), cells, "fusion=concat", {}, {})
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    return GridProgress(grid, GridFolder(tmp_path), 2, Progress(console))


def run(value: float | None) -> SimpleNamespace:
    return SimpleNamespace(result=SimpleNamespace(task="classification", metrics={"oa": SimpleNamespace(value=value)}))


def text(shown: GridProgress) -> list[str]:
    console = Console(file=io.StringIO(), width=100)
    console.print(shown.table())
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_table_has_a_mark_a_seed_and_the_mean_so_far(shown, cells):
    shown.finished(cells[0], run(0.5))
    with shown.shown(cells[1:]):
        shown.finished(cells[1], run(0.6))
        shown.ended(cells[1], Outcome("concat1", "", 1, 100))
        shown.ended(cells[2], Outcome("late0", "killed (SIGKILL)", 2, 300))
        log = shown.folder.log(cells[3])
        log.parent.mkdir()
        log.touch()
        assert text(shown) == [
            "variant        seeds  OA",
            "fusion=concat  ●●     0.550",
            "fusion=late    x◐",
            "2 of 4 cells, 1 failed, about 3 min left",
        ]
    lines = shown.progress.console.file.getvalue()
    assert "2/4  fusion=concat, seed 1:  OA 0.600 in 2 min; about 2 min left" in lines
    assert "3/4  fusion=late, seed 0:  FAILED after 2 attempts: killed (SIGKILL); see" in lines
    assert "variant" in lines  # the live table itself


def test_the_log_of_an_earlier_attempt_is_not_a_sign_of_life(shown, cells):
    log = shown.folder.log(cells[0])
    log.parent.mkdir()
    log.touch()
    ahead = log.stat().st_mtime_ns + 10**12  # by the clock of another machine
    os.utime(log, ns=(ahead, ahead))
    with shown.shown(cells):
        assert shown.state(cells[0]) == "waiting"
        os.utime(log, ns=(ahead + 10**9, ahead + 10**9))
        assert shown.state(cells[0]) == "running"


def test_a_figure_without_a_value_leaves_a_gap(shown, cells):
    shown.finished(cells[0], run(None))
    assert text(shown)[1] == "fusion=concat  ●·"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3590, "1 h 0 min"), (7500, "2 h 5 min")]
)
def test_time_in_words(seconds, words):
    assert span(seconds) == words
