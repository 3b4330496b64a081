"""Figures of regressions against scikit-learn, intervals against plain resampling of samples."""

import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from fusionkit.estimates import Estimate
from fusionkit.regression import NAMES, _Weighed, compare, estimate, figures, per_quantity
from fusionkit.signflip import sign_flip_test


def by_sklearn(target, prediction, weight=None):
    return {
        "rmse": sk.root_mean_squared_error(target, prediction, sample_weight=weight),
        "mae": sk.mean_absolute_error(target, prediction, sample_weight=weight),
        "r2": sk.r2_score(target, prediction, sample_weight=weight),
    }


def noisy(seed, n, quantities, offset=0.0):
    random = np.random.default_rng(seed)
    scale = 10.0 ** np.arange(quantities)
    target = offset + scale * random.normal(size=(n, quantities))
    return target, target + 0.5 * scale * random.normal(size=(n, quantities)) + 0.1


@pytest.mark.parametrize("quantities", [1, 4])
@pytest.mark.parametrize("offset", [0, 1e6])
def test_figures_equal_sklearn(quantities, offset):
    target, prediction = noisy(quantities, 200, quantities, offset)
    found = figures(target, prediction)
    assert tuple(found) == NAMES
    assert found == pytest.approx(by_sklearn(target, prediction), rel=1e-9)


def test_figures_by_hand():
    found = figures([[1.0], [2.0], [3.0], [6.0]], [[1.0], [4.0], [3.0], [2.0]])
    assert found == pytest.approx({"rmse": 5**0.5, "mae": 1.5, "r2": 1 - 20 / 14})


def test_large_values_of_small_spread_do_not_cancel():
    target = 1e9 + np.array([[0.0], [1], [2], [3]])
    assert figures(target, target + 1)["r2"] == pytest.approx(1 - 4 / 5)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e8 / 3])
@pytest.mark.parametrize("n", [1, 3, 7])
def test_r2_of_a_constant_target_is_undefined(value, n):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = figures(np.full((n, 1), value), np.full((n, 1), value + 2))
        assert estimate(np.full((n, 1), value), np.full((n, 1), value + 2))["r2"] == Estimate(None)
    assert found == pytest.approx({"rmse": 2, "mae": 2, "r2": np.nan}, nan_ok=True)


def test_one_constant_target_leaves_the_mean_r2_undefined():
    found = figures([[1, 5], [2, 5]], [[1, 5], [2, 6]])
    assert np.isnan(found["r2"])
    assert found["mae"] == 0.25


def test_weights_are_repeated_samples():
    target, prediction = noisy(3, 30, 2)
    counts = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), 20)
    found = _Weighed(target, prediction).means(counts)
    for row, weight in zip(found, counts, strict=True):
        repeated = np.repeat(np.arange(30), weight)
        by_repeating = figures(target[repeated], prediction[repeated])
        assert dict(zip(NAMES, row, strict=True)) == pytest.approx(by_repeating)
        assert by_repeating == pytest.approx(by_sklearn(target, prediction, weight))


def test_a_resample_of_equal_targets_has_no_r2():
    weigh = _Weighed(np.array([[8.5], [10.4]]), np.zeros((2, 1)))  # rounding leaves seven times one some variance
    assert np.isnan(weigh.means(np.array([[3, 0], [7, 0], [0, 7]]))[:, 2]).all()


@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_are_those_of_resampling_samples_or_groups(grouped):
    target, prediction = noisy(5, 200, 1)
    groups = np.repeat(np.arange(20), 10)
    prediction = prediction + np.isin(groups, [3, 8, 11])[:, np.newaxis]
    found = estimate(target, prediction, groups=groups if grouped else None, seed=1)
    units = [np.flatnonzero(groups == g) for g in range(20)] if grouped else [np.array([i]) for i in range(200)]
    random = np.random.default_rng(99)
    drawn = []
    for _ in range(1500):
        chosen = np.concatenate([units[i] for i in random.integers(0, len(units), len(units))])
        drawn.append(list(figures(target[chosen], prediction[chosen]).values()))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    for i, name in enumerate(NAMES):
        assert found[name].low == pytest.approx(low[i], abs=0.02), name
        assert found[name].high == pytest.approx(high[i], abs=0.02), name
        assert found[name].value == pytest.approx(figures(target, prediction)[name])
    if grouped:
        alone = estimate(target, prediction, seed=1)["rmse"]
        assert found["rmse"].high - found["rmse"].low > 1.3 * (alone.high - alone.low)


def test_one_sample_and_one_group():
    assert estimate([[1.0]], [[3.0]]) == {"rmse": Estimate(2, 2, 2), "mae": Estimate(2, 2, 2), "r2": Estimate(None)}
    found = estimate(*noisy(1, 9, 2), groups=["p"] * 9)
    assert found["r2"].value is not None
    assert found["r2"].low is None


def test_per_quantity_equals_sklearn():
    target, prediction = noisy(2, 150, 3)
    rows = per_quantity(target, prediction, ["height", "biomass", "yield"])
    for k, (name, row) in enumerate(zip(["height", "biomass", "yield"], rows, strict=True)):
        truth, found = target[:, [k]], prediction[:, [k]]
        assert (row.name, row.n) == (name, 150)
        expected = by_sklearn(truth, found) | {"bias": (found - truth).mean()}
        for figure, value in expected.items():
            part = getattr(row, figure)
            assert part.value == pytest.approx(value)
            assert part.low < part.value < part.high
        for figure, part in estimate(truth, found).items():
            assert getattr(row, figure).low == pytest.approx(part.low)
            assert getattr(row, figure).high == pytest.approx(part.high)


def test_per_quantity_of_groups_and_of_a_constant():
    target, prediction = noisy(2, 20, 1)
    (one,) = per_quantity(target, prediction, ["a"], groups=np.zeros(20))
    assert one.rmse.low is None
    (constant,) = per_quantity(np.ones((20, 1)), prediction, ["a"])
    assert constant.r2 == Estimate(None)
    with pytest.raises(ValueError, match="2 names for 1 quantities"):
        per_quantity(target, prediction, ["a", "b"])


def test_compare_two_regressions():
    target, first = noisy(8, 300, 1)
    second = first + np.random.default_rng(1).normal(0, 0.4, first.shape)
    found = compare(target, first, second, seed=2)
    one, other = by_sklearn(target, first), by_sklearn(target, second)
    for name in NAMES:
        assert found.differences[name].value == pytest.approx(one[name] - other[name]), name
        assert found.differences[name].low < found.differences[name].value < found.differences[name].high, name
    assert (found.n, found.only_first, found.only_second, found.groups, found.by_group) == (
        300,
        None,
        None,
        None,
        False,
    )
    assert found.test == "sign-flip test of squared errors"
    apart = (first - target) ** 2 - (second - target) ** 2
    assert found.p_value == sign_flip_test(apart[:, 0], seed=2) < 0.05
    assert found.gain == -found.differences["rmse"].value > 0
    assert found.verdict == "better"
    assert compare(target, second, first, seed=2).verdict == "worse"


def test_units_do_not_matter_to_the_test_of_several_quantities():
    target, first = noisy(8, 40, 3)
    second = first + np.random.default_rng(1).normal(0, 0.4, first.shape)
    units = np.array([1, 1e3, 1e-3])
    found = compare(target, first, second, seed=2).p_value
    assert compare(target * units, first * units, second * units, seed=2).p_value == found
    constant = target.copy()
    constant[:, 1] = 3
    assert np.isfinite(compare(constant, first, second).p_value)


def test_compare_flips_and_resamples_whole_groups():
    target, first = noisy(8, 300, 1)
    second = first.copy()
    second[:30] += 2  # worse in one group of ten alone
    groups = np.repeat(np.arange(10), 30)
    alone, together = compare(target, first, second), compare(target, first, second, groups=groups)
    assert alone.verdict == "better"
    assert (together.groups, together.by_group) == (10, True)
    assert together.p_value == 1.0
    assert together.verdict == "no evidence"


def test_equal_predictions_differ_in_nothing():
    target, first = noisy(8, 50, 2)
    found = compare(target, first, first)
    assert found.p_value == 1.0
    assert found.differences["rmse"] == Estimate(0.0, 0.0, 0.0)
    assert found.verdict == "no evidence"


WRONG = {
    r"\[n, K\]": ([1.0, 0], [0.2, 0.3]),
    r"\(2, 1\) and \(2, 2\)": ([[1], [0]], [[1, 2], [3, 4]]),
    r"\(2, 0\)": (np.zeros((2, 0)), np.zeros((2, 0))),
    "no samples": (np.zeros((0, 3)), np.zeros((0, 3))),
    "finite": ([[1.0], [np.nan]], [[1.0], [2.0]]),
    "finite numbers": ([[1.0], [2.0]], [[1.0], [np.inf]]),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_no_prediction_of_quantities_is_refused(message):
    target, prediction = WRONG[message]
    calls = (
        lambda: figures(target, prediction),
        lambda: estimate(target, prediction),
        lambda: compare(target, prediction, prediction),
        lambda: per_quantity(target, prediction, ["a"]),
    )
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()
