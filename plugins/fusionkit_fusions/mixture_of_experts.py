"""Mixture of experts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.contract import Fusion
from fusionkit.errors import RequestError
from fusionkit.flow import Features, FeatureSpec, Fused
from fusionkit.options import Probability
from fusionkit_fusions.projection import Projections


class MixtureOfExperts(Fusion):
    """Experts that each read all modalities, and a gate that says for each sample how much each one counts.

    With x the concatenation of the projected pooled features (zero where absent) and E_i two-layer MLPs,
    h = sum_i g_i(x) E_i(x), where

    - by default g = softmax(W_g x): Jacobs, Jordan, Nowlan and Hinton, Adaptive Mixtures of Local Experts, Neural
      Computation 1991;
    - with `top_k`, g = softmax(KeepTopK(W_g x + noise * softplus(W_n x), k)), with noise ~ N(0, 1) for each sample and
      expert, in training only: Shazeer et al., Outrageously Large Neural Networks: The Sparsely-Gated
      Mixture-of-Experts Layer, ICLR 2017. All experts are computed, so this saves no time.

    The penalty `moe_balance` is Shazeer's: CV(importance)^2, where an expert's importance is the sum of its gates over
    the batch and CV is standard deviation over mean; where noise is drawn, plus CV(load)^2, where its load is the
    expected number of samples that choose it. The loss `moe_balance` gives it a weight.

    Args:
        inputs: per modality, the shape of its features.
        dim: width of each projection, of the experts' hidden layer and of the result.
        experts: how many.
        top_k: how many count for one sample; None means all.
        dropout: on the result.

    Raises:
        RequestError: `top_k` is not less than the number of experts.
    """

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        *,
        dim: PositiveInt = 256,
        experts: PositiveInt = 4,
        top_k: PositiveInt | None = None,
        dropout: Probability = 0.1,
    ):
        super().__init__(inputs)
        if top_k is not None and top_k >= experts:
            raise RequestError(f"mixture_of_experts: top_k {top_k} of {experts} experts; leave it out to use them all")
        self.top_k = top_k
        self.project = Projections(inputs, dim)
        width = len(inputs) * dim
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, dim), nn.GELU(), nn.Linear(dim, dim)) for _ in range(experts)
        )
        self.gate = nn.Linear(width, experts)
        if top_k is not None:
            self.noise = nn.Linear(width, experts)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: dict[str, Features]) -> Fused:
        vector = torch.cat(self.project.each(features), dim=1)
        gates, balance = self._route(vector)
        answers = torch.stack([expert(vector) for expert in self.experts], dim=1)  # [B, E, D]
        return Fused(self.dropout((gates.unsqueeze(2) * answers).sum(1)), penalties={"moe_balance": balance})

    def _route(self, vector: Float[Tensor, "B W"]) -> tuple[Float[Tensor, "B E"], Float[Tensor, ""]]:
        clean = self.gate(vector).float()
        if self.top_k is None:
            gates = clean.softmax(1)
            return gates, squared_variation(gates.sum(0))
        spread = F.softplus(self.noise(vector).float())
        scores = clean + torch.randn_like(clean) * spread if self.training else clean
        best, chosen = scores.topk(self.top_k + 1, dim=1)
        last, next_best = best[:, -2:].chunk(2, dim=1)
        kept = scores >= last
        gates = torch.zeros_like(scores).scatter(1, chosen[:, :-1], best[:, :-1].softmax(1))
        balance = squared_variation(gates.sum(0))
        if self.training:
            # To be among the chosen, an expert has to beat the k-th best of the others under a new draw of its noise.
            rival = next_best.where(kept, last)
            load = torch.special.ndtr((clean - rival) / spread).sum(0)
            balance = balance + squared_variation(load)
        return gates, balance


def squared_variation(values: Float[Tensor, " E"]) -> Float[Tensor, ""]:
    """Variance over squared mean."""
    return values.var(correction=0) / (values.mean().square() + 1e-10)
