"""The ladder: its recipes differ in the loss alone, and its table is what NumPy says."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from fusionkit import load_recipe
from fusionkit.check import check

ROOT = Path(__file__).parents[1]
LADDER = runpy.run_path(str(ROOT / "benchmarks" / "ladder.py"))
WEIGHTS = {
    "ladder_ce": {"cross_entropy": 1},
    "ladder_supervision": {"cross_entropy": 1, "deep_supervision": 0.2},
    "ladder_distillation": {"cross_entropy": 1, "distillation": 0.3},
    "ladder_all": {"cross_entropy": 1, "deep_supervision": 0.2, "distillation": 0.3},
}


def test_every_rung_is_run():
    assert set(LADDER["RUNGS"]) == set(WEIGHTS) == {path.stem for path in (ROOT / "recipes").glob("ladder_*.yaml")}


@pytest.mark.parametrize("rung", WEIGHTS)
def test_a_rung_differs_from_the_demo_in_its_loss_alone(rung):
    recipe = load_recipe(ROOT / "recipes" / f"{rung}.yaml")
    demo = load_recipe(ROOT / "recipes" / "urfc_demo.yaml").resolved()
    found = recipe.resolved()
    assert {term["name"]: term["weight"] for term in found["loss"]} == WEIGHTS[rung]
    assert found["loss"][0]["label_smoothing"] == 0
    own = {"name": rung, "loss": found["loss"], "baselines": False}
    assert found == demo | own
    branches = "branch image" in str(check(recipe))
    assert branches == (rung != "ladder_ce")


def test_the_table_pairs_the_seeds():
    """Two rungs that rise and fall together: their difference is surer than either."""
    ce = [{"oa": 0.7, "macro_f1": 0.6}, {"oa": 0.8, "macro_f1": 0.7}, {"oa": 0.9, "macro_f1": 0.7}]
    other = [{key: value + 0.01 * (seed + 1) for key, value in row.items()} for seed, row in enumerate(ce)]
    last = LADDER["table"]({"ladder_ce": ce, "ladder_all": other}).splitlines()[-1]
    spread = np.std([0.71, 0.82, 0.93], ddof=1)
    assert last.startswith(f"| all three | 0.820 ± {spread:.3f} |")
    assert last.endswith("| +0.020 ± 0.010 | +0.020 ± 0.010 |")
