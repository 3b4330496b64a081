"""The metrics that recipes name, in a table of variants: means and deviations over seeds, without a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fusionkit.estimates import Estimate
from fusionkit.extra_metrics import AboutMetric
from fusionkit.headlines import LABELS
from fusionkit.runs import Run


@dataclass(frozen=True)
class Spread:
    """A figure over the seeds of a variant.

    Args:
        mean: over the seeds.
        deviation: standard deviation over the seeds; None of one seed.
    """

    mean: float
    deviation: float | None


def spread(values: Sequence[float | None]) -> Spread | None:
    """None where one of the values is undefined."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return Spread(float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None)


def extra_figures(metrics: Mapping[str, Estimate]) -> dict[str, float | None]:
    """Those of a result's figures that are no headlines."""
    return {name: found.value for name, found in metrics.items() if name not in LABELS}


def shared_metrics(runs: Sequence[Run]) -> tuple[dict[str, AboutMetric], list[str]]:
    """The metrics of the runs' recipes, and notes on those that are left out: with other options a metric is another.

    Raises:
        DataError: a run's files are broken.
    """
    about: dict[str, AboutMetric] = {}
    options: dict[str, object] = {}
    differing: dict[str, None] = {}
    for run in runs:
        about |= run.result.extra_metrics
        for told in run.resolved.get("metrics", ()):
            if options.setdefault(told["name"], told) != told:
                differing[told["name"]] = None
    notes = [f"{name} has other options in some of the runs, so it is left out." for name in differing]
    return {name: metric for name, metric in about.items() if name not in differing}, notes
