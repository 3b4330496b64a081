"""Cross-stitch units."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusionkit import Features, FeatureSpec, Fusion, Probability, ShapeError, exchange_specs


class CrossStitch(Fusion):
    """After each stage of the encoders but the last, every modality goes on with a mixture of all.

    Misra, Shrivastava, Gupta, Hebert: "Cross-Stitch Networks for Multi-task Learning", CVPR 2016, eq. 1, with
    modalities in the place of tasks. With x_m the features of modality m, for each channel c and every cell

        x_m[c] <- sum_n alpha[c]_mn x_n[c]

    The alphas are learned; each unit has its own. In the end the pooled features of all modalities are put side by
    side. An absent modality adds nothing, nor does a token that is not real. How much each modality keeps of its own,
    the mean over units and channels, is logged as `fusion/own`.

    Args:
        inputs: per modality, the shape of its features.
        own: the share of a modality's own features in the beginning (alpha_S); the others share the rest.

    Raises:
        ShapeError: the features differ between the modalities, or no encoder has a second stage.
    """

    def __init__(self, inputs: Mapping[str, FeatureSpec], *, own: Probability = 0.9):
        super().__init__(inputs)
        self.units = nn.ModuleList()
        if len(inputs) == 1:
            return
        steps = exchange_specs(inputs)
        if not steps:
            raise ShapeError("cross_stitch stitches between stages, and no encoder has more than one")
        for number, specs in enumerate(steps, 1):
            shapes = {name: (spec.dim, spec.grid or spec.tokens) for name, spec in specs.items()}
            if len(set(shapes.values())) > 1:
                told = ", ".join(f"{name} {width} of {cells}" for name, (width, cells) in shapes.items())
                raise ShapeError(
                    f"cross_stitch needs features of one shape; after stage {number} their widths and grids are {told}"
                )
            self.units.append(Unit(tuple(specs), next(iter(specs.values())).dim, own))

    def exchange(self, stage: int, features: dict[str, Features]) -> dict[str, Features]:
        return self.units[stage](features) if self.units else features

    def forward(self, features: dict[str, Features]) -> Tensor:
        return torch.cat([features[name].pooled for name in self.inputs], dim=1)

    def figures(self) -> dict[str, float]:
        if not self.units:
            return {}
        kept = [unit.alpha.detach().diagonal(dim1=0, dim2=1).mean() for unit in self.units]
        return {"own": float(torch.stack(kept).mean())}


class Unit(nn.Module):
    """One cross-stitch unit; `alpha [M, M, D]` is what each modality (first axis) takes of each, channel by channel."""

    def __init__(self, modalities: tuple[str, ...], width: int, own: float):
        super().__init__()
        self.modalities = modalities
        count = len(modalities)
        alpha = torch.full((count, count, width), (1 - own) / (count - 1))
        alpha[range(count), range(count)] = own
        self.alpha = nn.Parameter(alpha)

    def forward(self, features: dict[str, Features]) -> dict[str, Features]:
        real = torch.stack([_real(features[name]) for name in self.modalities])
        mixed = torch.einsum("mnd,nbtd->mbtd", self.alpha, real)
        return {name: features[name].with_tokens(mixed[number]) for number, name in enumerate(self.modalities)}


def _real(features: Features) -> Tensor:
    """The tokens `[B, N, D]`, zero where they are not real or the modality is absent."""
    keep = features.token_mask
    return features.tokens if keep is None else features.tokens.masked_fill(~keep.unsqueeze(-1), 0)
