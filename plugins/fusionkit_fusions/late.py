"""Late fusion: the branches' predictions by a fixed rule."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from fusionkit.contract import Fusion
from fusionkit.flow import Features, FeatureSpec
from fusionkit_fusions.projection import presence


class Late(Fusion):
    """Each modality predicts by itself, and a rule without parameters combines the probabilities p_m.

    - `mean`: p = mean_m p_m, the sum rule of Kittler, Hatef, Duin, Matas: "On Combining Classifiers", TPAMI 1998.
    - `product`: p ~ prod_m p_m, renormalised; their product rule for equal class priors, and a product of experts
      (Hinton: "Training Products of Experts by Minimizing Contrastive Divergence", Neural Computation 2002).
    - `confidence`: p = sum_m w_m p_m with w_m ~ 1 / H(p_m), the inverse entropy of each sample's prediction (Misra,
      Bourlard, Tyagi: "New Entropy Based Combination Rules in HMM/ANN Multi-Stream ASR", ICASSP 2003). The weights are
      measured and not learned: no gradient goes through them.

    Only the modalities that a sample has take part; one without any is predicted uniformly. The result is log p.

    Args:
        inputs: per modality, the shape of its features.
        rule: how the predictions are combined.
    """

    decision = "branches"

    def __init__(self, inputs: Mapping[str, FeatureSpec], *, rule: Literal["mean", "product", "confidence"] = "mean"):
        super().__init__(inputs)
        self.rule = rule

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        """The pooled features side by side; no head reads them."""
        return torch.cat([feature.pooled for feature in features.values()], dim=1)

    def decide(
        self,
        logits: Float[Tensor, "B K"] | None,
        branches: dict[str, Float[Tensor, "B K"]],
        features: dict[str, Features],
    ) -> Float[Tensor, "B K"]:
        present = presence(features)  # [M, B]
        known = F.log_softmax(torch.stack([branches[name] for name in features]), dim=-1)
        known = known.masked_fill(~present.unsqueeze(-1), -log(known.shape[-1]))  # absent: uniform
        if self.rule == "product":
            return F.log_softmax(known.sum(0), dim=-1)
        scores = torch.zeros_like(known[..., 0]) if self.rule == "mean" else -_entropy(known).detach().log()
        weights = F.log_softmax(scores.masked_fill(~present, torch.finfo(scores.dtype).min), dim=0)
        return torch.logsumexp(known + weights.unsqueeze(-1), dim=0)


def _entropy(logarithms: Float[Tensor, "M B K"]) -> Float[Tensor, "M B"]:
    """Entropy in nats, held off zero so that it has an inverse."""
    return torch.special.entr(logarithms.exp()).sum(-1).clamp(min=1e-6)
