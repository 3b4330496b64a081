"""The built-in fusions."""

from __future__ import annotations

from collections.abc import Iterator

from fusionkit import Component, hookimpl

HERE = "fusionkit_fusions"


@hookimpl
def fusionkit_components() -> Iterator[Component]:
    yield Component("fusion", "concat", f"{HERE}.concat:Concat", "concatenate, then an MLP")
    yield Component("fusion", "sum", f"{HERE}.sum:Sum", "sum of projected features")
    yield Component("fusion", "mean", f"{HERE}.mean:Mean", "mean of projected features, over those present")
    yield Component("fusion", "max", f"{HERE}.max:Max", "maximum of projected features, over those present")
    yield Component("fusion", "product", f"{HERE}.product:Product", "product of projected features")
    yield Component("fusion", "difference", f"{HERE}.difference:Difference", "absolute difference of two modalities")
    yield Component("fusion", "early_stack", f"{HERE}.early_stack:EarlyStack", "stack the inputs, one encoder for all")
