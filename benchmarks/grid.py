"""Two cells at a time on a core each, against one at a time on one core, and against one at a time on two cores.

    python benchmarks/grid.py                       # all 27 cells of recipes/grids/urfc_demo.yaml, three times
    python benchmarks/grid.py --cells 4 --epochs 3  # quicker

Wants a machine with two cores that does nothing else. The ratios are of whole grids, from the proof of the cells to the
tables; the goals are two jobs in at most 0.6 of the time of one job of one core, and in no more than that of one job of
two cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from fusionkit import grid
from fusionkit.grids import load_grid
from fusionkit.progress import Progress

ROOT = Path(__file__).parents[1]
CASES = {
    "one job of one core": (1, 1),
    "one job of two cores": (1, 2),
    "two jobs of one core": (2, 1),
}


@contextmanager
def two_cores() -> Iterator[None]:
    """Keep this process and its children on two cores, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:2])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, help="so many cells; default: all")
    parser.add_argument("--epochs", type=int, help="default: as in the recipe")
    given = parser.parse_args()
    overrides = [f"train.epochs={given.epochs}"] if given.epochs else []
    loaded = load_grid(ROOT / "recipes" / "grids" / "urfc_demo.yaml", overrides)
    loaded = replace(loaded, cells=loaded.cells[: given.cells])
    took = {}
    with two_cores():
        for case, (jobs, threads) in CASES.items():
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                for _ in grid(loaded, grids=folder, jobs=jobs, threads=threads, progress=Progress(quiet=True)):
                    pass
                took[case] = time.perf_counter() - began
            load = ""
            with suppress(OSError, AttributeError):
                load = f"; load of the machine {os.getloadavg()[0]:.1f}"
            print(f"{case}: {took[case]:.1f} s for {len(loaded.cells)} cells{load}", flush=True)
    both = took["two jobs of one core"]
    print(f"two jobs of one core / one job of one core: {both / took['one job of one core']:.2f} (goal: at most 0.6)")
    print(f"two jobs of one core / one job of two cores: {both / took['one job of two cores']:.2f} (goal: at most 1)")


if __name__ == "__main__":
    main()
