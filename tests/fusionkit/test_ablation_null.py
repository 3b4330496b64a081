"""Where variants are one recipe, or equally good, a table may say that one is better or worse in one grid of twenty.

The simulation is that of `benchmarks/null_grids.py`, which runs more grids and prints what other tests would say.
"""

import runpy
from pathlib import Path

import numpy as np
import pytest

SIMULATED = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "null_grids.py"))


@pytest.mark.slow
@pytest.mark.parametrize("null", list(SIMULATED["NULLS"]))
def test_few_grids_of_nothing_claim_a_difference(null):
    random = np.random.default_rng(3)
    wrong, by_samples = 0, 0
    for _ in range(200):
        right = SIMULATED["grid_of_nothing"](random, SIMULATED["NULLS"][null], seeds=3, variants=4)
        found = [row.against for row in SIMULATED["rows"](right) if row.against]
        wrong += any(against.verdict in ("better", "worse") for against in found)
        by_samples += any(against.p_samples < 0.05 / 3 for against in found)
    assert wrong <= 10
    assert by_samples > 10  # of a test that forgets the seeds: the simulation can tell


def test_a_true_difference_is_found():
    random = np.random.default_rng(0)
    right = SIMULATED["grid_of_nothing"](random, SIMULATED["NULLS"]["same recipe"], seeds=5, variants=3, n=400)
    right[2] |= random.random((5, 400)) < 0.5
    assert SIMULATED["verdicts"](right) == ["no evidence", "better"]
