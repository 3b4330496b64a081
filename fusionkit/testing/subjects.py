"""The small world in which a fusion is tried: inputs of several geometries, an encoder for each, heads behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusionkit.contract import Encoder, Fusion
from fusionkit.errors import RequestError
from fusionkit.flow import Features, FeatureSpec, Input, InputSpec, Output, Task
from fusionkit.model import Blueprint, FusionModel
from fusionkit.pairing import torchvision_needed
from fusionkit.testing.fault import Fault

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


class TinyMap(Encoder):
    """A stem and two stages of one residual bottleneck with batch norms each; the second halves the grid."""

    def __init__(self, spec: InputSpec):
        super().__init__(spec)
        with torchvision_needed():
            from timm.models.resnet import Bottleneck
        width = 2 * spec.shape[-1]
        self.stem = nn.Sequential(
            nn.Conv2d(spec.channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.stages.append(nn.Sequential(Bottleneck(width, width // 4)))
        self.stages.append(nn.Sequential(nn.AvgPool2d(2), Bottleneck(width, width // 4)))

    def embed(self, value: Float[Tensor, "B C H W"], valid: Bool[Tensor, "B T"] | None) -> Features:
        return Features.from_map(self.stem(value))


class TinySequence(Encoder):
    """A linear layer a step, in two stages; what is padded stays where it is."""

    def __init__(self, spec: InputSpec):
        super().__init__(spec)
        self.entry = nn.Linear(spec.channels, 12)
        self.stages.extend(nn.Sequential(nn.Tanh(), nn.Linear(12, 12)) for _ in range(2))

    def embed(self, value: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | None) -> Features:
        return Features(self.entry(value), mask=valid)


class TinyVector(Encoder):
    """Two linear layers; one token, one stage."""

    def __init__(self, spec: InputSpec):
        super().__init__(spec)
        self.entry = nn.Linear(spec.channels, 12)
        self.stages.append(nn.Sequential(nn.Tanh(), nn.Linear(12, 20)))

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
        uninitialised: tensors of the fusion that began as whatever stood in memory; random numbers stand there now.
        made_in_forward: how many parameters came to be in its first two forward passes.
    """

    make: Callable[[Mapping[str, FeatureSpec]], Fusion]
    kind: type[Fusion]
    inputs: dict[str, InputSpec]
    model: FusionModel
    uninitialised: list[str] = field(default_factory=list)
    made_in_forward: int = 0

    @classmethod
    def of(
        cls, make: Callable[[Mapping[str, FeatureSpec]], Fusion], kind: type[Fusion], inputs: dict[str, InputSpec]
    ) -> Subject:
        """Build it.

        Raises:
            ShapeError: the fusion refuses these modalities, or does not run with them.
        """
        with _memory_full_of_nan():
            subject = cls(make, kind, inputs, build(make, kind, inputs))
        torch.manual_seed(1)
        with torch.no_grad():
            for name, tensor in subject.model.fusion.state_dict().items():
                if tensor.is_floating_point() and not tensor.isfinite().all():
                    subject.uninitialised.append(name)
                    tensor.normal_()
        perturb(subject.read_parameters().values())
        subject.model.eval()
        subject.made_in_forward = subject._count_what_forward_makes()
        return subject

    def _count_what_forward_makes(self) -> int:
        before, made = set(self.model.state_dict()), 0
        original = nn.Parameter.__new__

        def counting(cls: Any, *arguments: Any, **named: Any) -> Any:
            nonlocal made
            made += 1
            return original(cls, *arguments, **named)

        with patch.object(nn.Parameter, "__new__", counting):
            for _ in range(2):
                self.run(self.values())
        return made + len(before ^ set(self.model.state_dict()))

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

    def run(self, values: dict[str, Input], seed: int = 0) -> Output:
        """The prediction from inputs as they are: what stands in absent slots is left there.

        Args:
            values: the inputs.
            seed: of what is left to chance, so that it spoils its own check alone.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.model.conclude(self.features(values))

    def conclude(self, features: dict[str, Features]) -> Output:
        """The prediction from what the encoders made."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.model.conclude(features)

    def features(self, values: dict[str, Input]) -> dict[str, Features]:
        """What the fusion is given; copied, so that one that writes to it spoils its own check alone."""
        fusion = self.model.fusion
        made = fusion.encode(self.model.encoders, fusion.arrange(values))
        return {name: replace(feature, tokens=feature.tokens.clone()) for name, feature in made.items()}

    def objective(self, output: Output) -> Tensor:
        """Something that every part of the prediction has a share in, as in training."""
        generator = torch.Generator().manual_seed(3)
        predictions = [output.logits, *(output.branch_logits.values() if self.model.fusion.supervises_branches else ())]
        total = torch.zeros(())
        for logits in predictions:
            total = total + (logits * torch.randn(logits.shape, generator=generator)).sum()
        return total + sum(output.penalties.values())


def build(
    make: Callable[[Mapping[str, FeatureSpec]], Fusion],
    kind: type[Fusion],
    inputs: dict[str, InputSpec],
    seed: int = 0,
) -> FusionModel:
    plan = Blueprint(
        inputs=inputs, encoders=dict.fromkeys(inputs, tiny_encoder), fusion=kind, make_fusion=make, task=TASK, seed=seed
    )
    return plan.build({})


class Trial(NamedTuple):
    """What became of a fusion with each number of modalities.

    Args:
        taken: a subject for each number that it takes.
        refused: why it refuses the others.
        faults: where it neither runs nor refuses.
    """

    taken: dict[int, Subject]
    refused: dict[int, str]
    faults: list[Fault]


def subjects(
    kind: type[Fusion], options: Mapping[str, Any] | None = None, counts: tuple[int, ...] = (1, 2, 3, 4)
) -> Trial:
    """Try a fusion with each of these numbers of modalities.

    Modalities without anything in common are tried first, then maps of one grid.
    """
    found = Trial({}, {}, [])

    def make(specs: Mapping[str, FeatureSpec]) -> Fusion:
        return kind(specs, **(options or {}))

    for count in counts:
        try:
            found.taken[count] = subject_of(make, kind, count)
        except Fault as fault:
            found.faults.append(fault)
        except RequestError as error:
            found.refused[count] = str(error)
    if not found.taken and not found.faults:
        told = next(iter(found.refused.values()))
        found.faults.append(Fault("some_modalities_are_taken", f"it refuses every number of modalities: {told}"))
    return found


def subject_of(
    make: Callable[[Mapping[str, FeatureSpec]], Fusion],
    kind: type[Fusion],
    count: int,
    offers: tuple[Mapping[str, InputSpec], ...] = (MIXED, ALIGNED),
) -> Subject:
    """A fusion of so many modalities, of the first offer that it does not refuse.

    Raises:
        RequestError: the fusion refuses them all; the message is its own.
        Fault: it neither runs nor refuses.
    """
    refusals: list[Exception] = []
    for offered in offers:
        inputs = dict(list(offered.items())[:count])
        try:
            return Subject.of(make, kind, inputs)
        except Exception as error:  # a stranger's class may raise anything
            cause = error.__cause__ or error
            if not isinstance(cause, RequestError):
                shapes = ", ".join(f"{name} {spec}" for name, spec in inputs.items())
                raise Fault(
                    "it_runs_or_refuses",
                    f"with {shapes} it fails, on the meta device where tensors have shapes and no values: "
                    f"{type(cause).__name__}: {_first_line(cause)}. Let it run without values, or raise ShapeError",
                ) from error
            refusals.append(cause)
    raise RequestError(str(refusals[0])) from refusals[0]


def told(subject: Subject) -> str:
    """What a subject is tried with, in words."""
    count = len(subject.inputs)
    number = "1 modality" if count == 1 else f"{count} modalities"
    return f"{number} of one grid" if subject.inputs.keys() <= ALIGNED.keys() else number


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")


def absent(values: dict[str, Input], names: list[str], rows: Bool[Tensor, " B"], content: float) -> dict[str, Input]:
    """The same inputs with modalities missing in some samples, and something standing in their slots."""
    changed = dict(values)
    for name in names:
        value = values[name].value.clone()
        value[rows] = content
        changed[name] = replace(values[name], value=value, present=values[name].present & ~rows)
    return changed


def perturb(parameters: Iterable[nn.Parameter]) -> None:
    """Move parameters a little from where they began.

    Gates that begin at zero and layer scales of 1e-6 would hide what they scale. So would great weights, which saturate
    a softmax.
    """
    with torch.no_grad():
        for parameter in parameters:
            spread = 0.3 if parameter.dim() < 2 else 0.3 * parameter[0].numel() ** -0.5
            parameter.add_(spread * torch.randn_like(parameter))


@contextmanager
def _memory_full_of_nan() -> Iterator[None]:
    """Within, torch.empty is NaN all over."""
    filling: Any = torch.utils.deterministic
    before = torch.get_deterministic_debug_mode(), filling.fill_uninitialized_memory
    torch.set_deterministic_debug_mode("warn")  # that alone fills; use_deterministic_algorithms imports the compiler
    filling.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before[0])
        filling.fill_uninitialized_memory = before[1]
