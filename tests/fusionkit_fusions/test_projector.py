"""The projector of LLaVA."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fusionkit_fusions.projector import make_projector
from scipy.special import erf

from fusionkit.errors import RequestError


@pytest.mark.parametrize(("kind", "layers"), [("linear", 1), ("mlp1x_gelu", 1), ("mlp2x_gelu", 2), ("mlp3x_gelu", 3)])
def test_layers_with_exact_gelus_between(kind, layers):
    torch.manual_seed(0)
    made = make_projector(kind, 5, 7).double()
    weights = [parameter.detach().numpy() for parameter in made.parameters()]
    assert [weight.shape for weight in weights] == [(7, 5), (7,), *[(7, 7), (7,)] * (layers - 1)]
    value = np.random.default_rng(0).normal(size=(3, 5))
    expected = value @ weights[0].T + weights[1]
    for layer in range(1, layers):
        expected = expected * (1 + erf(expected / np.sqrt(2))) / 2
        expected = expected @ weights[2 * layer].T + weights[2 * layer + 1]
    np.testing.assert_allclose(made(torch.from_numpy(value)).detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["mlp", "mlp0x_gelu", "mlp2x_relu", "linear2"])
def test_others_are_refused(kind):
    with pytest.raises(RequestError, match="there is no projector"):
        make_projector(kind, 5, 7)
