"""What every encoder has to keep, rule by rule. Each check takes an `EncoderSubject` and raises a `Fault`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Shaped
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

    def run(self, value: Tensor, valid: Tensor | None, seed: int = 0) -> Features:
        """The features of a copy of the input; what is left to chance is drawn from `seed`, so that either spoils its
        own check alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.encoder(value.clone(), valid)

    def value(self, seed: int = 0, size: int = BATCH) -> Shaped[Tensor, "B ..."]:
        """Random numbers; whole ones that are not negative where the modality counts something; ids of tokens."""
        generator, shape = torch.Generator().manual_seed(seed), (size, *self.spec.shape)
        if self.spec.text:
            return torch.randint(self.spec.vocabulary, shape, generator=generator)
        value = torch.randn(shape, generator=generator)
        return (4 * value).abs().round() if self.spec.counts else value

    def valid(self, size: int = BATCH) -> Bool[Tensor, "B T"] | None:
        if not self.spec.ragged:
            return None
        steps = self.spec.shape[0]
        return torch.arange(steps) < 1 + torch.arange(size).unsqueeze(1) * (steps - 1) // max(size - 1, 1)


def stages_make_the_whole(subject: EncoderSubject) -> None:
    """Embedding, stages and finish, run one after the other, give what the encoder gives."""
    encoder, value, valid = subject.encoder, subject.value(), subject.valid()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        features = encoder.embed(value.clone(), valid)
        for stage in range(len(encoder.stages)):
            features = encoder.step(stage, features)
        tokens = encoder.finish(features).tokens
    if not torch.allclose(tokens, subject.run(value, valid).tokens, atol=1e-5):
        raise Fault("stages_make_the_whole", "the stages, run one after the other, give something else than forward")


def a_grid_holds_every_token(subject: EncoderSubject) -> None:
    """Where there is a grid, it has a cell for every token."""
    features = subject.run(subject.value(), subject.valid())
    if features.grid is not None and features.grid[0] * features.grid[1] != features.tokens.shape[1]:
        raise Fault("a_grid_holds_every_token", f"{features.tokens.shape[1]} tokens on a grid of {features.grid}")


def samples_are_independent(subject: EncoderSubject) -> None:
    """In evaluation, a sample's features depend on that sample alone."""
    if _samples_mix(subject):
        raise Fault("samples_are_independent", "sample 1 changes sample 0's features; attend within [B, N, D]")


def every_parameter_learns(subject: EncoderSubject) -> None:
    """A gradient reaches every parameter."""
    encoder = copy.deepcopy(subject.encoder)
    tokens = replace(subject, encoder=encoder).run(subject.value(), subject.valid()).tokens
    (tokens * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    dead = [n for n, p in encoder.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    if dead:
        raise Fault("every_parameter_learns", f"no gradient reaches {', '.join(dead[:4])}")


def absence_is_a_number(subject: EncoderSubject) -> None:
    """Zeros, which stand where a modality is absent, give numbers."""
    value, valid = torch.zeros_like(subject.value()), subject.valid()
    tokens = subject.run(value, None if valid is None else torch.ones_like(valid)).tokens
    if not tokens.isfinite().all():
        raise Fault("absence_is_a_number", "an input of zeros, which stands for an absent one, gives no number")


def evaluation_is_deterministic(subject: EncoderSubject) -> None:
    """In evaluation, the same input gives the same features."""
    if _depends_on_chance(subject):
        raise Fault("evaluation_is_deterministic", "two calls with the same input differ; what is drawn at random?")


def every_tensor_is_registered(subject: EncoderSubject) -> None:
    """Every tensor that an encoder holds is seen by optimiser, device and checkpoint."""
    if hidden := unregistered(subject.encoder):
        raise Fault("every_tensor_is_registered", f"{', '.join(hidden[:4])} is not registered")


def a_batch_of_one_is_enough(subject: EncoderSubject) -> None:
    """A single sample has the features that it has in a batch; training with one does not fail."""
    value, valid = subject.value(), subject.valid()
    one = None if valid is None else valid[:1]
    alone, among = subject.run(value[:1], one).tokens, subject.run(value, valid).tokens[:1]
    told = _samples_mix(subject) or _depends_on_chance(subject)  # by their own checks
    if not torch.allclose(alone, among, rtol=1e-4, atol=1e-5) and not told:
        raise Fault("a_batch_of_one_is_enough", "a sample alone has other features than in a batch")
    trial = replace(subject, encoder=copy.deepcopy(subject.encoder).train())
    try:
        features = trial.run(value[:1], one)
    except (ValueError, RuntimeError) as error:
        raise Fault("a_batch_of_one_is_enough", f"training with a single sample fails: {error}") from error
    if not _real(features).isfinite().all():
        raise Fault("a_batch_of_one_is_enough", "training with a single sample gives no number")


def weights_travel(subject: EncoderSubject) -> None:
    """A fresh encoder with the weights of this one gives what this one gives."""
    if unregistered(subject.encoder):
        return  # told by its own check
    torch.manual_seed(1)
    other = replace(subject, encoder=subject.make(subject.spec).eval())
    other.encoder.load_state_dict(copy.deepcopy(subject.encoder.state_dict()))
    value, valid = subject.value(), subject.valid()
    if not torch.allclose(other.run(value, valid).tokens, subject.run(value, valid).tokens, rtol=1e-4, atol=1e-5):
        raise Fault(
            "weights_travel",
            "a fresh encoder with the same state_dict gives other features; is a buffer with persistent=False random?",
        )


def sixteen_bits_are_enough(subject: EncoderSubject) -> None:
    """Mixed precision gives numbers."""
    with torch.autocast("cpu", torch.bfloat16):
        features = subject.run(subject.value(), subject.valid())
    if not _real(features).isfinite().all():
        raise Fault("sixteen_bits_are_enough", "the features are no numbers in bfloat16")


def inputs_are_left_alone(subject: EncoderSubject) -> None:
    """The input is not written to."""
    value = subject.value()
    before = value.clone()
    with torch.no_grad():
        subject.encoder(value, subject.valid())
    if not torch.equal(value, before):
        raise Fault("inputs_are_left_alone", "the input is changed in place")


def padding_means_nothing(subject: EncoderSubject) -> None:
    """What stands in padded steps changes no token that is real."""
    valid = subject.valid()
    if valid is None:
        return
    value = subject.value()
    padding = ~valid.reshape(*valid.shape, *[1] * (value.dim() - 2))
    first = subject.run(value.masked_fill(padding, 0), valid)
    moved = subject.run(value.masked_fill(padding, subject.spec.vocabulary - 1 if subject.spec.text else 9), valid)
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
    sixteen_bits_are_enough,
    inputs_are_left_alone,
    padding_means_nothing,
    shapes_are_proven_without_data,
)


def _real(features: Features) -> Tensor:
    tokens = features.tokens
    return tokens if features.mask is None else tokens.masked_fill(~features.mask.unsqueeze(-1), 0)


def _samples_mix(subject: EncoderSubject) -> bool:
    value, valid = subject.value(), subject.valid()
    others = subject.value(seed=1)[1:]
    other = torch.cat([value[:1], others if subject.spec.text else 3 * others])
    first, moved = subject.run(value, valid).tokens[:1], subject.run(other, valid).tokens[:1]
    return not torch.allclose(first, moved, rtol=1e-4, atol=1e-5)


def _depends_on_chance(subject: EncoderSubject) -> bool:
    value, valid = subject.value(), subject.valid()
    return not torch.equal(subject.run(value, valid, seed=10).tokens, subject.run(value, valid, seed=11).tokens)
