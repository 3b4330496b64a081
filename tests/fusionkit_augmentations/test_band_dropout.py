"""Band dropout."""

import numpy as np
import pytest
from fusionkit_augmentations.band_dropout import BandDropout

from fusionkit.errors import RequestError
from fusionkit.flow import InputSpec


def test_keeps_the_contract(check_augmentation, inputs):
    check_augmentation(BandDropout(inputs), {"hsi"})
    check_augmentation(BandDropout(inputs, modalities=["rgb", "vector"], probability=0.3), {"rgb", "vector"})


@pytest.mark.parametrize("shape", [(40, 3, 2), (40,), (6, 40)])
def test_gaps_are_interpolated_as_numpy_does(draws, shape):
    """Every pixel's spectrum is `np.interp` over the bands that are left, whichever they are."""
    value = np.random.default_rng(0).random(shape)
    axis = 0 if len(shape) == 3 else len(shape) - 1
    dropped = np.zeros(40, int)
    for i in range(200):
        after = BandDropout({"x": InputSpec(shape)}, probability=0.4, modalities=["x"])({"x": value}, draws(i))["x"]
        spectra, originals = (np.moveaxis(x, axis, -1).reshape(-1, 40) for x in (after, value))
        kept = np.isclose(spectra, originals, atol=1e-6).all(0)
        dropped += ~kept
        for spectrum, original in zip(spectra, originals, strict=True):
            expected = np.interp(np.arange(40), np.flatnonzero(kept), original[kept])
            np.testing.assert_allclose(spectrum, expected, atol=1e-5)
    np.testing.assert_allclose(dropped / 200, 0.4, atol=0.17)  # 5 deviations of sqrt(.4 * .6 / 200)


def test_a_straight_spectrum_is_left_as_it_is_inside(draws):
    value = np.arange(30.0).reshape(30, 1, 1) * np.ones((1, 2, 2))
    for i in range(20):
        after = BandDropout({"x": InputSpec((30, 2, 2))}, probability=0.2)({"x": value}, draws(i))["x"]
        lost = ~np.isclose(after, value, atol=1e-4).all((1, 2))
        inside = lost[lost.argmin() : 30 - lost[::-1].argmin()]  # without the ends, where the last band goes on
        assert not inside.any()


def test_all_bands_at_once_are_never_dropped(draws):
    value = np.random.default_rng(0).random((3, 2, 2)).astype(np.float32)
    augmentation = BandDropout({"x": InputSpec((3, 2, 2))}, probability=0.999, modalities=["x"])
    assert all(np.array_equal(augmentation({"x": value}, draws(i))["x"], value) for i in range(5))


@pytest.mark.parametrize("name", ["dem", "visits"])
def test_what_is_no_spectrum_is_told(inputs, name):
    with pytest.raises(RequestError, match=f"spectra of three channels or more .* and {name} is"):
        BandDropout(inputs, modalities=[name])
