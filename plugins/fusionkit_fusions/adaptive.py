"""Adaptive weights of the modalities."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from fusionkit.contract import Fusion
from fusionkit.flow import Features, FeatureSpec
from fusionkit.options import Probability
from fusionkit_fusions.projection import Projections, presence


class Adaptive(Fusion):
    """A weighted mean of the projected features, with weights that each sample's features choose.

    After Hori et al., Attention-Based Multimodal Fusion for Video Description, ICCV 2017, without the state of its
    decoder: with x_m the pooled features after a layer norm,

        s_m = w . tanh(V_m x_m + b_m),    a = softmax over the modalities present of s,
        h = sum_m a_m (W_m x_m + c_m).

    A sample without any modality gets zeros. One modality has weight one and no score.

    Args:
        inputs: per modality, the shape of its features.
        dim: width of the scores' hidden layer and of the result.
        dropout: on the result.
    """

    def __init__(self, inputs: Mapping[str, FeatureSpec], *, dim: PositiveInt = 256, dropout: Probability = 0.1):
        super().__init__(inputs)
        self.project = Projections(inputs, dim)
        self.dropout = nn.Dropout(dropout)
        if len(inputs) > 1:
            self.hidden = Projections(inputs, dim)
            self.score = nn.Linear(dim, 1, bias=False)

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        vectors = self.project(features)  # [M, B, D], zero where absent
        if len(self.inputs) > 1:
            vectors = vectors * self._weights(features)
        return self.dropout(vectors.sum(0))

    def _weights(self, features: dict[str, Features]) -> Float[Tensor, "M B 1"]:
        scores = self.score(self.hidden(features).tanh())
        absent = ~presence(features).unsqueeze(2)
        # Not minus infinity, whose softmax is no number where all are absent.
        return scores.masked_fill(absent, torch.finfo(scores.dtype).min).softmax(0)
