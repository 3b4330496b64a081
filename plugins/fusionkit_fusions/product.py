"""Product."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from fusionkit.flow import Features
from fusionkit_fusions.projection import Elementwise


class Product(Elementwise):
    """Projects the pooled features to a common width and multiplies them; absent modalities count as one."""

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        return self.dropout(self.project(features, absent=1.0).prod(0))
