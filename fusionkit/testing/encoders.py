"""What every encoder has to keep, rule by rule. Each check takes an `EncoderSubject` and raises a `Fault`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fusionkit.contract import Encoder
from fusionkit.flow import Features, InputSpec
from fusionkit.model import feature_spec
from fusionkit.testing.fault import Fault
from fusionkit.testing.registered import unregistered

BATCH = 3


@dataclass
class EncoderSubject:
    """An encoder and what it reads.

    Args:
        make: makes the encoder.
        spec: the shape of its modality.
        encoder: one of them, in evaluation mode.
    """

    make: Callable[[InputSpec], Encoder]
    spec: InputSpec
    encoder: Encoder

    @classmethod
    def of(cls, make: Callable[[InputSpec], Encoder], spec: InputSpec) -> EncoderSubject:
        torch.manual_seed(0)
        encoder = make(spec).eval()
        with torch.no_grad():  # gates that begin at zero would hide what they scale
            for parameter in encoder.parameters():
                parameter.add_(0.1 * parameter.abs().mean().clamp(min=0.1) * torch.randn_like(parameter))
        return cls(make, spec, encoder)

    def value(self, seed: int = 0, size: int = BATCH) -> Float[Tensor, "B ..."]:
        """Random numbers; whole ones that are not negative where the modality counts something."""
        generator = torch.Generator().manual_seed(seed)
        value = torch.randn(size, *self.spec.shape, generator=generator)
        return (4 * value).abs().round() if self.spec.counts else value

    def valid(self, size: int = BATCH) -> Bool[Tensor, "B T"] | None:
        if not self.spec.ragged:
            return None
        steps = self.spec.shape[0]
        return torch.arange(steps) < 1 + torch.arange(size).unsqueeze(1) * (steps - 1) // max(size - 1, 1)


def stages_make_the_whole(subject: EncoderSubject) -> None:
    """Embedding, stages and finish, run one after the other, give what the encoder gives."""
    encoder, value, valid = subject.encoder, subject.value(), subject.valid()
    features = encoder.embed(value, valid)
    for stage in range(len(encoder.stages)):
        features = encoder.step(stage, features)
    if not torch.allclose(encoder.finish(features).tokens, encoder(value, valid).tokens, atol=1e-5):
        raise Fault("stages_make_the_whole", "the stages, run one after the other, give something else than forward")


def a_grid_holds_every_token(subject: EncoderSubject) -> None:
    """Where there is a grid, it has a cell for every token."""
    features = subject.encoder(subject.value(), subject.valid())
    if features.grid is not None and features.grid[0] * features.grid[1] != features.tokens.shape[1]:
        raise Fault("a_grid_holds_every_token", f"{features.tokens.shape[1]} tokens on a grid of {features.grid}")


def samples_are_independent(subject: EncoderSubject) -> None:
    """In evaluation, a sample's features depend on that sample alone."""
    value, valid = subject.value(), subject.valid()
    other = torch.cat([value[:1], 3 * subject.value(seed=1)[1:]])
    first, moved = subject.encoder(value, valid).tokens[:1], subject.encoder(other, valid).tokens[:1]
    if not torch.allclose(first, moved, rtol=1e-4, atol=1e-5):
        raise Fault("samples_are_independent", "sample 1 changes sample 0's features")


def every_parameter_learns(subject: EncoderSubject) -> None:
    """A gradient reaches every parameter."""
    encoder = copy.deepcopy(subject.encoder)
    tokens = encoder(subject.value(), subject.valid()).tokens
    (tokens * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    dead = [n for n, p in encoder.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    if dead:
        raise Fault("every_parameter_learns", f"no gradient reaches {', '.join(dead[:4])}")


def absence_is_a_number(subject: EncoderSubject) -> None:
    """Zeros, which stand where a modality is absent, give numbers."""
    value, valid = torch.zeros_like(subject.value()), subject.valid()
    tokens = subject.encoder(value, None if valid is None else torch.ones_like(valid)).tokens
    if not tokens.isfinite().all():
        raise Fault("absence_is_a_number", "an input of zeros, which stands for an absent one, gives no number")


def evaluation_is_deterministic(subject: EncoderSubject) -> None:
    """In evaluation, the same input gives the same features."""
    torch.manual_seed(10)
    first = subject.encoder(subject.value(), subject.valid()).tokens
    torch.manual_seed(11)
    if not torch.equal(subject.encoder(subject.value(), subject.valid()).tokens, first):
        raise Fault("evaluation_is_deterministic", "two calls with the same input differ")


def every_tensor_is_registered(subject: EncoderSubject) -> None:
    """Every tensor that an encoder holds is seen by optimiser, device and checkpoint."""
    if hidden := unregistered(subject.encoder):
        raise Fault("every_tensor_is_registered", f"{', '.join(hidden[:4])} is not registered")


def a_batch_of_one_is_enough(subject: EncoderSubject) -> None:
    """A single sample has the features that it has in a batch."""
    value, valid = subject.value(), subject.valid()
    alone = subject.encoder(value[:1], None if valid is None else valid[:1]).tokens
    if not torch.allclose(alone, subject.encoder(value, valid).tokens[:1], rtol=1e-4, atol=1e-5):
        raise Fault("a_batch_of_one_is_enough", "a sample alone has other features than in a batch")


def weights_travel(subject: EncoderSubject) -> None:
    """A fresh encoder with the weights of this one gives what this one gives."""
    other = subject.make(subject.spec).eval()
    other.load_state_dict(copy.deepcopy(subject.encoder.state_dict()))
    value, valid = subject.value(), subject.valid()
    if not torch.equal(other(value, valid).tokens, subject.encoder(value, valid).tokens):
        raise Fault("weights_travel", "a fresh encoder with the same state_dict gives other features")


def inputs_are_left_alone(subject: EncoderSubject) -> None:
    """The input is not written to."""
    value = subject.value()
    before = value.clone()
    subject.encoder(value, subject.valid())
    if not torch.equal(value, before):
        raise Fault("inputs_are_left_alone", "the input is changed in place")


def padding_means_nothing(subject: EncoderSubject) -> None:
    """What stands in padded steps changes no token that is real."""
    valid = subject.valid()
    if valid is None:
        return
    value = subject.value()
    first = subject.encoder(value.masked_fill(~valid.unsqueeze(-1), 0.0), valid)
    moved = subject.encoder(value.masked_fill(~valid.unsqueeze(-1), 9.0), valid)
    if not torch.allclose(_real(first), _real(moved), rtol=1e-4, atol=1e-5):
        raise Fault("padding_means_nothing", "padded steps are read")


def shapes_are_proven_without_data(subject: EncoderSubject) -> None:
    """The encoder is built and run on the meta device, where there are no values."""
    try:
        with torch.device("meta"):
            feature_spec(subject.make(subject.spec), subject.spec)
    except (RuntimeError, NotImplementedError) as error:
        raise Fault("shapes_are_proven_without_data", f"on the meta device: {str(error).splitlines()[0]}") from error


CHECKS: tuple[Callable[[EncoderSubject], None], ...] = (
    stages_make_the_whole,
    a_grid_holds_every_token,
    samples_are_independent,
    every_parameter_learns,
    absence_is_a_number,
    evaluation_is_deterministic,
    every_tensor_is_registered,
    a_batch_of_one_is_enough,
    weights_travel,
    inputs_are_left_alone,
    padding_means_nothing,
    shapes_are_proven_without_data,
)


def _real(features: Features) -> Tensor:
    tokens = features.tokens
    return tokens if features.mask is None else tokens.masked_fill(~features.mask.unsqueeze(-1), 0)
