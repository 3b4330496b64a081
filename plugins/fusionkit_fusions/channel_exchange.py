"""Channel exchanging networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from fusionkit_encoders.convolution import BatchNorm1d
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from fusionkit.contract import Encoder, Fusion
from fusionkit.errors import ShapeError
from fusionkit.flow import Features, FeatureSpec, Fused, Input
from fusionkit_fusions.joined_encoder import JoinedEncoder
from fusionkit_fusions.private_norm import PrivateNorm, Region, Room
from fusionkit_fusions.projection import Projections, presence

JOINED = "joined"


class ChannelExchange(Fusion):
    """Modalities share a network and exchange the channels to which their norms give no weight.

    CEN: Wang, Huang, Sun, Xu, Rong, Huang: "Deep Multimodal Fusion by Channel Exchanging", NeurIPS 2020; with more
    tasks as "Channel Exchanging Networks for Multimodal and Multitask Dense Image Prediction", TPAMI 2022. All
    modalities go through the same convolutions, each with batch norms of its own. Behind the norm of a spatial
    convolution inside a block (BN2 of a bottleneck), with scale gamma (eq. 6 of the first paper):

        x_m[c] <- mean over the others m' of x_m'[c]   where |gamma_m[c]| < threshold

    all read from before the exchange, before the ReLU. Each modality predicts through one shared head, and with

        z = sum_m softmax(alpha)_m stop_gradient(z_m)

    the ensemble does; the losses of a recipe apply to every z_m and to z. The penalty `channel_l1` is the sum of
    |gamma_m| over the m-th part of the channels of every exchanging norm (eq. 4): give it a weight with the loss
    `cen_l1`, or nothing is ever exchanged. The original adds it once for each of the M + 1 predictions: of its weight
    of 2e-4 there, M + 1 times as much acts. The share of channels that are exchanged is logged.

    Two forms. `network` needs encoders of one kind, structure and grid: any convolutional network with batch norms,
    those of timm included; where they differ in channels, each keeps its first convolution. `features` is for
    modalities without a common grid, an image and visit counts: pooled features are projected to one width, normalised
    by private batch norms, exchanged, and go through one shared layer.

    Only modalities that a sample has give channels away, and the ensemble is over those. With more than two, the mean
    of the others.

    Args:
        inputs: per modality, the shape of its features.
        form: "auto": the network where the encoders allow it, else the features; `fusionkit check` shows encoders that
            are joined in one row.
        threshold: the scale below which a channel gives way.
        region: "half": only in the part that is penalised, as in the paper; "all": anywhere, as in the authors' code.
        dim: width of the branches in the form `features`.

    Raises:
        ShapeError: the form is `network` and the encoders differ.
    """

    decision = "branches"
    shares_branch_head = True
    supervises_branches = True

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        *,
        form: Literal["auto", "network", "features"] = "auto",
        threshold: NonNegativeFloat = 0.02,
        region: Region = "half",
        dim: PositiveInt = 256,
    ):
        super().__init__(inputs)
        self.form, self.threshold, self.region, self.dim = form, threshold, region, dim
        self.alpha = nn.Parameter(torch.ones(len(inputs))) if len(inputs) > 1 else None
        self.level: FeatureLevel | None = None
        self.norms: dict[str, PrivateNorm] = {}
        if form == "features" or (form == "auto" and not _of_one_grid(inputs)):
            self._exchange_features()

    def join(self, encoders: nn.ModuleDict) -> nn.ModuleDict:
        if self.level is not None:
            return encoders
        try:
            if not _of_one_grid(self.inputs):
                grids = ", ".join(f"{name} {spec.grid or 'none'}" for name, spec in self.inputs.items())
                raise ShapeError(f"channels are exchanged between maps of one grid and width; the grids are: {grids}")
            joined = JoinedEncoder(cast("dict[str, Encoder]", dict(encoders.items())))
        except ShapeError as error:
            if self.form == "network":
                raise ShapeError(f"{error}; or set form: features") from error
            self._exchange_features()
            return encoders
        self._let_exchange(joined.norms())
        return nn.ModuleDict({JOINED: joined})

    def encode(self, encoders: nn.ModuleDict, inputs: dict[str, Input]) -> dict[str, Features]:
        return encoders[JOINED](inputs) if JOINED in encoders else super().encode(encoders, inputs)

    def forward(self, features: dict[str, Features]) -> Fused:
        if self.level is None:
            branches = {name: feature.pooled for name, feature in features.items()}
        else:
            branches = self.level(features)
        present = presence(features).unsqueeze(2)
        held = torch.stack(list(branches.values())).masked_fill(~present, 0)
        mean = held.sum(0) / present.sum(0).clamp(min=1)
        penalty = sum(
            ((norm.scale * norm.part()).abs().sum() for norm in self.norms.values()), start=mean.new_zeros(())
        )
        return Fused(mean, branches, penalties={"channel_l1": penalty})

    def decide(
        self,
        logits: Float[Tensor, "B K"] | None,
        branches: dict[str, Float[Tensor, "B K"]],
        features: dict[str, Features],
    ) -> Float[Tensor, "B K"]:
        if self.alpha is None:
            return next(iter(branches.values()))
        absent = ~presence(features)
        weights = self.alpha.unsqueeze(1).masked_fill(absent, torch.finfo(self.alpha.dtype).min).softmax(0)
        return (weights.unsqueeze(2) * torch.stack(list(branches.values())).detach()).sum(0)

    def figures(self) -> dict[str, float]:
        """The share of channels that give way, in all and behind each norm."""
        if len(self.inputs) == 1:
            return {}
        given = {path: norm.giving_way().float() for path, norm in self.norms.items()}
        channels = sum(which.numel() for which in given.values())
        return {"exchanged": sum(which.sum().item() for which in given.values()) / max(channels, 1)} | {
            f"exchanged/{path}": which.mean().item() for path, which in given.items()
        }

    @staticmethod
    def remarks(history: Sequence[Mapping[str, float]]) -> list[str]:
        shares = [row["fusion/exchanged"] for row in history if "fusion/exchanged" in row]
        if not shares or any(shares):
            return []
        return [
            "channel_exchange: no channel was ever exchanged, so the modalities met in the ensemble alone; "
            "give the loss cen_l1 a greater weight, or train for longer"
        ]

    def _exchange_features(self) -> None:
        self.level = FeatureLevel(self.inputs, self.dim)
        self._let_exchange({"features": self.level.norm})

    def _let_exchange(self, norms: dict[str, PrivateNorm]) -> None:
        self.norms = norms
        for norm in norms.values():
            norm.exchange_below(self.threshold, self.region)


class FeatureLevel(nn.Module):
    """The exchange on pooled features: private projection and batch norm, exchange, ReLU, one shared layer.

    Args:
        inputs: per modality, the shape of its features.
        dim: width of each branch.
    """

    def __init__(self, inputs: Mapping[str, FeatureSpec], dim: int):
        super().__init__()
        self.project = Projections(inputs, dim)
        self.room = Room()
        self.norm = PrivateNorm([BatchNorm1d(dim) for _ in inputs], self.room)
        self.shared = nn.Sequential(nn.ReLU(), nn.Linear(dim, dim), nn.ReLU())

    def forward(self, features: Mapping[str, Features]) -> dict[str, Float[Tensor, "B D"]]:
        projected = self.project(features)  # [M, B, D]
        with self.room.of(presence(features).t()):
            exchanged = self.norm(projected.transpose(0, 1).flatten(0, 1))
        apart = self.shared(exchanged).unflatten(0, (-1, len(projected)))
        return {name: apart[:, number] for number, name in enumerate(features)}


def _of_one_grid(inputs: Mapping[str, FeatureSpec]) -> bool:
    specs = list(inputs.values())
    return all(spec.grid is not None and (spec.grid, spec.dim) == (specs[0].grid, specs[0].dim) for spec in specs)
