"""Gaussian noise."""

import numpy as np
import pytest
from fusionkit_augmentations.noise import Noise

from fusionkit.errors import RequestError
from fusionkit.flow import InputSpec


def test_keeps_the_contract(check_augmentation, inputs):
    check_augmentation(Noise(inputs), {"hsi", "rgb", "dem", "text", "vector"})
    check_augmentation(Noise(inputs, modalities=["rgb"]), {"rgb"})


@pytest.mark.parametrize(("shape", "axis"), [((3, 60, 60), 0), ((2000, 3), 1)])
def test_relative_to_each_channels_spread(draws, shape, axis):
    spread = np.array([1.0, 10.0, 1000.0])
    value = np.random.default_rng(0).standard_normal(shape) * (spread[:, None, None] if axis == 0 else spread) + 500
    noise = Noise({"x": InputSpec(shape)}, strength=0.2)({"x": value}, draws(0))["x"] - value
    others = tuple(i for i in range(len(shape)) if i != axis)
    np.testing.assert_allclose(noise.std(others), 0.2 * spread, rtol=0.1)
    np.testing.assert_allclose(noise.mean(others), 0, atol=0.02 * spread.max())


@pytest.mark.parametrize("shape", [(4000,), (4000, 1, 1)])
def test_single_numbers_go_by_their_own_size(draws, shape):
    value = np.where(np.arange(4000) % 2, -3.0, 1000.0).reshape(shape)
    noise = (Noise({"x": InputSpec(shape)}, strength=0.5)({"x": value}, draws(0))["x"] - value).ravel()
    assert noise[::2].std() == pytest.approx(500, rel=0.1)
    assert noise[1::2].std() == pytest.approx(1.5, rel=0.1)


def test_noise_is_normal_and_white(draws):
    value = np.random.default_rng(0).standard_normal((1, 100, 100))
    noise = (Noise({"x": InputSpec((1, 100, 100))})({"x": value}, draws(0))["x"] - value)[0]
    noise /= noise.std()
    assert abs((noise**4).mean() - 3) < 0.3
    assert abs((noise[1:] * noise[:-1]).mean()) < 0.05
    assert abs((noise * value).mean()) < 0.05


def test_result_is_float32(inputs, sample, draws):
    assert Noise(inputs)(sample, draws(0))["rgb"].dtype == np.float32


def test_counts_are_refused(inputs):
    with pytest.raises(RequestError, match="no counts, and visits is"):
        Noise(inputs, modalities=["visits"])
