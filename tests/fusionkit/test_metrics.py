"""Figures against scikit-learn and SciPy, intervals against plain resampling of samples."""

import warnings

import numpy as np
import pytest
from scipy.stats import binom, binomtest
from sklearn import metrics as sk

from fusionkit.estimates import Comparison, Estimate, interval_note
from fusionkit.metrics import NAMES as HEADLINES
from fusionkit.metrics import compare, confusion, estimate, headline, per_class


def by_sklearn(target, prediction):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "oa": sk.accuracy_score(target, prediction),
            "aa": sk.balanced_accuracy_score(target, prediction),
            "kappa": sk.cohen_kappa_score(target, prediction),
            "macro_f1": sk.f1_score(target, prediction, average="macro"),
            "weighted_f1": sk.f1_score(target, prediction, average="weighted"),
        }


def noisy(random, n, classes, right=0.6):
    target = random.choice(classes, n, p=random.dirichlet(np.ones(classes)))
    prediction = np.where(random.random(n) < right, target, random.integers(0, classes, n))
    return target, prediction


CASES = {
    "two classes": ([0, 1, 1, 0, 1], [0, 1, 0, 0, 1], 2),
    "a class absent from the reference": ([0, 0, 1, 1], [0, 2, 1, 0], 3),
    "a class never predicted": ([0, 1, 2, 2], [0, 1, 1, 0], 3),
    "a class that is nowhere": ([0, 1, 3, 3], [0, 1, 3, 0], 5),
    "perfect": ([0, 1, 2], [0, 1, 2], 3),
    "all wrong": ([0, 1, 2], [1, 2, 0], 3),
    "one class, perfect": ([1, 1, 1], [1, 1, 1], 2),
    "one class, one error": ([1, 1, 1], [1, 0, 1], 2),
    "one sample": ([0], [1], 2),
}


@pytest.mark.parametrize("case", CASES)
def test_headline_equals_sklearn_at_the_edges(case):
    target, prediction, classes = CASES[case]
    found = headline(confusion(target, prediction, classes))
    assert list(found) == list(HEADLINES)
    for name, expected in by_sklearn(target, prediction).items():
        assert found[name] == pytest.approx(expected, nan_ok=True), name


@pytest.mark.parametrize("classes", [2, 9, 60])
def test_headline_equals_sklearn(classes):
    target, prediction = noisy(np.random.default_rng(classes), 500, classes)
    counts = confusion(target, prediction, classes)
    np.testing.assert_array_equal(counts, sk.confusion_matrix(target, prediction, labels=range(classes)))
    found = headline(counts)
    for name, expected in by_sklearn(target, prediction).items():
        assert found[name] == pytest.approx(expected, abs=1e-12), name


def test_headline_of_many_matrices_at_once():
    random = np.random.default_rng(0)
    counts = random.integers(0, 5, (3, 4, 6, 6))
    found = headline(counts)
    for name in HEADLINES:
        assert found[name].shape == (3, 4)
        assert found[name][1, 2] == headline(counts[1, 2])[name]


def test_headline_of_no_samples_is_undefined():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(np.isnan(value) for value in headline(np.zeros((3, 3), int)).values())


def test_confusion_rows_are_the_reference():
    np.testing.assert_array_equal(confusion([0, 0, 1], [1, 1, 0], 2), [[0, 2], [1, 0]])


@pytest.mark.parametrize(
    ("target", "prediction"),
    [([0, 1], [0]), ([0, -1], [0, 0]), ([0, 1], [0, 2]), ([0.0, 1.0], [0, 1]), ([[0], [1]], [0, 1])],
)
def test_confusion_refuses_what_is_no_label(target, prediction):
    with pytest.raises(ValueError, match="labels are"):
        confusion(target, prediction, 2)


def test_per_class_equals_sklearn_and_leaves_the_undefined_open():
    target, prediction = [0, 0, 1, 1, 3], [0, 1, 1, 2, 0]
    rows = per_class(confusion(target, prediction, 5), ["a", "b", "c", "d", "e"])
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        target, prediction, labels=range(5), zero_division=np.nan
    )
    for row, ua, pa, expected, n in zip(rows, precision, recall, f1, support, strict=True):
        assert row.n == n
        assert (row.ua is None) == np.isnan(ua)
        assert (row.pa is None) == np.isnan(pa)
        assert row.ua == (None if np.isnan(ua) else pytest.approx(ua))
        assert row.pa == (None if np.isnan(pa) else pytest.approx(pa))
        assert row.f1 == (None if row.n + row.predicted == 0 else pytest.approx(expected))
    assert [row.predicted for row in rows] == [2, 2, 1, 0, 0]
    assert (rows[4].pa, rows[4].ua, rows[4].f1) == (None, None, None)


def test_interval_of_oa_is_that_of_the_binomial():
    target = np.zeros(400, int)
    prediction = (np.arange(400) < 80).astype(int)
    oa = estimate(target, prediction, 2, seed=3)["oa"]
    assert oa.value == 0.8
    low, high = binom.ppf([0.025, 0.975], 400, 0.8) / 400
    assert oa.low == pytest.approx(low, abs=0.006)
    assert oa.high == pytest.approx(high, abs=0.006)


def plain_bootstrap(figures, units, resamples=1500):
    """Resample units (arrays of positions) one by one, and let scikit-learn compute."""
    random = np.random.default_rng(99)
    drawn = []
    for _ in range(resamples):
        chosen = np.concatenate([units[i] for i in random.integers(0, len(units), len(units))])
        drawn.append(list(figures(chosen).values()))
    return np.nanpercentile(drawn, [2.5, 97.5], axis=0)


@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_are_those_of_resampling_samples_or_groups(grouped):
    random = np.random.default_rng(5)
    target, prediction = noisy(random, 240, 4)
    groups = np.repeat(np.arange(24), 10)
    wrong = np.isin(groups, [3, 8, 11, 20])  # errors that come by group
    prediction = np.where(wrong, (target + 1) % 4, prediction)
    found = estimate(target, prediction, 4, groups=groups if grouped else None, seed=1)
    units = [np.flatnonzero(groups == g) for g in range(24)] if grouped else [np.array([i]) for i in range(240)]

    def figures(chosen):
        values = headline(confusion(target[chosen], prediction[chosen], 4))  # itself held against scikit-learn above
        return {name: float(value) for name, value in values.items()}

    low, high = plain_bootstrap(figures, units)
    for i, name in enumerate(HEADLINES):
        assert found[name].low == pytest.approx(low[i], abs=0.015), name
        assert found[name].high == pytest.approx(high[i], abs=0.015), name
    if grouped:
        alone = estimate(target, prediction, 4, seed=1)["oa"]
        assert found["oa"].high - found["oa"].low > 1.5 * (alone.high - alone.low)


def test_intervals_cover_the_truth_as_often_as_they_say():
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        prediction = (random.random(300) < 0.3).astype(int)
        oa = estimate(np.zeros(300, int), prediction, 2, seed=trial)["oa"]
        covered += oa.low <= 0.7 <= oa.high
    assert binomtest(covered, 200, 0.95).pvalue > 0.001


def test_estimate_is_reproducible_and_depends_on_its_seed():
    target, prediction = noisy(np.random.default_rng(2), 300, 5)
    assert estimate(target, prediction, 5, seed=4) == estimate(target, prediction, 5, seed=4)
    assert estimate(target, prediction, 5, seed=4) != estimate(target, prediction, 5, seed=5)


def test_chunks_do_not_change_the_figures(monkeypatch):
    target, prediction = noisy(np.random.default_rng(2), 300, 5)
    groups = np.arange(300) % 40
    whole = [estimate(target, prediction, 5, groups=g, seed=4) for g in (None, groups)]
    monkeypatch.setattr("fusionkit.estimates._MOST_NUMBERS", 700)
    assert [estimate(target, prediction, 5, groups=g, seed=4) for g in (None, groups)] == whole


def test_undefined_figures_are_none():
    found = estimate([1, 1, 1], [1, 1, 1], 2)
    assert found["kappa"] == Estimate(None, None, None)
    assert found["oa"] == Estimate(1.0, 1.0, 1.0)


def test_one_group_has_no_interval():
    found = estimate([0, 1, 1], [0, 1, 0], 2, groups=["p", "p", "p"])
    assert found["oa"] == Estimate(2 / 3)
    assert interval_note(3, ["p", "p", "p"]).startswith("no interval")


def test_no_samples_and_wrong_groups_are_refused():
    with pytest.raises(ValueError, match="no samples"):
        estimate(np.array([], int), np.array([], int), 2)
    with pytest.raises(ValueError, match="2 groups for 3 samples"):
        estimate([0, 1, 1], [0, 1, 0], 2, groups=["a", "b"])


def test_interval_note_says_what_was_resampled():
    assert interval_note(1752) == "bootstrap over 1,752 samples"
    assert interval_note(752, np.arange(752) % 31) == "bootstrap over 31 groups"
    assert "rough" in interval_note(752, np.arange(752) % 9)


def paired(n, both, only_first, only_second):
    target = np.zeros(n, int)
    first = np.ones(n, int)
    second = np.ones(n, int)
    first[: both + only_first] = 0
    second[:both] = 0
    second[both + only_first : both + only_first + only_second] = 0
    return target, first, second


def test_mcnemar_equals_scipy():
    found = compare(*paired(200, 100, 30, 12), 2)
    assert (found.only_first, found.only_second) == (30, 12)
    assert found.p_value == pytest.approx(binomtest(30, 42, 0.5).pvalue)
    assert found.differences["oa"].value == pytest.approx(18 / 200)
    assert found.verdict == "better"
    assert compare(*paired(200, 100, 12, 30), 2).verdict == "worse"


def test_paired_interval_of_oa_is_that_of_the_difference_of_counts():
    target, first, second = paired(200, 100, 30, 12)
    found = compare(target, first, second, 2, seed=7).differences["oa"]
    random = np.random.default_rng(1)
    gain = (first == target).astype(int) - (second == target)
    drawn = [gain[random.integers(0, 200, 200)].mean() for _ in range(4000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert found.low == pytest.approx(low, abs=0.008)
    assert found.high == pytest.approx(high, abs=0.008)


def test_differences_of_all_figures():
    random = np.random.default_rng(8)
    target, first = noisy(random, 300, 6, right=0.8)
    second = np.where(random.random(300) < 0.5, first, random.integers(0, 6, 300))
    found = compare(target, first, second, 6)
    one, other = by_sklearn(target, first), by_sklearn(target, second)
    for name in HEADLINES:
        assert found.differences[name].value == pytest.approx(one[name] - other[name]), name
        assert found.differences[name].low < found.differences[name].value < found.differences[name].high, name


def test_equal_predictions_differ_in_nothing():
    target, first = noisy(np.random.default_rng(8), 100, 3)
    found = compare(target, first, first, 3)
    assert found.p_value == 1.0
    assert found.differences["oa"] == Estimate(0.0, 0.0, 0.0)
    assert found.verdict == "no evidence"


def comparison(low, high, p, groups=None):
    return Comparison(100, {"oa": Estimate((low + high) / 2, low, high)}, 1, 1, p, groups)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (comparison(0.01, 0.05, 0.001), "better"),
        (comparison(-0.05, -0.01, 0.001), "worse"),
        (comparison(0.01, 0.05, 0.06), "borderline"),
        (comparison(-0.01, 0.05, 0.04), "borderline"),
        (comparison(-0.01, 0.05, 0.3), "no evidence"),
        (comparison(0.01, 0.05, 0.001, groups=31), "better"),
        (comparison(-0.01, 0.05, 0.001, groups=31), "no evidence"),
        (comparison(0.01, 0.05, 0.001, groups=4), "borderline"),
        (Comparison(9, {"oa": Estimate(0.3)}, 3, 0, 0.001, 1), "no evidence"),
    ],
)
def test_verdict_needs_interval_and_test(found, verdict):
    assert found.verdict == verdict
