"""A learned token in the place of an absent modality."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from fusionkit.flow import Features


class StandIn(nn.Module):
    """Puts one learned vector in every token of samples without a modality, in training and at test alike.

    The fusion then takes the modality for present. What the stages made (`Features.stages`) stays masked.

    Args:
        dim: width of the modality's features.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(dim), std=0.02))

    def forward(self, features: Features) -> Features:
        if features.present is None:
            return features
        present = features.present
        tokens = torch.where(present[:, None, None], features.tokens, self.token.to(features.tokens.dtype))
        mask = None if features.mask is None else features.mask | ~present.unsqueeze(1)
        return replace(features, tokens=tokens, mask=mask, present=None)
