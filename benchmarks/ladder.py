"""Runs the seed work's ladder on the demo data, several seeds a rung, and prints its table.

    make ladder                                  # five seeds, about twenty minutes on one core
    python benchmarks/ladder.py --seeds 0 1      # these seeds
    python benchmarks/ladder.py --runs DIR       # finished runs of the same recipes in DIR are not repeated

The rungs are `recipes/ladder_*.yaml`. A seed draws the initial weights and the order of training; the test samples are
the same for all. The difference to cross-entropy is taken seed by seed, and spreads are over seeds: how it would vary
with other test samples is not among them. A mean difference that is not well beyond its standard error (the standard
deviation over the root of the seeds) says nothing.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from fusionkit import load_recipe, run
from fusionkit.recipe import Recipe
from fusionkit.runs import Run, RunFolder

ROOT = Path(__file__).parents[1]
RUNGS = {
    "ladder_ce": "CE",
    "ladder_supervision": "CE + deep supervision",
    "ladder_distillation": "CE + distillation",
    "ladder_all": "all three",
}
FIGURES = {"oa": "OA", "macro_f1": "macro F1"}


def finished(recipe: Recipe, runs: Path) -> Run | None:
    """A finished run of this very recipe, seed included."""
    for result in sorted(runs.glob(f"{recipe.name}-*/result.json")):
        if RunFolder(result.parent).is_of(recipe):
            return Run.load(result.parent)
    return None


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: mean ± standard deviation over seeds, and the same of the difference to the first rung, seed by seed.

    Args:
        found: per rung, the figures of each seed, in the same order.
    """
    base = next(iter(found.values()))
    head = ["rung", *FIGURES.values(), *(f"{title} - CE" for title in FIGURES.values())]
    lines = [head, ["---"] * len(head)]
    for number, (rung, rows) in enumerate(found.items()):
        cells = [spread([row[key] for row in rows]) for key in FIGURES]
        for key in FIGURES:
            differences = [row[key] - other[key] for row, other in zip(rows, base, strict=True)]
            cells.append(spread(differences, "+.3f") if number else "")
        lines.append([RUNGS[rung], *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(values: Sequence[float], form: str = ".3f") -> str:
    mean = format(statistics.mean(values), form)
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)), help="default: 0 1 2 3 4")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="default: runs")
    given = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {rung: [] for rung in RUNGS}
    for seed in given.seeds:
        for rung, rows in found.items():
            recipe = load_recipe(ROOT / "recipes" / f"{rung}.yaml", [f"seed={seed}"])
            metrics = (finished(recipe, given.runs) or run(recipe, runs=given.runs)).result.metrics
            rows.append({key: metrics[key].value for key in FIGURES})
        print(f"\n{len(rows)} of {len(given.seeds)} seeds\n\n{table(found)}", flush=True)


if __name__ == "__main__":
    main()
