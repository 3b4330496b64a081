"""The encoder of small patches."""

import pytest
import torch
from fusionkit_encoders.patch_cnn import PatchCNN, SpectralFront

from fusionkit.errors import ShapeError
from fusionkit.flow import InputSpec


@pytest.mark.parametrize("variant", ["2d", "spectral_spatial"])
@pytest.mark.parametrize("shape", [(123, 8, 8), (1, 11, 11), (5, 1, 1), (4, 1, 7), (3, 40, 24)])
def test_keeps_the_contract(check_encoder, variant, shape):
    spec = InputSpec(shape)
    check_encoder(lambda: PatchCNN(spec, variant=variant, width=8), spec)


def test_group_norm_and_depth(check_encoder):
    spec = InputSpec((6, 9, 9))
    check_encoder(lambda: PatchCNN(spec, norm="group", depth=2, width=12), spec)


def test_group_norm_on_a_single_pixel(check_encoder):
    spec = InputSpec((6, 1, 1))
    check_encoder(lambda: PatchCNN(spec, norm="group"), spec)


def test_batch_norm_of_a_single_pixel_is_that_of_evaluation():
    encoder = PatchCNN(InputSpec((6, 1, 1)), dropout=0.0)
    encoder(torch.randn(8, 6, 1, 1))  # moves the running statistics
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    value = torch.randn(1, 6, 1, 1)
    alone = encoder(value).tokens
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    torch.testing.assert_close(alone, encoder.eval()(value).tokens)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_the_level_of_a_sample_is_seen(factor):
    """Trees twice as high are other trees: scaling a patch moves its features."""
    encoder = PatchCNN(InputSpec((1, 8, 8))).eval()
    value = torch.rand(4, 1, 8, 8)
    ratio = encoder(factor * value).pooled.sum(1) / encoder(value).pooled.sum(1)
    assert ((ratio - 1).abs() > 0.2).all()


@pytest.mark.parametrize(
    ("side", "grids"),
    [
        (1, [(1, 1), (1, 1), (1, 1)]),
        (4, [(4, 4), (4, 4), (4, 4)]),
        (8, [(8, 8), (4, 4), (4, 4)]),
        (11, [(11, 11), (6, 6), (3, 3)]),
        (40, [(20, 20), (10, 10), (5, 5)]),
        (64, [(32, 32), (16, 16), (8, 8)]),
    ],
)
def test_small_patches_keep_their_pixels(side, grids):
    encoder = PatchCNN(InputSpec((3, side, side)), width=8)
    features = encoder.embed(torch.randn(2, 3, side, side), None)
    assert features.grid == (side, side)
    for stage, grid in enumerate(grids):
        features = encoder.step(stage, features)
        assert features.grid == grid
    assert features.tokens.shape[2] == 32


def test_the_spectral_front_shares_its_weights_along_the_bands():
    """Away from the ends, a spectrum moved by the stride of two bands gives filters moved by one."""
    front = SpectralFront(96, "group").eval()
    narrow = torch.zeros(1, 96, 3, 3)
    narrow[:, 40:44] = torch.rand(4, 3, 3)
    bands = front.channels // front.filters[-1]
    out = front.layers[0](narrow.unsqueeze(1))
    moved = front.layers[0](narrow.roll(2, dims=1).unsqueeze(1))
    torch.testing.assert_close(moved, out.roll(1, dims=2))
    assert front(narrow).shape == (1, 32 * bands, 3, 3)
    assert bands == 12


def test_vectors_are_refused():
    with pytest.raises(ShapeError, match="maps C x H x W, not 40"):
        PatchCNN(InputSpec((40,)))
