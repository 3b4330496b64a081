"""Absolute difference, for change detection."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor

from fusionkit.errors import ShapeError
from fusionkit.flow import Features, FeatureSpec
from fusionkit.options import Probability
from fusionkit_fusions.projection import Elementwise


class Difference(Elementwise):
    """Projects the pooled features of two modalities to a common width and takes their absolute difference.

    For images of the same place before and after (Daudt et al., Fully Convolutional Siamese Networks for Change
    Detection, ICIP 2018, with pooled features). An absent modality counts as zero.

    Args:
        inputs: per modality, the shape of its features.
        dim: the common width, and that of the result.
        dropout: on the result.

    Raises:
        ShapeError: there are not two modalities.
    """

    def __init__(self, inputs: Mapping[str, FeatureSpec], *, dim: PositiveInt = 256, dropout: Probability = 0.1):
        super().__init__(inputs, dim=dim, dropout=dropout)
        if len(inputs) != 2:
            raise ShapeError(f"difference compares two modalities, not {len(inputs)} ({', '.join(inputs)})")

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        before, after = self.project(features)
        return self.dropout((before - after).abs())
