"""Features to fuse, and checks that every fusion has to pass."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import nn

from fusionkit.contract import Fusion
from fusionkit.flow import Features, FeatureSpec

Make = Callable[[Mapping[str, FeatureSpec]], Fusion]
SHAPES = {
    "hsi": FeatureSpec(dim=6, tokens=9, grid=(3, 3)),
    "lidar": FeatureSpec(dim=4, tokens=4, grid=(2, 2)),
    "text": FeatureSpec(dim=5, tokens=7),
    "vector": FeatureSpec(dim=3, tokens=1),
}


@pytest.fixture
def shapes() -> Callable[[int], dict[str, FeatureSpec]]:
    """The shapes of the first so many modalities."""
    return lambda count: dict(list(SHAPES.items())[:count])


@pytest.fixture
def features() -> Callable[..., dict[str, Features]]:
    """Random features of these shapes; text has padded tokens."""

    def make(shapes: Mapping[str, FeatureSpec], size: int = 5, seed: int = 0) -> dict[str, Features]:
        generator = torch.Generator().manual_seed(seed)
        made = {}
        for name, shape in shapes.items():
            tokens = torch.randn(size, shape.tokens, shape.dim, generator=generator)
            mask = None
            if name == "text":
                mask = torch.arange(shape.tokens) < torch.arange(size).unsqueeze(1) % shape.tokens + 1
            made[name] = Features(tokens, shape.grid, mask, torch.ones(size, dtype=torch.bool))
        return made

    return make


@pytest.fixture
def check_fusion(shapes, features) -> Callable[..., None]:
    """Hold a fusion of some modalities against everything that the core relies on."""

    def check(make: Make, count: int) -> None:
        torch.manual_seed(0)
        inputs, given = shapes(count), features(shapes(count))
        fusion = make(inputs).eval()
        with torch.no_grad():
            for parameter in fusion.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        fused = fusion(given)
        assert fused.dim() == 2
        assert fused.isfinite().all()
        torch.testing.assert_close(fusion(given), fused, rtol=0, atol=0)
        _samples_are_independent(fusion, given, fused)
        _every_parameter_learns(fusion, given)
        _every_modality_counts(fusion, given, fused)
        _absent_slots_mean_nothing(fusion, given)
        _weights_travel(make(inputs), fusion, given)
        _runs_without_presence(fusion, given, fused)
        _runs_on_meta(make, inputs, fused)
        _takes_a_batch_of_one(fusion, given, fused)
        with torch.autocast("cpu", torch.bfloat16):
            assert fusion(given).isfinite().all()

    return check


def _samples_are_independent(fusion, given, fused):
    other = {
        n: replace(f, tokens=torch.cat([f.tokens[:1], 3 * torch.randn_like(f.tokens[1:])])) for n, f in given.items()
    }
    torch.testing.assert_close(fusion(other)[0], fused[0])


def _every_parameter_learns(fusion, given):
    tokens = {name: f.tokens.clone().requires_grad_() for name, f in given.items()}
    before = {name: t.detach().clone() for name, t in tokens.items()}
    fused = fusion({name: replace(f, tokens=tokens[name]) for name, f in given.items()})
    (fused * torch.randn_like(fused)).sum().backward()
    assert not [name for name, p in fusion.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert all(t.grad.abs().sum() > 0 for t in tokens.values())
    assert all(torch.equal(tokens[name], before[name]) for name in tokens)


def _every_modality_counts(fusion, given, fused):
    for name, f in given.items():
        moved = fusion(given | {name: replace(f, tokens=torch.randn_like(f.tokens))})
        assert ((moved - fused).abs().amax(1) > 1e-4).all(), name


def _absent_slots_mean_nothing(fusion, given):
    """Each modality is absent once, alone or with all others; what stands there may be anything, even NaN."""
    for absent in [[name] for name in given] + [list(given)]:
        present = torch.tensor([True, False, True, False, False])
        results = []
        for content in (0.0, 7.0, torch.nan, torch.inf):
            masked = dict(given)
            for name in absent:
                tokens = given[name].tokens.clone()
                tokens[~present] = content
                masked[name] = replace(given[name], tokens=tokens.requires_grad_(), present=present)
            results.append(fusion(masked))
            assert results[-1].isfinite().all()
            fusion.zero_grad()
            results[-1].sum().backward()
            assert all(p.grad.isfinite().all() for p in fusion.parameters())
            for name in absent:
                assert not masked[name].tokens.grad[~present].any()
        for result in results[1:]:
            assert torch.equal(result, results[0])
        if len(absent) == 1 and len(given) > 1:
            assert not torch.allclose(results[0][~present], fusion(given)[~present])
        torch.testing.assert_close(results[0][present], fusion(given)[present])


def _weights_travel(other, fusion, given):
    other.load_state_dict(copy.deepcopy(fusion.state_dict()))
    torch.testing.assert_close(other.eval()(given), fusion(given))
    tensors = {id(t) for t in [*fusion.parameters(), *fusion.buffers()]}
    hidden = [v for m in fusion.modules() for v in vars(m).values() if isinstance(v, torch.Tensor | nn.Parameter)]
    assert not [v for v in hidden if id(v) not in tensors]


def _runs_without_presence(fusion, given, fused):
    torch.testing.assert_close(fusion({name: replace(f, present=None) for name, f in given.items()}), fused)


def _runs_on_meta(make, inputs, fused):
    with torch.device("meta"):
        empty = {
            n: Features(torch.zeros(2, s.tokens, s.dim), s.grid, None, torch.ones(2).bool()) for n, s in inputs.items()
        }
        assert make(inputs)(empty).shape == (2, fused.shape[1])


def _takes_a_batch_of_one(fusion, given, fused):
    one = {
        name: Features(f.tokens[:1], f.grid, None if f.mask is None else f.mask[:1], f.present[:1])
        for name, f in given.items()
    }
    torch.testing.assert_close(fusion(one), fused[:1])
    assert fusion.train()(one).isfinite().all()
    fusion.eval()
