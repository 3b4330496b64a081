"""Figures over seeds and samples: by hand, against SciPy's tests and power, and by simulated figures."""

import numpy as np
import pytest
from scipy.stats import nct, t, ttest_1samp

from fusionkit.seeds import holm, noncentrality, over_seeds


def crossed(seeds, n, between, samples, each, random):
    """Values `[S, n]` of a two-way model: seeds, samples, and what is neither."""
    return random.normal(0, between, (seeds, 1)) + random.normal(0, samples, n) + random.normal(0, each, (seeds, n))


def resampled(values, random, r=2000):
    n = values.shape[1]
    return random.multinomial(n, np.full(n, 1 / n), size=r) @ values.T / n


def test_variance_is_between_seeds_and_shared_by_samples():
    random = np.random.default_rng(0)
    values = crossed(4, 60, 0.3, 1.0, 0.5, random)
    found = over_seeds(values.mean(1), resampled(values, random, 20_000))
    covariance = np.cov(values) / 60  # of the means over other samples
    shared = (covariance.sum() - covariance.trace()) / 12
    between = values.mean(1).var(ddof=1)
    assert found.mean == pytest.approx(values.mean())
    assert found.deviation == pytest.approx(between**0.5)
    assert found.error == pytest.approx((between / 4 + shared) ** 0.5, rel=0.02)
    assert found.freedom == pytest.approx(3 * ((between + 4 * shared) / between) ** 2, rel=0.05)
    reach = t.ppf(0.975, found.freedom) * found.error
    assert (found.low, found.high) == pytest.approx((found.mean - reach, found.mean + reach))
    assert found.p_value == pytest.approx(2 * t.sf(abs(found.mean) / found.error, found.freedom))


def test_where_samples_do_not_matter_it_is_the_one_sample_t_test():
    values = np.array([0.02, 0.05, 0.03, 0.01])
    found = over_seeds(values, np.tile(values, (100, 1)))
    scipy = ttest_1samp(values, 0)
    assert found.p_value == pytest.approx(scipy.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(scipy.confidence_interval()))


def test_one_seed_has_the_percentiles_of_the_resamples():
    drawn = np.random.default_rng(1).normal(0.7, 0.02, (2000, 1))
    found = over_seeds([0.7], drawn)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))
    assert (found.deviation, found.effect, found.detectable) == (None, None, None)


def test_seeds_that_agree_by_chance_have_the_error_of_their_samples():
    random = np.random.default_rng(2)
    values = crossed(2, 100, 0, 0, 1.0, random)
    values -= values.mean(1, keepdims=True) - 0.1  # both means are the same
    found = over_seeds(values.mean(1), resampled(values, random))
    assert found.error == pytest.approx(values.std() / 200**0.5, rel=0.15)
    assert found.p_value > 0.01


def test_nothing_known_of_what_is_undefined():
    assert over_seeds([0.5, np.nan], np.ones((10, 2))) is None
    assert over_seeds([0.5, 0.5], np.full((10, 2), np.nan)) is None
    same = over_seeds([0.0, 0.0], np.zeros((10, 2)))
    assert (same.p_value, same.low, same.high) == (1.0, 0.0, 0.0)
    assert over_seeds([0.1, 0.1], np.full((10, 2), 0.1)).p_value == 0.0


def test_effect_is_hedges_g():
    values = np.array([0.02, 0.05, 0.03, 0.01, 0.03])
    found = over_seeds(values, np.tile(values, (10, 1)))
    assert found.effect == pytest.approx(values.mean() / values.std(ddof=1) * (1 - 3 / (4 * 4 - 1)), rel=0.005)
    assert over_seeds(values[:2], np.tile(values[:2], (10, 1))).effect is None


@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 40])
def test_detectable_has_a_power_of_four_fifths(freedom):
    found, critical = noncentrality(freedom), t.ppf(0.975, freedom)
    assert nct.sf(critical, freedom, found) == pytest.approx(0.8, abs=1e-6)


def test_an_interval_ends_where_the_figure_does():
    values = np.array([0.9, 1.0])
    free, held = (over_seeds(values, np.tile(values, (10, 1)), *bounds) for bounds in ([], [(0.0, 1.0)]))
    assert (free.low, free.high) == pytest.approx((0.95 - 12.7062 * 0.05, 0.95 + 12.7062 * 0.05), rel=1e-4)
    assert (held.low, held.high) == (free.low, 1.0)
    assert held.error == free.error


def test_detectable_differences_are_those_of_statsmodels():
    """Effect sizes by `TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8)` of statsmodels 0.14."""
    for nobs, shift in {2: 16.33401, 3: 5.653489, 4: 4.255899, 5: 3.761060, 10: 3.149635}.items():
        assert noncentrality(nobs - 1) == pytest.approx(shift, rel=1e-5)
    values = np.array([0.02, 0.05, 0.03])
    found = over_seeds(values, np.tile(values, (10, 1)))
    assert found.detectable == pytest.approx(5.653489 * values.std(ddof=1) / 3**0.5, rel=1e-5)


def test_many_degrees_of_freedom_are_the_normal_distribution():
    assert noncentrality(np.inf) == pytest.approx(1.959964 + 0.841621, rel=1e-6)
    assert noncentrality(9_999) == pytest.approx(noncentrality(10_001), rel=1e-3)


def test_holm_by_hand_and_as_statsmodels():
    """By `multipletests(..., method="holm")` of statsmodels 0.14."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2, 0.9, 0.6, 0.011, 0.011, 0.5]) == pytest.approx([0.8, 1, 1, 0.066, 0.066, 1])
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@pytest.mark.parametrize("wrong", [[0.1, np.nan], [-0.1], [1.2]])
def test_holm_refuses_what_is_no_p_value(wrong):
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_hold_what_they_promise(seeds):
    """Of a mean of zero over other seeds and samples; a percentile bootstrap over two or three seeds would not."""
    random = np.random.default_rng(seeds)
    inside = 0
    for _ in range(400):
        values = crossed(seeds, 80, 0.1, 0.8, 0.8, random)
        found = over_seeds(values.mean(1), resampled(values, random, 300))
        inside += found.low <= 0 <= found.high
    assert 0.92 <= inside / 400 <= 1
