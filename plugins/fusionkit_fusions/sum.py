"""Sum."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from fusionkit.flow import Features
from fusionkit_fusions.projection import Elementwise


class Sum(Elementwise):
    """Projects the pooled features to a common width and adds them up; absent modalities add nothing."""

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        return self.dropout(self.project(features).sum(0))
