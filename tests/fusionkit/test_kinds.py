"""What each kind of task means, against scikit-learn and SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from sklearn import metrics as sk
from sklearn.preprocessing import StandardScaler

from fusionkit.errors import DataError
from fusionkit.flow import Task
from fusionkit.headlines import HEADLINES
from fusionkit.kinds import KINDS

RANDOM = np.random.default_rng(0)
N = 80
NAMES = ("a", "b", "c")
TARGETS: dict[str, np.ndarray] = {
    "classification": RANDOM.integers(0, 3, N),
    "multilabel": RANDOM.integers(0, 2, (N, 3)),
    "regression": RANDOM.normal((300.0, -2.0, 1e-4), (20.0, 0.5, 1e-5), (N, 3)),
}
LOGITS = torch.from_numpy(RANDOM.normal(size=(N, 3)).astype(np.float32))


def a_task(name: str) -> Task:
    return KINDS[name].task(NAMES, TARGETS[name])


def answers_of(name: str, seed: int = 0) -> np.ndarray:
    """Answers that are about right."""
    noise = np.random.default_rng(seed).normal(size=(N, 3))
    if name == "regression":
        return TARGETS[name] + noise * np.array([10, 0.3, 1e-5])
    known = np.eye(3)[TARGETS[name]] if name == "classification" else TARGETS[name]
    raw = 2 * known - 1 + noise
    return softmax(raw, 1) if name == "classification" else expit(raw)


def by_sklearn(name: str, target: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    if name == "classification":
        called = answers.argmax(1)
        return {
            "oa": sk.accuracy_score(target, called),
            "aa": sk.balanced_accuracy_score(target, called),
            "kappa": sk.cohen_kappa_score(target, called),
            "macro_f1": sk.f1_score(target, called, average="macro"),
            "weighted_f1": sk.f1_score(target, called, average="weighted"),
        }
    if name == "multilabel":
        given = answers > 0.5
        return {
            "map": sk.average_precision_score(target, answers),
            "macro_f1": sk.f1_score(target, given, average="macro"),
            "micro_f1": sk.f1_score(target, given, average="micro"),
            "subset_accuracy": sk.accuracy_score(target, given),
        }
    return {
        "rmse": sk.root_mean_squared_error(target, answers),
        "mae": sk.mean_absolute_error(target, answers),
        "r2": sk.r2_score(target, answers),
    }


# The task


def test_what_is_known_of_the_training_samples() -> None:
    classes = KINDS["classification"].task(NAMES, np.array([0, 2, 2, 0, 2]))
    assert classes == Task("classification", NAMES, (2, 0, 3), 5)
    labels = KINDS["multilabel"].task(NAMES, np.array([[1, 0, 1], [1, 0, 0]]))
    assert labels == Task("multilabel", NAMES, (2, 0, 1), 2)
    quantities = KINDS["regression"].task(("t",), np.array([[1.0], [2.0], [6.0]]))
    assert (quantities.kind, quantities.class_names, quantities.class_counts) == ("regression", ("t",), ())
    assert quantities.samples == 3
    assert quantities.mean == (3.0,)
    assert quantities.std == pytest.approx((np.sqrt((4 + 1 + 9) / 3),))


@pytest.mark.parametrize("value", [3.0, 0.1, 300.15, 0.0])
def test_a_quantity_that_is_the_same_everywhere_is_refused(value: float) -> None:
    """Though rounding may leave it a tiny deviation."""
    targets = np.column_stack([np.arange(7.0), np.full(7, value)])
    with pytest.raises(DataError, match=r"^moisture is the same in all training samples: nothing can be learned$"):
        KINDS["regression"].task(("height", "moisture"), targets)


def test_a_quantity_that_varies_little_is_not() -> None:
    targets = 1e6 + 1e-3 * np.arange(9.0)[:, None]
    assert KINDS["regression"].task(("t",), targets).std == pytest.approx((1e-3 * np.arange(9.0).std(),), rel=1e-6)


# Targets and answers


def test_targets_as_losses_are_given_them() -> None:
    classes = KINDS["classification"].encode(a_task("classification"), TARGETS["classification"])
    assert classes.dtype == np.int64
    np.testing.assert_array_equal(classes, TARGETS["classification"])
    labels = KINDS["multilabel"].encode(a_task("multilabel"), TARGETS["multilabel"])
    assert labels.dtype == np.float32
    np.testing.assert_array_equal(labels, TARGETS["multilabel"])
    quantities = KINDS["regression"].encode(a_task("regression"), TARGETS["regression"])
    assert quantities.dtype == np.float32
    np.testing.assert_allclose(quantities, StandardScaler().fit_transform(TARGETS["regression"]), atol=1e-6)


def test_test_targets_are_scaled_by_the_training_samples() -> None:
    task = KINDS["regression"].task(("t",), np.array([[0.0], [4.0]]))
    np.testing.assert_array_equal(KINDS["regression"].encode(task, np.array([[8.0], [2.0]])), [[3], [0]])


def test_unknown_quantities_stay_unknown() -> None:
    task = a_task("regression")
    encoded = KINDS["regression"].encode(task, np.full((2, 3), np.nan))
    assert np.isnan(encoded).all()


def test_answers_of_classes_and_labels_are_probabilities() -> None:
    for name, expected in (("classification", softmax(LOGITS.numpy(), 1)), ("multilabel", expit(LOGITS.numpy()))):
        found = KINDS[name].answer(a_task(name), LOGITS)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
        half = KINDS[name].answer(a_task(name), LOGITS.bfloat16())
        assert half.dtype == torch.float32
        assert KINDS[name].answer(a_task(name), 1e4 * LOGITS).isfinite().all()


def test_quantities_come_back_in_their_own_unit() -> None:
    kind, task = KINDS["regression"], a_task("regression")
    encoded = torch.from_numpy(kind.encode(task, TARGETS["regression"]))
    back = kind.answer(task, encoded)
    assert back.dtype == torch.float64
    np.testing.assert_allclose(back.numpy(), TARGETS["regression"], rtol=1e-6)
    np.testing.assert_allclose(kind.answer(task, torch.zeros(1, 3)).numpy(), TARGETS["regression"].mean(0)[None])


# Figures


@pytest.mark.parametrize("name", TARGETS)
def test_figures_are_those_of_scikit_learn(name: str) -> None:
    target, answers = TARGETS[name], answers_of(name)
    found = KINDS[name].figures(target, answers)
    assert tuple(found) == HEADLINES[name]
    assert found == pytest.approx(by_sklearn(name, target, answers))
    assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize("name", TARGETS)
def test_estimates_hold_the_figures_in_their_intervals(name: str) -> None:
    target, answers = TARGETS[name], answers_of(name)
    alone = KINDS[name].estimate(target, answers, seed=3)
    groups = KINDS[name].estimate(target, answers, groups=np.arange(N) // 8, seed=3)
    for figure, value in by_sklearn(name, target, answers).items():
        for found in (alone[figure], groups[figure]):
            assert found.value == pytest.approx(value)
            assert found.low is not None
            assert found.high is not None
            assert found.low < value < found.high
        assert (alone[figure].low, alone[figure].high) != (groups[figure].low, groups[figure].high)
    assert KINDS[name].estimate(target, answers, seed=3) == alone


@pytest.mark.parametrize("name", TARGETS)
def test_a_comparison_is_of_the_same_samples(name: str) -> None:
    target, first = TARGETS[name], answers_of(name)
    second = first[RANDOM.permutation(N)]  # the answers to other samples
    found = KINDS[name].compare(target, first, second, seed=1)
    one, other = by_sklearn(name, target, first), by_sklearn(name, target, second)
    for figure in HEADLINES[name]:
        assert found.differences[figure].value == pytest.approx(one[figure] - other[figure])
    assert found.verdict == "better"
    assert KINDS[name].compare(target, second, first, seed=1).verdict == "worse"
    grouped = KINDS[name].compare(target, first, second, groups=np.arange(N) // 8, seed=1)
    assert grouped.groups == 10


def test_details_and_counts_of_classes() -> None:
    target, answers = TARGETS["classification"], answers_of("classification")
    counts = KINDS["classification"].counts(target, answers)
    np.testing.assert_array_equal(counts, sk.confusion_matrix(target, answers.argmax(1)))
    ua, pa, f1, n = sk.precision_recall_fscore_support(target, answers.argmax(1))
    rows = KINDS["classification"].details(target, answers, NAMES)
    assert [row.name for row in rows] == list(NAMES)
    assert [row.ua for row in rows] == pytest.approx(ua)
    assert [row.pa for row in rows] == pytest.approx(pa)
    assert [row.f1 for row in rows] == pytest.approx(f1)
    assert [row.n for row in rows] == n.tolist()


def test_details_and_counts_of_labels() -> None:
    target, answers = TARGETS["multilabel"], answers_of("multilabel")
    counts = KINDS["multilabel"].counts(target, answers)
    np.testing.assert_array_equal(counts, sk.multilabel_confusion_matrix(target, answers > 0.5))
    rows = KINDS["multilabel"].details(target, answers, NAMES)
    assert [row.ap for row in rows] == pytest.approx(sk.average_precision_score(target, answers, average=None))
    assert [row.n for row in rows] == target.sum(0).tolist()


def test_details_of_quantities() -> None:
    target, answers = TARGETS["regression"], answers_of("regression")
    assert KINDS["regression"].counts(target, answers) is None
    rows = KINDS["regression"].details(target, answers, NAMES)
    assert [row.name for row in rows] == list(NAMES)
    rmse = sk.root_mean_squared_error(target, answers, multioutput="raw_values")
    assert [row.rmse.value for row in rows] == pytest.approx(rmse)
    assert [row.r2.value for row in rows] == pytest.approx(sk.r2_score(target, answers, multioutput="raw_values"))
    assert [row.bias.value for row in rows] == pytest.approx((answers - target).mean(0))


@pytest.mark.parametrize("name", TARGETS)
def test_the_names_are_known(name: str) -> None:
    kind: Any = KINDS[name]
    assert kind.name == name == a_task(name).kind
