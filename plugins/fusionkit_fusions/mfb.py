"""Multimodal factorised bilinear pooling."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.contract import Fusion
from fusionkit.errors import ShapeError
from fusionkit.flow import Features, FeatureSpec
from fusionkit.options import Probability
from fusionkit_fusions.projection import without

EPSILON = 1e-8
"""Under the root, whose gradient is infinite at zero."""


class MFB(Fusion):
    """A bilinear map of two modalities, each output of rank k, with power and L2 normalisation.

    Yu, Yu, Fan and Tao, Multi-modal Factorized Bilinear Pooling with Co-Attention Learning for Visual Question
    Answering, ICCV 2017 (pooling alone). With x and y the pooled features,

        z = SumPool_k(U x * V y),    z <- sign(z) sqrt(|z|),    h = z / ||z||,

    the root as z / sqrt(|z| + 1e-8). An absent modality's factor is one: the other alone decides.

    Args:
        inputs: per modality, the shape of its features.
        dim: width of the result.
        factors: k, how many products are added up.
        dropout: on the products.

    Raises:
        ShapeError: there are not two modalities.
    """

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        *,
        dim: PositiveInt = 256,
        factors: PositiveInt = 5,
        dropout: Probability = 0.1,
    ):
        super().__init__(inputs)
        if len(inputs) != 2:
            raise ShapeError(f"mfb is a product of two modalities, not {len(inputs)} ({', '.join(inputs)})")
        self.factors = factors
        self.project = nn.ModuleDict({name: nn.Linear(spec.dim, dim * factors) for name, spec in inputs.items()})
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        one, other = (
            without(layer(features[name].pooled), features[name], 1.0) for name, layer in self.project.items()
        )
        total = self.dropout(one * other).unflatten(1, (-1, self.factors)).sum(2)
        return F.normalize(total / (total.abs() + EPSILON).sqrt(), dim=1, eps=1e-6)
