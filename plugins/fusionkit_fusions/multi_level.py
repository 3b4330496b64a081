"""Multi-level fusion by a central network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from fusionkit.contract import Fusion
from fusionkit.errors import RequestError
from fusionkit.flow import Features, FeatureSpec, Fused
from fusionkit.options import Probability
from fusionkit.stages import stages_done
from fusionkit_fusions.projection import Projections

Held = TypeVar("Held", Features, FeatureSpec)


class MultiLevel(Fusion):
    """A central network that reads low, middle and high features of all modalities, level by level.

    Vielzeuf, Lechervy, Pateux, Jurie: "CentralNet: a Multilayer Approach for Multimodal Fusion", ECCV workshops 2018.
    With h_m^l the features of modality m at level l and learned scalars a that begin at one:

        c^l = f^l(a_c^l c^(l-1) + sum_m a_m^l h_m^l),   f = linear, LayerNorm, ReLU, dropout

    where the first level has no c^(l-1) and the last c is the result. As encoders differ in shape, h_m^l is what
    stage ceil(l L / 3) of the L stages of m made, l = 1, 2, 3, pooled, normalised and projected to one width; the high
    level is what the encoder hands over in the end. An encoder of one stage gives that at every level, through a
    projection for each. Where a modality is absent, its h is zero.

    The paper trains the modalities' own predictions too: add a loss on the branches for that. The levels before the
    last are intermediate stages, which a loss may supervise.

    Args:
        inputs: per modality, the shape of its features.
        low: fuse the features of the first third of the stages.
        middle: fuse the features of the second third.
        high: fuse the final features.
        dim: width of each level and of the result.
        dropout: after each level.

    Raises:
        RequestError: all levels are off.
    """

    reads_stages = True

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        *,
        low: bool = True,
        middle: bool = True,
        high: bool = True,
        dim: PositiveInt = 256,
        dropout: Probability = 0.1,
    ):
        super().__init__(inputs)
        switched = {"low": low, "middle": middle, "high": high}
        self.third = {name: third for third, (name, on) in enumerate(switched.items(), 1) if on}
        if not self.third:
            raise RequestError("multi_level has nothing to fuse: turn on low, middle or high")
        self.levels = nn.ModuleDict()
        for name, third in self.third.items():
            specs = {modality: _at(spec, third) for modality, spec in inputs.items()}
            self.levels[name] = CentralLayer(specs, dim, dropout, first=not self.levels)

    def forward(self, features: dict[str, Features]) -> Fused:
        made: dict[str, Tensor] = {}
        for name, third in self.third.items():
            at_level = {modality: _at(feature, third) for modality, feature in features.items()}
            made[name] = self.levels[name](at_level, list(made.values())[-1:])
        _, last = made.popitem()
        return Fused(last, stages=made)

    def figures(self) -> dict[str, float]:
        """The scalar of every modality, and of the level before, at every level."""
        found: dict[str, float] = {}
        for level, layer in self.levels.items():
            scalars = cast(CentralLayer, layer).scalars.tolist()
            names = ["central", *self.inputs][-len(scalars) :]
            found |= {f"{level}_{name}": scalar for name, scalar in zip(names, scalars, strict=True)}
        return found


class CentralLayer(nn.Module):
    """One level: a weighted sum of the level before and the modalities, then a dense layer.

    Args:
        inputs: per modality, the shape of its features at this level.
        dim: width of the result.
        dropout: on the result.
        first: whether there is no level before.
    """

    def __init__(self, inputs: Mapping[str, FeatureSpec], dim: int, dropout: float, *, first: bool):
        super().__init__()
        self.project = Projections(inputs, dim)
        self.scalars = nn.Parameter(torch.ones(len(inputs) + (not first)))
        self.layer = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, features: Mapping[str, Features], before: Sequence[Float[Tensor, "B D"]]) -> Float[Tensor, "B D"]:
        """Combine the modalities with the level before, if there is one."""
        vectors = torch.stack([*before, *self.project(features)])
        return self.layer((self.scalars[:, None, None] * vectors).sum(0))


def _at(held: Held, third: int) -> Held:
    """What stands at the end of this third of the stages; at the end of all, what the encoder hands over."""
    done, stages = stages_done(third, 3, len(held.stages)), held.stages
    return held if done == len(stages) else stages[done - 1]
