"""Multimodal transfer module."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.contract import Fusion
from fusionkit.flow import Features, FeatureSpec, Fused
from fusionkit.stages import exchange_specs
from fusionkit_fusions.projection import presence


class MMTM(Fusion):
    """Between the encoders' stages, what all modalities say together gates the channels of each.

    Joze, Shaban, Iuzzolino, Koishida: "MMTM: Multimodal Transfer Module for CNN Fusion", CVPR 2020. After each stage
    but the last, with s_m the pooled features of modality m and C_m their width:

        z = ReLU(W [s_1, ..., s_M] + b),   width sum_m C_m / ratio
        e_m = W_m z + b_m
        x_m <- 2 sigmoid(e_m) * x_m        the same gate for every token

    The ReLU is that of the authors' code. The prediction is the mean of the branches' class scores, over the modalities
    present. An absent modality is squeezed to zero. Class tokens of a transformer pass ungated.

    Where no encoder has more than one stage, there is nothing in between, and the module gates the final features.

    Args:
        inputs: per modality, the shape of its features.
        ratio: how much narrower the joint representation is than all channels together.
    """

    decision = "branches"

    def __init__(self, inputs: Mapping[str, FeatureSpec], *, ratio: PositiveInt = 4):
        super().__init__(inputs)
        steps = exchange_specs(inputs)
        self.between = nn.ModuleList(JointExcitation(specs, ratio) for specs in steps)
        self.behind = None if steps else JointExcitation(inputs, ratio)

    def exchange(self, stage: int, features: dict[str, Features]) -> dict[str, Features]:
        return self.between[stage](features)

    def forward(self, features: dict[str, Features]) -> Fused:
        if self.behind is not None:
            features = self.behind(features)
        pooled = {name: feature.pooled for name, feature in features.items()}
        return Fused(torch.cat(list(pooled.values()), dim=1), pooled)

    def decide(
        self,
        logits: Float[Tensor, "B K"] | None,
        branches: dict[str, Float[Tensor, "B K"]],
        features: dict[str, Features],
    ) -> Float[Tensor, "B K"]:
        present = presence(features).unsqueeze(-1)  # [M, B, 1]
        scores = torch.stack([branches[name] for name in features])
        return scores.masked_fill(~present, 0).sum(0) / present.sum(0).clamp(min=1)


class JointExcitation(nn.Module):
    """Squeezes all modalities into one vector and gates the channels of each by it.

    Args:
        inputs: per modality, the shape of its features.
        ratio: of the channels of all modalities to the width of the joint vector.
    """

    def __init__(self, inputs: Mapping[str, FeatureSpec], ratio: int):
        super().__init__()
        channels = sum(spec.dim for spec in inputs.values())
        width = max(channels // ratio, 1)
        self.squeeze = nn.Linear(channels, width)
        self.excite = nn.ModuleDict({name: nn.Linear(width, spec.dim) for name, spec in inputs.items()})

    def forward(self, features: dict[str, Features]) -> dict[str, Features]:
        squeezed = torch.cat([features[name].pooled for name in self.excite], dim=1)
        joint = F.relu(self.squeeze(squeezed))
        return {name: _gated(features[name], 2 * excite(joint).sigmoid()) for name, excite in self.excite.items()}


def _gated(features: Features, gate: Float[Tensor, "B D"]) -> Features:
    """The same features with every token multiplied by the gate; those that are not real become zero."""
    tokens, keep = features.tokens, features.token_mask
    if keep is not None:  # an infinite token times a gate would spoil the gate's gradient
        tokens = tokens.masked_fill(~keep.unsqueeze(-1), 0)
    return features.with_tokens(tokens * gate.unsqueeze(1))
