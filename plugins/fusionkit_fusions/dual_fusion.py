"""Dual fusion: two fusions in sequence, and a decision of main and branch predictions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.contract import Fusion
from fusionkit.flow import Features, FeatureSpec, Fused
from fusionkit.options import Probability
from fusionkit_fusions.projection import Projections, presence


class DualFusion(Fusion):
    """Fuses the features, hands the result back to each branch, fuses again, and lets the branches vote.

    With x_m the pooled features of modality m, [.,.] concatenation and MLP = dropout, linear, LayerNorm, GELU, dropout:

        u_m = GELU(W_m LayerNorm(x_m) + b_m)
        f = MLP_1[u_1, ..., u_M]                               first fusion
        v_m = u_m + sigmoid(G_m [u_m, f] + c_m) * (P_m f + d_m)  feedback: what a branch takes of it
        g = MLP_2[v_1, ..., v_M]                               second fusion, read by the main head
        z = w_0 z_main + sum_m w_m z_m,   w = softmax(a)       decision; the head of branch m reads v_m

    It follows no single paper. Each stage can be switched off, so that an ablation tells which of them helps.

    - `feedback: false`: one fusion, g = f; branch heads read x_m. What feedback and second fusion add.
    - `branch_votes: false`: z = z_main. What the decision adds. In it, the gradient of a loss of z reaches z_m scaled
      by w_m and z_main scaled by w_0, 1 / (M + 1) each in the beginning, and asks that the sum be right, not any single
      prediction. Give the branches a loss of their own if they are to predict by themselves.
    - both off: plain concatenation, z from f.

    With feedback, f is the intermediate stage `first`, which a loss may supervise.

    An absent modality has u = v = 0 and no vote; the others' weights then add up to one.

    Args:
        inputs: per modality, the shape of its features.
        dim: width of each projection, of each branch and of both fusions.
        dropout: on each concatenation and on its result.
        feedback: hand the first fusion's result back to the branches and fuse them again.
        branch_votes: let the branches' predictions count in the decision, by learned weights.
    """

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        *,
        dim: PositiveInt = 256,
        dropout: Probability = 0.1,
        feedback: bool = True,
        branch_votes: bool = True,
    ):
        super().__init__(inputs)
        self.project = Projections(inputs, dim)
        self.first = _mix(len(inputs), dim, dropout)
        self.feedback = nn.ModuleDict({name: Feedback(dim) for name in inputs}) if feedback else None
        self.second = _mix(len(inputs), dim, dropout) if feedback else None
        self.decision = "both" if branch_votes else "fused"
        self.votes = nn.Parameter(torch.zeros(1 + len(inputs))) if branch_votes else None

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"] | Fused:
        own = F.gelu(self.project(features))  # [M, B, D]; gelu(0) is 0, so absent stays absent
        fused = self.first(_side_by_side(own))
        if self.feedback is None or self.second is None:
            return fused
        updated = torch.stack([hand(u, fused) for hand, u in zip(self.feedback.values(), own, strict=True)])
        updated = updated.masked_fill(~presence(features).unsqueeze(-1), 0)
        branches = dict(zip(self.feedback, updated, strict=True))
        return Fused(self.second(_side_by_side(updated)), branches, stages={"first": fused})

    def decide(
        self,
        logits: Float[Tensor, "B K"] | None,
        branches: dict[str, Float[Tensor, "B K"]],
        features: dict[str, Features],
    ) -> Float[Tensor, "B K"]:
        main = super().decide(logits, branches, features)
        if self.votes is None:
            return main
        present = presence(features)
        counted = torch.cat([torch.ones_like(present[:1]), present])  # [1 + M, B]
        weights = self.votes.unsqueeze(1).masked_fill(~counted, -torch.inf).softmax(0)
        return (weights.unsqueeze(-1) * torch.stack([main, *(branches[name] for name in features)])).sum(0)

    def figures(self) -> dict[str, float]:
        """The weight of each prediction in the decision where every modality is present."""
        if self.votes is None:
            return {}
        names = ["main", *self.inputs]
        return {f"weight_{n}": weight for n, weight in zip(names, self.votes.softmax(0).tolist(), strict=True)}


class Feedback(nn.Module):
    """Adds to a branch what its gate lets through of the fused representation.

    Args:
        dim: width of both.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.gate = nn.Linear(2 * dim, dim)
        self.value = nn.Linear(dim, dim)

    def forward(self, own: Float[Tensor, "B D"], fused: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return own + self.gate(torch.cat([own, fused], dim=1)).sigmoid() * self.value(fused)


def _mix(count: int, dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(dropout), nn.Linear(count * dim, dim), nn.LayerNorm(dim), nn.GELU(), nn.Dropout(dropout)
    )


def _side_by_side(vectors: Float[Tensor, "M B D"]) -> Float[Tensor, "B M*D"]:
    return vectors.transpose(0, 1).flatten(1)
