"""How often a table claims a difference where there is none: grids of simulated classifiers, all equally good.

    python benchmarks/null_grids.py              # 1,000 grids of each kind, about 40 minutes on one core
    python benchmarks/null_grids.py --grids 200

A grid has five variants, compared with the first, and three to ten seeds. A sample is answered rightly where a margin
is positive: how easy the sample is, plus the luck of the seed with all samples, its luck with a sample's class, and
what is neither. Where variants are the same recipe that is all. Where they are different recipes that are equally good
over all samples that there could be, each variant has its own easy samples too, the same for every seed.

Printed is the share of grids in which any variant is called better or worse, for the procedure of `fusionkit.ablation`
and for what is often done: a paired test over the samples alone, of the answers averaged over seeds, and a paired
t-test over the seeds alone, both with Holm's correction. All should be at or under 5 %.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from fusionkit.ablation import Row, compared
from fusionkit.ablation_runs import Answered
from fusionkit.headlines import HEADLINES
from fusionkit.result import Cost
from fusionkit.runs import Run
from fusionkit.seeds import LEVEL, holm

CLASSES = 6


@dataclass(frozen=True)
class Null:
    """Standard deviations of the parts of a margin; samples differ by one."""

    luck: float
    luck_with_class: float
    residual: float
    of_variant: float = 0.0


NULLS = {
    "same recipe": Null(0.05, 0.1, 0.6),
    "same recipe, lucky seeds": Null(0.15, 0.3, 0.4),
    "equally good recipes": Null(0.05, 0.1, 0.3, 0.6),
}


def grid_of_nothing(
    random: np.random.Generator, null: Null, *, seeds: int, variants: int = 5, n: int = 150
) -> np.ndarray:
    """Which samples each variant and seed answers rightly: booleans `[V, S, n]`."""
    classes = random.integers(0, CLASSES, n)
    margin = 0.9 + random.normal(size=n) + null.luck * random.normal(size=(variants, seeds, 1))
    margin = margin + null.luck_with_class * random.normal(size=(variants, seeds, CLASSES))[:, :, classes]
    margin += null.residual * random.normal(size=margin.shape)
    margin += null.of_variant * random.normal(size=(variants, 1, n))
    return margin > 0


def rows(right: np.ndarray) -> list[Row]:
    """The table of such a grid."""
    models = [
        Answered(str(variant), seed, Run("."), _share(held), held.astype(np.float64), None, Cost(), "")
        for variant, of_seeds in enumerate(right)
        for seed, held in enumerate(of_seeds)
    ]
    return compared("classification", models, "0")


def verdicts(right: np.ndarray) -> list[str]:
    """What the table says of every variant but the first."""
    return [row.against.verdict for row in rows(right) if row.against]


def _share(right: np.ndarray):
    """OA in the place of every figure: of arrays of right and wrong there is no other."""
    return lambda counts: np.repeat((counts @ right / len(right))[:, np.newaxis], len(HEADLINES["classification"]), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grids", type=int, default=1000, help="of each kind; default: 1000")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5, 10], help="default: 2 3 5 10")
    given = parser.parse_args()
    print("| null | seeds | fusionkit | samples alone | seeds alone |\n|---|---|---|---|---|")
    for name, null in NULLS.items():
        for seeds in given.seeds:
            random = np.random.default_rng(seeds)
            wrong = np.zeros(3, int)
            for _ in range(given.grids):
                found = [row.against for row in rows(grid_of_nothing(random, null, seeds=seeds)) if row.against]
                wrong += (
                    any(against.verdict in ("better", "worse") for against in found),
                    min(holm([against.p_samples for against in found])) < LEVEL,
                    min(holm([against.p_seeds or 0.0 for against in found])) < LEVEL,
                )
            shares = " | ".join(f"{100 * share:.1f} %" for share in wrong / given.grids)
            print(f"| {name} | {seeds} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
