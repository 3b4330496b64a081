"""The MLP encoder."""

import pytest
import torch
from fusionkit_encoders.mlp import MLP, PiecewiseLinear

from fusionkit.flow import InputSpec


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        (InputSpec((20,)), {}),
        (InputSpec((1,)), {"depth": 1}),
        (InputSpec((20,)), {"depth": 3, "width": 24, "tokens": 5}),
        (InputSpec((3, 4, 5)), {}),
        (InputSpec((6, 5), ragged=True), {"tokens": 2}),
        (InputSpec((7,)), {"bins": 5}),
    ],
)
def test_keeps_the_contract(check_encoder, spec, options):
    check_encoder(lambda: MLP(spec, **options), spec)


def test_tokens_are_as_wide_as_asked():
    features = MLP(InputSpec((20,)), width=24, tokens=5).eval()(torch.randn(3, 20))
    assert features.tokens.shape == (3, 5, 24)
    assert not torch.allclose(features.tokens[:, 0], features.tokens[:, 1])


def test_steps_that_are_not_valid_change_nothing():
    encoder = MLP(InputSpec((4, 3), ragged=True)).eval()
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
