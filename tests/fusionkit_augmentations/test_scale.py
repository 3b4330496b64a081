"""Random brightness."""

import numpy as np
import pytest
from fusionkit_augmentations.scale import Scale

from fusionkit.errors import RequestError
from fusionkit.flow import InputSpec


def test_keeps_the_contract(check_augmentation, inputs):
    check_augmentation(Scale(inputs), {"hsi", "rgb", "dem"})
    check_augmentation(Scale(inputs, modalities=["vector", "dem"]), {"dem", "vector"})


def test_one_factor_a_sample_and_modality(inputs, sample, draws):
    factors = []
    for i in range(400):
        after = Scale(inputs, strength=0.3)(sample, draws(i))
        both = []
        for name in ("hsi", "rgb"):
            where = sample[name] > 0
            ratio = after[name][where] / sample[name][where]
            np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
            both.append(ratio[0])
        factors.append(both)
    factors = np.array(factors)
    assert factors.min() > 0.7
    assert factors.max() < 1.3
    np.testing.assert_allclose(factors.mean(0), 1, atol=0.03)
    np.testing.assert_allclose(factors.std(0), 0.6 / 12**0.5, rtol=0.1)  # uniform
    assert abs(np.corrcoef(factors.T)[0, 1]) < 0.2


def test_integers_are_not_cut_off(draws):
    value = np.full((1, 4, 4), 255, np.uint8)
    after = [Scale({"x": InputSpec((1, 4, 4))}, strength=0.5)({"x": value}, draws(i))["x"].max() for i in range(20)]
    assert max(after) > 256


def test_counts_are_refused(inputs):
    with pytest.raises(RequestError, match="and visits is 7 x 26 x 24"):
        Scale(inputs, modalities=["visits"])
