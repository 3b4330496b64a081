"""Scales: conversions against the formula, and values that are not what the recipe says."""

from __future__ import annotations

import numpy as np
import pytest
from fusionkit_datasets.rasters_scales import Reflectance, Sar

from fusionkit.errors import DataError

NOWHERE = np.zeros((1, 1, 3), bool)
RANDOM = np.random.default_rng(0)


def test_reflectance():
    values, missing = Reflectance(reflectance=1e-4).apply(np.array([[[0, 2500, 10000]]], np.uint16), NOWHERE)
    np.testing.assert_allclose(values, [[[0, 0.25, 1]]], rtol=1e-6)
    assert values.dtype == np.float32
    assert not missing.any()


def test_linear_to_decibels_and_back():
    linear = np.array([[[1.0, 0.01, 100.0]]], np.float32)
    decibels, _ = Sar(sar="linear", to="db").apply(linear, NOWHERE)
    np.testing.assert_allclose(decibels, [[[0, -20, 20]]], atol=1e-5)
    back, _ = Sar(sar="db", to="linear").apply(decibels, NOWHERE)
    np.testing.assert_allclose(back, linear, rtol=1e-5)
    assert Sar(sar="db").apply(decibels, NOWHERE)[0] is decibels
    assert decibels.dtype == back.dtype == np.float32


def test_no_power_has_no_decibels():
    with np.errstate(all="raise"):
        decibels, missing = Sar(sar="linear", to="db").apply(np.array([[[0.0, -1e-3, 1.0]]], np.float32), NOWHERE)
    assert missing.tolist() == [[[True, True, False]]]
    assert np.isfinite(decibels).all()


@pytest.mark.parametrize(
    ("scale", "values"),
    [
        (Reflectance(reflectance=1e-4), RANDOM.integers(0, 6000, 1000)),
        (Reflectance(reflectance=1e-4), np.r_[RANDOM.integers(0, 6000, 1000), np.full(300, 28000)]),  # clouds
        (Reflectance(reflectance=1.0), RANDOM.uniform(-0.01, 0.6, 1000)),
        (Sar(sar="db"), RANDOM.normal(-12, 6, 1000)),
        (Sar(sar="linear"), np.r_[RANDOM.exponential(0.1, 1000), -1e-5]),  # noise was taken off
        (Sar(sar="linear"), RANDOM.exponential(500, 1000)),
    ],
)
def test_values_that_fit(scale, values: np.ndarray):
    scale.check(values)


@pytest.mark.parametrize(
    ("scale", "values", "message"),
    [
        (Reflectance(reflectance=1.0), RANDOM.integers(100, 6000, 1000), r"perhaps `reflectance: 0\.0001`"),
        (Reflectance(reflectance=1e-4), RANDOM.uniform(0, 0.6, 1000), "leave `scale` out"),
        (Reflectance(reflectance=1e-4), np.full(9, -9999), "no reflectance"),
        (Sar(sar="db"), RANDOM.exponential(500, 1000), "write `sar: linear`"),
        (Sar(sar="linear"), RANDOM.normal(-12, 6, 1000), "write `sar: db`"),
    ],
)
def test_values_that_do_not(scale, values: np.ndarray, message: str):
    with pytest.raises(DataError, match=message) as raised:
        scale.check(values)
    assert "\n" not in str(raised.value)
