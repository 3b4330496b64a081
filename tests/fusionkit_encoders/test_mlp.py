"""The MLP encoder."""

import numpy as np
import pytest
import torch
from fusionkit_encoders.mlp import MLP, PiecewiseLinear

from fusionkit.errors import RecipeError
from fusionkit.flow import InputSpec
from fusionkit.normalization import QUANTILES, Quantile, Statistics
from fusionkit.recipe import load_recipe


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        (InputSpec((20,)), {}),
        (InputSpec((1,)), {"depth": 1}),
        (InputSpec((20,)), {"depth": 3, "width": 24, "tokens": 5}),
        (InputSpec((3, 4, 5)), {}),
        (InputSpec((6, 5), ragged=True), {"tokens": 2}),
        (InputSpec((7,)), {"bins": 5}),
        (InputSpec((6, 5), ragged=True), {"bins": 2, "tokens": 2}),
    ],
)
def test_keeps_the_contract(check_encoder, spec, options):
    check_encoder(lambda: MLP(spec, **options), spec)


def test_tokens_are_as_wide_as_asked():
    features = MLP(InputSpec((20,)), width=24, tokens=5).eval()(torch.randn(3, 20))
    assert features.tokens.shape == (3, 5, 24)
    assert not torch.allclose(features.tokens[:, 0], features.tokens[:, 1])


@pytest.mark.parametrize("bins", [None, 3])
def test_steps_that_are_not_valid_change_nothing(bins):
    encoder = MLP(InputSpec((4, 3), ragged=True), bins=bins).eval()
    value = torch.randn(2, 4, 3)
    valid = torch.tensor([[True, True, False, False]] * 2)
    other = value.clone()
    other[:, 2:] = torch.inf
    torch.testing.assert_close(encoder(other, valid).tokens, encoder(value, valid).tokens)


def test_a_training_batch_of_one_vector_is_no_problem():
    assert MLP(InputSpec((20,))).train()(torch.randn(1, 20)).pooled.std() > 0


def test_one_layer_is_linear_norm_gelu():
    encoder = MLP(InputSpec((5,)), width=4, depth=1).eval()
    linear, norm = encoder.stages[0][0], encoder.stages[0][1]
    x = torch.randn(2, 5)
    h = x @ linear.weight.T + linear.bias
    h = (h - h.mean(1, keepdim=True)) / (h.var(1, keepdim=True, unbiased=False) + norm.eps).sqrt()
    expected = h * 0.5 * (1 + torch.erf(h / 2**0.5))
    torch.testing.assert_close(encoder(x).pooled, expected, rtol=1e-4, atol=1e-5)


def test_piecewise_linear_encoding_is_the_papers():
    """Bins of a quarter of the range each, by the paper's equation written out."""
    root = 3**0.5
    for x in (-2.5, -root, -1.0, 0.0, 0.3, 1.7, 2.5):
        expected = []
        for t, a in enumerate((-root, -root / 2, 0.0, root / 2)):
            b = a + root / 2
            if x < a and t > 0:
                expected.append(0.0)
            elif x >= b and t < 3:
                expected.append(1.0)
            else:
                expected.append((x - a) / (b - a))
        found = PiecewiseLinear(4)(torch.tensor([[x]]))[0, 0].tolist()
        assert found == pytest.approx(expected, abs=1e-5)


def test_even_bins_of_ranks_are_bins_of_even_counts():
    """After scaling by rank, as many training values lie in each bin."""
    values = np.random.default_rng(0).lognormal(size=(3200, 1)).astype(np.float32)
    held = np.quantile(values, np.linspace(0, 1, QUANTILES), axis=0).T
    scale = Quantile(InputSpec((1,)), Statistics((0.0,), (1.0,), quantiles=tuple(map(tuple, held.tolist()))))
    encoded = PiecewiseLinear(8)(scale(torch.from_numpy(values)))
    inside = ((encoded > 0) & (encoded < 1)).sum((0, 1))
    assert inside.tolist() == pytest.approx([400] * 8, abs=2)


@pytest.mark.parametrize("bins", [1, 0, 2.5])
def test_fewer_than_two_bins_are_refused(bins):
    chosen = {
        "data": {"source": "arrays", "root": "x", "inputs": {"vector": "x.npy"}, "labels": "y.npy"},
        "modalities": {"vector": {"encoder": {"name": "mlp", "bins": bins}, "normalize": "quantile"}},
        "fusion": "concat",
    }
    with pytest.raises(RecipeError, match=r"modalities.vector.encoder.bins"):
        load_recipe(chosen)
