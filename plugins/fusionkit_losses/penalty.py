"""A term that a fusion computes itself and a recipe gives a weight."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from fusionkit.contract import Loss
from fusionkit.flow import Batch, Output


class Penalty(Loss):
    """The penalty of the fusion that a subclass names in `needs_penalty`."""

    def forward(self, output: Output, batch: Batch) -> Float[Tensor, ""]:
        assert self.needs_penalty is not None  # noqa: S101 - a subclass names it
        return output.penalties[self.needs_penalty]
