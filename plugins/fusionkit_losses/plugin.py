"""The built-in losses."""

from __future__ import annotations

from collections.abc import Iterator

from fusionkit import Component, hookimpl

HERE = "fusionkit_losses"


@hookimpl
def fusionkit_components() -> Iterator[Component]:
    yield Component("loss", "cross_entropy", f"{HERE}.cross_entropy:CrossEntropy", "class weights, label smoothing")
