"""Mean."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from fusionkit.flow import Features
from fusionkit_fusions.projection import Elementwise, presence


class Mean(Elementwise):
    """Projects the pooled features to a common width and averages them over the modalities that are present.

    A sample without any modality gets zeros.
    """

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        count = presence(features).sum(0).clamp(min=1).unsqueeze(1)
        return self.dropout(self.project(features).sum(0) / count)
