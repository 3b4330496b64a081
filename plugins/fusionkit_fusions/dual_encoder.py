"""Two encoders whose embeddings are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import nn
from torch.nn import functional as F

from fusionkit.contract import Fusion
from fusionkit.errors import ShapeError
from fusionkit.flow import Features, FeatureSpec, Fused
from fusionkit_fusions.projection import without


class DualEncoder(Fusion):
    """Projects the pooled features of each of two modalities into one space; nothing of the one reaches the other.

    Radford et al., Learning Transferable Visual Models From Natural Language Supervision (CLIP), ICML 2021:

        e_m = W_m LN(f_m) / ||W_m LN(f_m)||

    The fused vector is [e_1, e_2], which a retrieval compares by cosine; an absent modality's part is zero. Branch
    heads and losses read the projections before they are brought to unit length.

    Args:
        inputs: per modality, the shape of its features; two.
        dim: width of the space.
        project: "linear", as above; or "mlp", two layers with a GELU between (the projection head of Chen et al.,
            A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020, there with ReLU).

    Raises:
        ShapeError: there are not two modalities.
    """

    embeds = True

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        *,
        dim: PositiveInt = 256,
        project: Literal["linear", "mlp"] = "linear",
    ):
        super().__init__(inputs)
        if len(inputs) != 2:
            raise ShapeError(f"dual_encoder compares two modalities, not {len(inputs)} ({', '.join(inputs)})")
        self.project = nn.ModuleDict()
        for name, spec in inputs.items():
            hidden = [nn.Linear(spec.dim, dim), nn.GELU()] if project == "mlp" else []
            width = dim if hidden else spec.dim
            self.project[name] = nn.Sequential(nn.LayerNorm(spec.dim), *hidden, nn.Linear(width, dim, bias=False))

    def forward(self, features: dict[str, Features]) -> Fused:
        parts = {
            name: without(project(features[name].pooled), features[name]) for name, project in self.project.items()
        }
        return Fused(torch.cat([F.normalize(part, dim=1) for part in parts.values()], dim=1), branches=parts)
