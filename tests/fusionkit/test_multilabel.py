"""Figures of multi-label classifiers against scikit-learn, intervals against plain resampling of samples."""

import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from fusionkit.estimates import Estimate
from fusionkit.multilabel import NAMES, _Weighed, compare, confusions, decide, estimate, figures, per_label
from fusionkit.signflip import sign_flip_test


def by_sklearn(target, probabilities, weight=None):
    """The definitions; scikit-learn takes a single label for two classes, so that one that is nowhere is put beside."""
    target, probabilities = (np.pad(part, ((0, 0), (0, 1))) for part in (target, probabilities))
    given = probabilities > 0.5
    weight = np.ones(len(target), int) if weight is None else weight
    drawn = weight > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        precision = [
            sk.average_precision_score(there, scores, sample_weight=weight)
            for there, scores in zip(target.T, probabilities.T, strict=True)
            if there[drawn].any()
        ]
        seen = np.flatnonzero((target[drawn] | given[drawn]).any(0))
        macro = sk.f1_score(target, given, labels=seen, average="macro", sample_weight=weight) if len(seen) else np.nan
        micro = sk.f1_score(target, given, average="micro", sample_weight=weight, zero_division=np.nan)
        exact = sk.accuracy_score(target, given, sample_weight=weight)
    return {"map": np.mean(precision) if precision else np.nan, "macro_f1": macro, "micro_f1": micro} | {
        "subset_accuracy": exact
    }


def noisy(seed, n, labels, ties=False, share=0.3):
    random = np.random.default_rng(seed)
    target = (random.random((n, labels)) < share).astype(int)
    probabilities = 1 / (1 + np.exp(2 - 2.5 * target - random.normal(size=target.shape)))
    return target, probabilities.round(1) if ties else probabilities


CASES = {
    "perfect": ([[1, 0], [0, 1]], [[0.9, 0.1], [0.2, 0.8]]),
    "all wrong": ([[1, 0], [0, 1]], [[0.1, 0.9], [0.8, 0.2]]),
    "all scores equal": ([[1, 0], [0, 1], [1, 1]], np.full((3, 2), 0.7)),
    "a label that nobody has": ([[1, 0, 0], [0, 1, 0], [1, 1, 0]], [[0.9, 0.4, 0.6], [0.6, 0.7, 0.2], [0.3, 0.6, 0.1]]),
    "a label that is nowhere": ([[1, 0], [1, 0]], [[0.9, 0.4], [0.6, 0.2]]),
    "a label that all have": ([[1, 0], [1, 1]], [[0.9, 0.4], [0.2, 0.2]]),
    "one sample": ([[1, 0, 1]], [[0.7, 0.6, 0.3]]),
    "one label": ([[1], [0], [1]], [[0.7], [0.8], [0.3]]),
    "exactly at the threshold": ([[1, 0], [0, 1]], [[0.5, 0.5], [0.5, 0.51]]),
    "nothing there and nothing given": ([[0, 0], [0, 0]], [[0.1, 0.2], [0.3, 0.4]]),
}


@pytest.mark.parametrize("case", CASES)
def test_figures_equal_sklearn_at_the_edges(case):
    target, probabilities = map(np.asarray, CASES[case])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = figures(target, probabilities)
    assert tuple(found) == NAMES
    for name, expected in by_sklearn(target, probabilities).items():
        assert found[name] == pytest.approx(expected, nan_ok=True), name


def test_figures_by_hand():
    target = [[1, 0], [0, 1], [1, 1], [0, 0]]
    probabilities = [[0.9, 0.6], [0.8, 0.6], [0.7, 0.2], [0.1, 0.1]]
    found = figures(target, probabilities)
    # first label: occurrences at ranks 1 and 3; second: one among the two at the top, one at rank 3
    assert found["map"] == pytest.approx(((1 + 2 / 3) / 2 + (1 / 2 + 2 / 3) / 2) / 2)
    assert found["macro_f1"] == pytest.approx((4 / 5 + 2 / 4) / 2)
    assert found["micro_f1"] == pytest.approx(6 / 9)
    assert found["subset_accuracy"] == 1 / 4


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("labels", [1, 5, 19])
def test_figures_equal_sklearn(labels, ties):
    target, probabilities = noisy(labels, 300, labels, ties)
    assert figures(target, probabilities) == pytest.approx(by_sklearn(target, probabilities), abs=1e-12)
    assert figures(target.astype(bool), probabilities.astype(np.float32))["map"] == pytest.approx(
        by_sklearn(target, probabilities)["map"], abs=1e-6
    )


def test_macro_map_is_the_one_of_sklearn_where_every_label_occurs():
    target, probabilities = noisy(1, 300, 6)
    expected = sk.average_precision_score(target, probabilities, average="macro")
    assert figures(target, probabilities)["map"] == pytest.approx(expected)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_weights_are_repeated_samples(ties, share):
    target, probabilities = noisy(3, 40, 4, ties, share)
    random = np.random.default_rng(0)
    counts = np.stack([*random.multinomial(40, np.full(40, 1 / 40), 20), np.eye(40, dtype=int)[7] * 40])
    found = _Weighed(target.astype(bool), probabilities)(counts)
    for row, weight in zip(found, counts, strict=True):
        repeated = np.repeat(np.arange(40), weight)
        by_repeating = figures(target[repeated], probabilities[repeated])
        assert dict(zip(NAMES, row, strict=True)) == pytest.approx(by_repeating, abs=1e-12, nan_ok=True)
        weighted = by_sklearn(target, probabilities, weight)
        assert by_repeating == pytest.approx(weighted, abs=1e-12, nan_ok=True)


def test_confusions_equal_sklearn():
    target, probabilities = noisy(2, 200, 7)
    expected = sk.multilabel_confusion_matrix(target, probabilities > 0.5)
    found = confusions(target, probabilities)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(
        confusions([[1, 0], [1, 0], [0, 1]], [[0.9, 0.9], [0.1, 0.1], [0.9, 0.9]]), [[[0, 1], [1, 1]], [[1, 1], [0, 1]]]
    )


def test_a_label_is_given_above_one_half():
    np.testing.assert_array_equal(decide([[0.5, 0.51, 0.0]]), [[False, True, False]])


def test_per_label_equals_sklearn_and_leaves_the_undefined_open():
    target = np.array([[1, 0, 0, 0], [1, 0, 1, 0], [0, 0, 1, 0]])
    probabilities = np.array([[0.9, 0.6, 0.2, 0.1], [0.3, 0.1, 0.1, 0.1], [0.7, 0.8, 0.2, 0.1]])
    rows = per_label(target, probabilities, ["a", "b", "c", "d"])
    precision, recall, f1, n = sk.precision_recall_fscore_support(target, probabilities > 0.5, zero_division=np.nan)
    for k, row in enumerate(rows):
        assert (row.n, row.predicted) == (n[k], (probabilities[:, k] > 0.5).sum())
        assert row.ua == (None if np.isnan(precision[k]) else pytest.approx(precision[k]))
        assert row.pa == (None if np.isnan(recall[k]) else pytest.approx(recall[k]))
        assert row.f1 == (None if row.n + row.predicted == 0 else pytest.approx(f1[k]))
        ap = sk.average_precision_score(target[:, k], probabilities[:, k]) if row.n else None
        assert row.ap == (None if ap is None else pytest.approx(ap))
        assert [[row.tn, row.fp], [row.fn, row.tp]] == confusions(target, probabilities)[k].tolist()
    assert [row.name for row in rows] == ["a", "b", "c", "d"]
    assert (rows[3].pa, rows[3].ua, rows[3].f1, rows[3].ap) == (None, None, None, None)


def test_per_label_wants_a_name_a_label():
    with pytest.raises(ValueError, match="zip"):
        per_label([[1, 0]], [[0.5, 0.5]], ["a"])


@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_are_those_of_resampling_samples_or_groups(grouped):
    target, probabilities = noisy(5, 200, 3)
    groups = np.repeat(np.arange(20), 10)
    probabilities = np.where(np.isin(groups, [3, 8, 11])[:, np.newaxis], 1 - probabilities, probabilities)
    found = estimate(target, probabilities, groups=groups if grouped else None, seed=1)
    units = [np.flatnonzero(groups == g) for g in range(20)] if grouped else [np.array([i]) for i in range(200)]
    random = np.random.default_rng(99)
    drawn = []
    for _ in range(600):
        chosen = np.concatenate([units[i] for i in random.integers(0, len(units), len(units))])
        drawn.append(list(figures(target[chosen], probabilities[chosen]).values()))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    for i, name in enumerate(NAMES):
        assert found[name].low == pytest.approx(low[i], abs=0.025), name
        assert found[name].high == pytest.approx(high[i], abs=0.025), name
        assert found[name].value == pytest.approx(figures(target, probabilities)[name])
    if grouped:
        alone = estimate(target, probabilities, seed=1)["micro_f1"]
        assert found["micro_f1"].high - found["micro_f1"].low > 1.5 * (alone.high - alone.low)


def test_chunks_do_not_change_the_figures(monkeypatch):
    target, probabilities = noisy(2, 60, 3)
    groups = np.arange(60) % 15
    whole = [estimate(target, probabilities, groups=g, seed=4) for g in (None, groups)]
    monkeypatch.setattr("fusionkit.estimates._MOST_NUMBERS", 700)
    chunked = [estimate(target, probabilities, groups=g, seed=4) for g in (None, groups)]
    for one, other in zip(whole, chunked, strict=True):
        for name in NAMES:
            assert (one[name].low, one[name].high) == pytest.approx((other[name].low, other[name].high), abs=1e-12)


def test_one_sample_and_one_group():
    assert estimate([[1, 0]], [[0.9, 0.1]]) == dict.fromkeys(NAMES, Estimate(1.0, 1.0, 1.0))
    assert estimate([[0, 0]], [[0.1, 0.1]])["map"] == Estimate(None)
    found = estimate(*noisy(2, 9, 3), groups=["p"] * 9)
    assert found["micro_f1"].value is not None
    assert found["micro_f1"].low is None


def test_compare_two_classifiers():
    target, first = noisy(8, 300, 5)
    random = np.random.default_rng(1)
    second = np.clip(first + random.normal(0, 0.25, first.shape), 0, 1)
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
    assert found.test == "sign-flip test of labels right"
    right = [((p > 0.5) == target).sum(1) for p in (first, second)]
    assert found.p_value == sign_flip_test(right[0] - right[1], seed=2) < 0.05
    assert found.verdict == "better"
    assert compare(target, second, first, seed=2).verdict == "worse"


def test_compare_flips_and_resamples_whole_groups():
    target, first = noisy(8, 300, 5)
    second = first.copy()
    second[:30] = 1 - second[:30]  # worse in one group of ten alone
    groups = np.repeat(np.arange(10), 30)
    alone, together = compare(target, first, second), compare(target, first, second, groups=groups)
    assert alone.verdict == "better"
    assert (together.groups, together.by_group) == (10, True)
    assert together.p_value == 1.0
    assert together.verdict == "no evidence"


def test_equal_predictions_differ_in_nothing():
    target, first = noisy(8, 50, 3)
    found = compare(target, first, first)
    assert found.p_value == 1.0
    assert found.differences["map"] == Estimate(0.0, 0.0, 0.0)
    assert found.verdict == "no evidence"


WRONG = {
    "[n, K]": ([1, 0], [0.2, 0.3]),
    r"\(2, 2\) and \(2, 3\)": ([[1, 0], [0, 1]], [[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]]),
    r"\(2, 0\)": (np.zeros((2, 0)), np.zeros((2, 0))),
    "no samples": (np.zeros((0, 3)), np.zeros((0, 3))),
    "0 or 1": ([[2, 0]], [[0.1, 0.2]]),
    "target is 0": ([[np.nan, 0]], [[0.1, 0.2]]),
    "from 0 to 1": ([[1, 0]], [[np.nan, 0.2]]),
    "numbers from 0": ([[1, 0]], [[0.1, 1.2]]),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_no_prediction_of_labels_is_refused(message):
    target, probabilities = WRONG[message]
    calls = (
        lambda: figures(target, probabilities),
        lambda: estimate(target, probabilities),
        lambda: compare(target, probabilities, probabilities),
        lambda: confusions(target, probabilities),
        lambda: per_label(target, probabilities, ["a", "b"]),
    )
    for call in calls:
        with pytest.raises(ValueError, match=message.replace("[n, K]", r"\[n, K\]")):
            call()
