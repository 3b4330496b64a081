"""Maximum."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from fusionkit.flow import Features
from fusionkit_fusions.projection import Elementwise, presence


class Max(Elementwise):
    """Projects the pooled features to a common width and takes, per dimension, the greatest of those present.

    A sample without any modality gets zeros.
    """

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        greatest = self.project(features, absent=-math.inf).amax(0)
        nothing = ~presence(features).any(0)
        return self.dropout(greatest.masked_fill(nothing.unsqueeze(1), 0))
