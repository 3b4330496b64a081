"""The encoder of spectra."""

import pytest
import torch
from fusionkit_encoders.spectral import Spectral
from torch.nn import functional as F

from fusionkit.errors import ShapeError
from fusionkit.flow import InputSpec


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("shape", [(123, 8, 8), (5, 1, 1), (4, 1, 7)])
def test_keeps_the_contract(check_encoder, norm, shape):
    spec = InputSpec(shape)
    check_encoder(lambda: Spectral(spec, width=16, depth=2, norm=norm), spec)


def test_every_pixel_goes_by_itself():
    """A pixel's features are those of a linear layer over its bands, whatever stands around it."""
    encoder = Spectral(InputSpec((5, 3, 4)), width=6).eval()
    value = torch.randn(2, 5, 3, 4)
    weight = encoder.stages[0][0].weight.flatten(1)
    expected = F.relu(torch.einsum("bchw,dc->bdhw", value, weight) / (1 + 1e-5) ** 0.5)
    features = encoder(value)
    assert features.grid == (3, 4)
    torch.testing.assert_close(features.map, expected)


def test_every_layer_is_a_stage():
    assert len(Spectral(InputSpec((5, 3, 4)), depth=3).stages) == 3


def test_reads_maps_alone():
    with pytest.raises(ShapeError, match="spectral reads maps C x H x W, not 7"):
        Spectral(InputSpec((7,)))
