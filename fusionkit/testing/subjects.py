"""The small world in which a fusion is tried: inputs of several geometries, an encoder for each, heads behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusionkit.contract import Encoder, Fusion
from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import Features, FeatureSpec, Input, InputSpec, Output, Task
from fusionkit.model import Blueprint, FusionModel
from fusionkit.pairing import torchvision_needed

MIXED = {
    "optical": InputSpec((3, 12, 12)),
    "height": InputSpec((1, 8, 8)),
    "text": InputSpec((7, 5), ragged=True),
    "vector": InputSpec((6,)),
}
"""Nothing in common: two maps of different size, a padded sequence, a vector."""

ALIGNED = {name: InputSpec((channels, 12, 12)) for name, channels in [("red", 3), ("sar", 2), ("dem", 1), ("nir", 1)]}
"""Maps of one grid, for methods that need one."""

TASK = Task("classification", ("a", "b", "c"), (1, 1, 1))
BATCH = 5
WIDTH = 16


class TinyMap(Encoder):
    """A stem and two stages of one residual bottleneck with batch norms each; the second halves the grid."""

    def __init__(self, spec: InputSpec):
        super().__init__(spec)
        with torchvision_needed():
            from timm.models.resnet import Bottleneck
        self.stem = nn.Sequential(
            nn.Conv2d(spec.channels, WIDTH, 3, 2, 1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU()
        )
        self.stages.append(nn.Sequential(Bottleneck(WIDTH, WIDTH // 4)))
        self.stages.append(nn.Sequential(nn.AvgPool2d(2), Bottleneck(WIDTH, WIDTH // 4)))

    def embed(self, value: Float[Tensor, "B C H W"], valid: Bool[Tensor, "B T"] | None) -> Features:
        return Features.from_map(self.stem(value))


class TinySequence(Encoder):
    """A linear layer a step, in two stages; what is padded stays where it is."""

    def __init__(self, spec: InputSpec):
        super().__init__(spec)
        self.entry = nn.Linear(spec.channels, WIDTH)
        self.stages.extend(nn.Sequential(nn.Tanh(), nn.Linear(WIDTH, WIDTH)) for _ in range(2))

    def embed(self, value: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | None) -> Features:
        return Features(self.entry(value), mask=valid)


class TinyVector(Encoder):
    """Two linear layers; one token, one stage."""

    def __init__(self, spec: InputSpec):
        super().__init__(spec)
        self.entry = nn.Linear(spec.channels, WIDTH)
        self.stages.append(nn.Sequential(nn.Tanh(), nn.Linear(WIDTH, 12)))

    def embed(self, value: Float[Tensor, "B D"], valid: Bool[Tensor, "B T"] | None) -> Features:
        return Features.from_vector(self.entry(value))


def tiny_encoder(spec: InputSpec) -> Encoder:
    kinds: dict[int, Callable[[InputSpec], Encoder]] = {1: TinyVector, 2: TinySequence, 3: TinyMap}
    return kinds[len(spec.shape)](spec)


@dataclass
class Subject:
    """A fusion among small encoders and heads.

    Args:
        make: makes the fusion from the shapes of the features.
        kind: its class.
        inputs: the shape of each modality.
        model: the fusion built in, its parameters moved a little from where they began, in evaluation mode.
    """

    make: Callable[[Mapping[str, FeatureSpec]], Fusion]
    kind: type[Fusion]
    inputs: dict[str, InputSpec]
    model: FusionModel

    @classmethod
    def of(
        cls, make: Callable[[Mapping[str, FeatureSpec]], Fusion], kind: type[Fusion], inputs: dict[str, InputSpec]
    ) -> Subject:
        """Build it.

        Raises:
            ShapeError: the fusion refuses these modalities.
        """
        subject = cls(make, kind, inputs, build(make, kind, inputs))
        torch.manual_seed(1)
        with torch.no_grad():  # gates that begin at zero and layer scales of 1e-6 would hide what they scale
            for parameter in subject.read_parameters().values():
                parameter.add_(0.3 * torch.randn_like(parameter))
        subject.model.eval()
        return subject

    def read_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters of fusion and heads."""
        named = dict(self.model.named_parameters())
        return {name: p for name, p in named.items() if name.startswith(("fusion.", "head.", "branches."))}

    def values(self, seed: int = 0, size: int = BATCH) -> dict[str, Input]:
        """Random inputs, everything present; sequences of different lengths."""
        generator = torch.Generator().manual_seed(seed)
        made = {}
        for name, spec in self.inputs.items():
            value = torch.randn(size, *spec.shape, generator=generator)
            valid = None
            if spec.ragged:
                valid = torch.arange(spec.shape[0]) < 2 + torch.arange(size).unsqueeze(1) % (spec.shape[0] - 1)
            made[name] = Input(value, torch.ones(size, dtype=torch.bool), valid)
        return made

    def run(self, values: dict[str, Input]) -> Output:
        """The prediction from inputs as they are: what stands in absent slots is left there."""
        fusion = self.model.fusion
        return self.model.conclude(fusion.encode(self.model.encoders, fusion.arrange(values)))

    def objective(self, output: Output) -> Tensor:
        """Something that every part of the prediction has a share in, as in training."""
        generator = torch.Generator().manual_seed(3)
        predictions = [output.logits, *(output.branch_logits.values() if self.model.fusion.supervises_branches else ())]
        total = torch.zeros(())
        for logits in predictions:
            total = total + (logits * torch.randn(logits.shape, generator=generator)).sum()
        return total + sum(output.penalties.values())


def build(
    make: Callable[[Mapping[str, FeatureSpec]], Fusion], kind: type[Fusion], inputs: dict[str, InputSpec]
) -> FusionModel:
    plan = Blueprint(
        inputs=inputs, encoders=dict.fromkeys(inputs, tiny_encoder), fusion=kind, make_fusion=make, task=TASK
    )
    return plan.build({})


def subjects(
    kind: type[Fusion], options: Mapping[str, Any] | None = None, counts: tuple[int, ...] = (1, 2, 3, 4)
) -> tuple[dict[int, Subject], dict[int, str]]:
    """A subject for each number of modalities that the fusion takes, and why it refuses the others.

    Modalities without anything in common are tried first, then maps of one grid.
    """
    taken: dict[int, Subject] = {}
    refused: dict[int, str] = {}

    def make(specs: Mapping[str, FeatureSpec]) -> Fusion:
        return kind(specs, **(options or {}))

    for count in counts:
        for offered in (MIXED, ALIGNED):
            try:
                taken[count] = Subject.of(make, kind, dict(list(offered.items())[:count]))
                break
            except (ShapeError, RequestError) as error:
                refused.setdefault(count, str(error.__cause__ or error))
    return taken, {count: reason for count, reason in refused.items() if count not in taken}


def absent(values: dict[str, Input], names: list[str], rows: Bool[Tensor, " B"], content: float) -> dict[str, Input]:
    """The same inputs with modalities missing in some samples, and something standing in their slots."""
    changed = dict(values)
    for name in names:
        value = values[name].value.clone()
        value[rows] = content
        changed[name] = replace(values[name], value=value, present=values[name].present & ~rows)
    return changed
