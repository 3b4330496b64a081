"""The sign-flip test against SciPy's permutation test, by hand, and for its size where nothing differs."""

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test

from fusionkit.signflip import sign_flip_test


def by_scipy(differences, draws=10_000):
    return permutation_test(
        (np.asarray(differences, float),),
        lambda x, axis: x.sum(axis),
        permutation_type="samples",
        n_resamples=draws,
        vectorized=True,
        rng=np.random.default_rng(1),
    ).pvalue


@pytest.mark.parametrize("n", [2, 7, 13])
@pytest.mark.parametrize("kind", ["real", "whole"])
def test_few_differences_are_enumerated_as_scipy_does(n, kind):
    random = np.random.default_rng(n)
    found = random.normal(0.5, 1, n) if kind == "real" else random.integers(1, 4, n) * random.choice([-1, 1, 1], n)
    assert sign_flip_test(found) == pytest.approx(by_scipy(found))


def test_three_gains_by_hand():
    assert sign_flip_test([1, 2, 3]) == 2 / 8
    assert sign_flip_test([1, 2, -3]) == 1
    assert sign_flip_test([5]) == 1
    assert sign_flip_test([0.1, 0.2, 0.3, 0, 0]) == 2 / 8  # zeros have no sign


@pytest.mark.parametrize("shift", [0.0, 0.15, 0.3])
def test_many_differences_are_drawn_and_agree_with_scipy(shift):
    found = np.random.default_rng(4).normal(shift, 1, 100)
    assert sign_flip_test(found) == pytest.approx(by_scipy(found), abs=0.02)


def test_signs_of_ones_are_a_binomial():
    found = np.concatenate([np.ones(40), -np.ones(22), np.zeros(500)])
    assert sign_flip_test(found) == pytest.approx(binomtest(40, 62).pvalue, abs=0.01)


def test_drawn_p_values_are_never_zero():
    assert sign_flip_test(np.ones(50)) == 1 / 10_001


def test_groups_flip_together():
    differences, groups = [1, 1, 1, 2, 2, -1, 3], ["a", "a", "a", "b", "b", "c", "c"]
    assert sign_flip_test(differences, groups=groups) == sign_flip_test([3, 4, 2]) == 2 / 8
    assert sign_flip_test(np.ones(300), groups=np.zeros(300)) == 1.0


def test_nothing_differs():
    assert sign_flip_test(np.zeros(30)) == 1.0
    assert sign_flip_test([]) == 1.0


def test_rounding_does_not_tell_equals_apart():
    assert sign_flip_test(np.full(10, 0.1)) == 2 / 2**10
    tenths = [1, 8, -4, 6, 3, -9]
    assert sign_flip_test(np.array(tenths) / 10) == sign_flip_test(tenths) == 52 / 64


def test_size_is_the_nominal_one():
    random = np.random.default_rng(0)
    low = sum(sign_flip_test(random.normal(size=12), seed=trial) < 0.05 for trial in range(400))
    assert binomtest(low, 400, 0.05).pvalue > 0.001


def test_the_same_seed_gives_the_same_value_in_chunks_of_any_size(monkeypatch):
    found = np.random.default_rng(4).normal(0.2, 1, 100)
    whole = sign_flip_test(found, seed=3)
    assert whole != sign_flip_test(found, seed=4)
    monkeypatch.setattr("fusionkit.signflip._MOST_NUMBERS", 900)
    assert sign_flip_test(found, seed=3) == whole


@pytest.mark.parametrize("differences", [[1.0, np.nan], [np.inf, 1.0], [[1.0, 2.0]]])
def test_what_is_no_difference_is_refused(differences):
    with pytest.raises(ValueError, match="finite numbers, one a sample"):
        sign_flip_test(differences)


def test_wrong_groups_are_refused():
    with pytest.raises(ValueError, match="2 groups for 3 samples"):
        sign_flip_test([1, 2, 3], groups=[0, 1])
