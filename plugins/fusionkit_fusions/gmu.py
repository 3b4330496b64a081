"""Gated multimodal unit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from fusionkit.contract import Fusion
from fusionkit.flow import Features, FeatureSpec
from fusionkit_fusions.projection import presence


class GMU(Fusion):
    """Gates that read all modalities say how much of each one goes through, dimension by dimension.

    Arevalo, Solorio, Montes-y-Gomez and Gonzalez, Gated Multimodal Units for Information Fusion, ICLR workshop 2017.
    With x_m the pooled features and h_m = tanh(W_m x_m):

    - two modalities: z = sigmoid(W_z [x_1, x_2]), h = z * h_1 + (1 - z) * h_2;
    - any other number: z_m = sigmoid(W_zm [x_1, ..., x_M]), h = sum_m z_m * h_m.

    An absent modality is zero in the gates' input and adds nothing. Of two, the one that is left goes through whole.

    Args:
        inputs: per modality, the shape of its features.
        dim: width of the result.
    """

    def __init__(self, inputs: Mapping[str, FeatureSpec], *, dim: PositiveInt = 256):
        super().__init__(inputs)
        self.project = nn.ModuleDict({name: nn.Linear(spec.dim, dim, bias=False) for name, spec in inputs.items()})
        gates = 1 if len(inputs) == 2 else len(inputs)
        self.gate = nn.Linear(sum(spec.dim for spec in inputs.values()), gates * dim, bias=False)

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        pooled = {name: features[name].pooled for name in self.inputs}  # zero where absent, and tanh(0) is 0
        hidden = torch.stack([layer(pooled[name]).tanh() for name, layer in self.project.items()])  # [M, B, D]
        gate = self.gate(torch.cat(list(pooled.values()), dim=1)).sigmoid()
        if len(self.inputs) == 2:
            present = presence(features).unsqueeze(2)
            gates = torch.stack([gate, 1 - gate]).where(present.all(0), present.to(gate.dtype))
        else:
            gates = gate.unflatten(1, (len(self.inputs), -1)).transpose(0, 1)
        return (gates * hidden).sum(0)
