"""Metrics of recipes in a table of variants."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from fusionkit_metrics.brier import Brier
from made_runs import NAMES, MadeCell, made_grid
from sklearn.metrics import brier_score_loss

from fusionkit.ablation import Ablation, ablation
from fusionkit.ablation_latex import latex
from fusionkit.ablation_metrics import Spread, spread
from fusionkit.ablation_report import write_ablation
from fusionkit.ablation_tables import heads, rows, runs_csv, table_csv
from fusionkit.extra_metrics import ExtraMetric
from fusionkit.flow import Task
from fusionkit.runs import Run

TASK = Task("classification", NAMES, (1,) * 4, 4)
METRICS = {"brier": ExtraMetric("brier", "acme", "squared error", Brier(TASK))}
RECIPE = {"metrics": [{"name": "brier"}]}
GAINS = {"concat": 0.0, "late": 1.0}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[MadeCell, Run]]:
    folder = tmp_path_factory.mktemp("grid")
    return made_grid(folder, seeds=(0, 1), n=40, gains=GAINS, metrics=METRICS, recipe=RECIPE)


@pytest.fixture(scope="module")
def found(cells: list[tuple[MadeCell, Run]]) -> Ablation:
    return ablation(cells)


def by_scikit_learn(run: Run) -> float:
    answers = run.predictions.answers
    labels = list(range(len(NAMES)))
    return float(brier_score_loss(run.predictions.target, answers, labels=labels, scale_by_half=False))


def test_every_variant_and_baseline_has_its_mean_and_deviation(
    cells: list[tuple[MadeCell, Run]], found: Ablation
) -> None:
    assert heads(found)[2:6] == ["OA", "AA", "kappa", "brier"]
    table = {row[0]: row for row in rows(found)}
    exact = {row["variant"]: row for row in csv.DictReader(io.StringIO(table_csv(found)))}
    for variant in GAINS:
        values = [by_scikit_learn(run) for cell, run in cells if cell.name == variant]
        mean, deviation = np.mean(values), np.std(values, ddof=1)
        assert table[variant][5] == f"{mean:#.4g} ± {deviation:#.4g}"
        assert float(exact[variant]["brier"]) == pytest.approx(mean)
        assert float(exact[variant]["brier_sd"]) == pytest.approx(deviation)
    alone = [run.result.baselines["image"].metrics["brier"].value for cell, run in cells if cell.name == "concat"]
    assert float(exact["image alone"]["brier"]) == pytest.approx(np.mean(alone))
    runs = list(csv.DictReader(io.StringIO(runs_csv(found))))
    assert [float(row["brier"]) for row in runs if row["variant"] == "late"] == pytest.approx(
        [by_scikit_learn(run) for cell, run in cells if cell.name == "late"]
    )


def test_the_lowest_error_is_bold(found: Ablation) -> None:
    lines = {line.split(" & ")[0]: line.split(" & ") for line in latex(found, "x").splitlines() if " & " in line}
    best = min(found.rows, key=lambda row: row.over_seeds("brier").mean).name
    assert [name for name, cells in lines.items() if "textbf" in cells[4]] == [best] == ["late"]


def test_files_say_what_the_metric_is(found: Ablation, tmp_path: Path) -> None:
    write_ablation(tmp_path, found)
    told = "brier: squared error; less is better. Neither interval nor test."
    assert told in (tmp_path / "table.md").read_text()
    page = (tmp_path / "ablation.html").read_text()
    assert told in page
    assert '<th class="n">brier</th>' in page


def test_a_metric_with_other_options_is_another(tmp_path: Path) -> None:
    one, other = (
        made_grid(
            tmp_path / name,
            seeds=(0,),
            n=12,
            gains={name: 0.0},
            metrics=METRICS,
            recipe={"metrics": [{"name": "brier", "power": power}]},
        )
        for name, power in (("concat", 1), ("late", 2))
    )
    found = ablation([*one, *other])
    assert "brier" not in heads(found)
    assert "brier has other options in some of the runs, so it is left out." in found.notes


def test_a_variant_without_the_metric_has_a_dash(cells: list[tuple[MadeCell, Run]], tmp_path: Path) -> None:
    without = made_grid(tmp_path, seeds=(0, 1), n=40, gains={"plain": 0.0})
    found = ablation([*cells, *without])
    assert {row[0]: row[5] for row in rows(found)}["plain"] == "–"


def test_what_is_undefined_with_one_seed_is_so_over_all() -> None:
    assert spread([0.25, None]) is spread([]) is None
    assert spread([0.25]) == Spread(0.25, None)
    assert spread([1.0, 3.0]) == Spread(2.0, pytest.approx(2**0.5))
