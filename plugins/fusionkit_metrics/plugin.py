"""The built-in metrics."""

from __future__ import annotations

from collections.abc import Iterator

from fusionkit import Component, hookimpl

PLUGIN_API = 1
HERE = "fusionkit_metrics"


@hookimpl
def fusionkit_components() -> Iterator[Component]:
    yield Component(
        "metric", "top_k", f"{HERE}.top_k:TopK", "share of samples whose class is among the k most probable"
    )
    yield Component("metric", "jaccard", f"{HERE}.jaccard:Jaccard", "mean over classes of the intersection over union")
    yield Component("metric", "brier", f"{HERE}.brier:Brier", "squared error of the probabilities, 0 to 2")
    yield Component(
        "metric", "ece", f"{HERE}.ece:ECE", "expected calibration error: how far confidence is from accuracy"
    )
