"""Inputs and checks that every encoder has to pass."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from fusionkit.contract import Encoder
from fusionkit.flow import Features, InputSpec
from fusionkit.model import feature_spec

Make = Callable[[], Encoder]


@pytest.fixture
def randomised() -> Callable[[nn.Module], nn.Module]:
    """Gives every parameter a value that is neither zero nor tiny: initial zeros would hide dead paths."""

    def fill(module: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                spread = 0.3 if parameter.dim() < 2 else parameter[0].numel() ** -0.5
                centre = 1.0 if parameter.dim() < 2 and name.endswith("weight") else 0.0
                parameter.copy_(centre + spread * torch.randn(parameter.shape, generator=generator))
        return module

    return fill


@pytest.fixture
def check_encoder(randomised) -> Callable[..., None]:
    """Hold an encoder against everything that the core relies on."""

    def check(make: Make, spec: InputSpec) -> None:
        torch.manual_seed(0)
        encoder = randomised(make()).eval()
        value = torch.randint(spec.vocabulary, (4, *spec.shape)) if spec.text else torch.rand(4, *spec.shape) * 3
        valid = None
        if spec.ragged:
            lengths = torch.tensor([spec.shape[0], 1, max(spec.shape[0] - 2, 1), 2])
            valid = torch.arange(spec.shape[0]) < lengths.unsqueeze(1)
        _does_not_write(encoder, value, valid)
        _samples_are_independent(encoder, value, valid)
        _every_parameter_learns(encoder, value, valid)
        _shapes_are_proven(make, encoder, spec, value, valid)
        _weights_travel(make, encoder, value, valid)
        _takes_a_batch_of_one(encoder, value, valid)
        _runs_in_bfloat16(encoder, value, valid)

    return check


def _does_not_write(encoder, value, valid):
    before = value.clone()
    first = encoder(value, valid)
    assert torch.equal(value, before)
    torch.testing.assert_close(encoder(value, valid).tokens, first.tokens, rtol=0, atol=0)
    assert isinstance(first, Features)
    assert first.grid is None or first.grid[0] * first.grid[1] == first.tokens.shape[1]


def _samples_are_independent(encoder, value, valid):
    together = encoder(value, valid).pooled
    other = value.clone()
    if encoder.spec.text:
        other[1:] = torch.randint_like(other[1:], encoder.spec.vocabulary)
    else:
        other[1:] += 5 * torch.rand_like(other[1:])
    changed = encoder(other, valid).pooled
    torch.testing.assert_close(changed[0], together[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(changed[1:], together[1:])


def _every_parameter_learns(encoder, value, valid):
    encoder.zero_grad()
    pooled = encoder(value, valid).pooled
    (pooled * torch.randn_like(pooled)).sum().backward()
    dead = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead
    assert sum(p.numel() for p in encoder.parameters()) > 0


def _shapes_are_proven(make, encoder, spec, value, valid):
    with torch.device("meta"):
        proven = feature_spec(make(), spec)
    features = encoder(value, valid)
    assert (proven.dim, proven.tokens, proven.grid) == (*features.tokens.shape[:0:-1], features.grid)
    assert len(proven.stages) == len(encoder.stages) >= 1


def _weights_travel(make, encoder, value, valid):
    other = make()
    other.load_state_dict(copy.deepcopy(encoder.state_dict()))
    torch.testing.assert_close(other.eval()(value, valid).tokens, encoder(value, valid).tokens)


def _takes_a_batch_of_one(encoder, value, valid):
    one = None if valid is None else valid[:1]
    torch.testing.assert_close(encoder(value[:1], one).tokens, encoder(value, valid).tokens[:1], rtol=1e-4, atol=1e-5)
    encoder.train()
    assert encoder(value[:1], one).pooled.isfinite().all()
    encoder.eval()


def _runs_in_bfloat16(encoder, value, valid):
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder(value, valid).pooled.isfinite().all()


@pytest.fixture(autouse=True)
def plain_convolutions():
    """Convolve without oneDNN: torch 2.15's conv2d crashed the interpreter twice in these tests, now and then and on a
    CPU, at convolutions of maps of a few pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # setting the flag warns of another one, of TF32
        with torch.backends.mkldnn.flags(enabled=False):
            yield
