"""Figures of a grounding against torchvision, SciPy and counting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torchvision.ops import box_convert, box_iou

from fusionkit import grounding
from fusionkit.contract import Index
from fusionkit.errors import DataError
from fusionkit.headlines import HEADLINES
from fusionkit.kinds import KINDS

CORNERS = ("x1", "y1", "x2", "y2")
N = 60


def boxes(seed: int, n: int = N) -> np.ndarray:
    random = np.random.default_rng(seed)
    first = random.uniform(0, 0.6, (n, 2))
    return np.concatenate([first, first + random.uniform(0.1, 0.4, (n, 2))], axis=1)


def near(target: np.ndarray, spread: float, seed: int = 7) -> np.ndarray:
    """Boxes that are about right."""
    moved = (target + np.random.default_rng(seed).normal(0, spread, target.shape)).reshape(-1, 2, 2)
    return np.sort(moved, axis=1).clip(0, 1).reshape(-1, 4)


def by_torchvision(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return box_iou(torch.from_numpy(one), torch.from_numpy(other)).diagonal().numpy()


def test_iou_is_that_of_torchvision() -> None:
    target, answers = boxes(0), near(boxes(0), 0.1)
    np.testing.assert_allclose(grounding.iou(target, answers), by_torchvision(target, answers), atol=1e-12)
    assert grounding.iou([[0, 0, 0.5, 0.5]], [[0.5, 0, 1, 0.5]]).tolist() == [0]  # they touch
    assert grounding.iou([[0.2, 0.2, 0.2, 0.2]], [[0.2, 0.2, 0.2, 0.2]]).tolist() == [0]  # neither has an extent


def test_figures_are_counted() -> None:
    """Overlaps of 1, 0.5, 0.25 and 0, of boxes one above the other."""
    target = np.tile([0.0, 0, 1, 1], (4, 1))
    answers = np.array([[0, 0, 1, 1.0], [0, 0, 0.5, 1], [0, 0, 0.5, 0.5], [0.3, 0.3, 0.3, 0.9]])
    found = grounding.figures(target, answers)
    assert tuple(found) == HEADLINES["grounding"]
    assert found == {"acc_50": 0.5, "mean_iou": 1.75 / 4, "acc_25": 0.75, "acc_75": 0.25}
    assert all(type(value) is float for value in found.values())


def test_intervals_are_those_of_drawing_samples_or_groups() -> None:
    target, answers, groups = boxes(0), near(boxes(0), 0.06), np.arange(N) // 6
    overlap = by_torchvision(target, answers)
    random = np.random.default_rng(5)
    for held, drawn in (
        (None, [random.integers(0, N, N) for _ in range(4000)]),
        (groups, [(6 * random.integers(0, 10, 10)[:, None] + np.arange(6)).ravel() for _ in range(4000)]),
    ):
        found = grounding.estimate(target, answers, groups=held)
        for name, each in (("acc_50", overlap >= 0.5), ("mean_iou", overlap)):
            low, high = np.percentile([each[rows].mean() for rows in drawn], [2.5, 97.5])
            assert found[name].value == pytest.approx(each.mean())
            assert (found[name].low, found[name].high) == pytest.approx((low, high), abs=0.02)


def test_models_are_compared_by_what_they_find() -> None:
    target = boxes(0)
    first, second = near(target, 0.03), near(target, 0.08, seed=8)
    one, other = (by_torchvision(target, answers) >= 0.5 for answers in (first, second))
    found = grounding.compare(target, first, second)
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    assert only_first > only_second
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p_value == pytest.approx(min(1, 2 * binom.cdf(only_second, only_first + only_second, 0.5)))
    assert found.test == "exact McNemar"
    assert found.differences["acc_50"].value == pytest.approx(one.mean() - other.mean())
    assert found.verdict == "better"
    assert grounding.compare(target, second, first).verdict == "worse"
    assert grounding.compare(target, first, first).p_value == 1


def test_phrases_of_an_image_are_one_witness() -> None:
    """Ten phrases of a single image, found by the first model alone, prove little; of ten images much."""
    target = np.tile([0.0, 0, 1, 1], (20, 1))
    first, second = target.copy(), target.copy()
    first[10:], second[:] = [0, 0, 0.1, 0.1], [0, 0, 0.1, 0.1]
    by_image = grounding.compare(target, first, second, groups=np.array([0] * 10 + list(range(1, 11))))
    assert by_image.p_value == 1
    assert by_image.by_group
    assert grounding.compare(target, first, second, groups=np.arange(20)).p_value == pytest.approx(2 / 2**10)


@pytest.mark.parametrize(
    ("target", "answers", "problem"),
    [
        (boxes(0), boxes(0)[:3], "60 boxes and 3"),
        (boxes(0)[:, :3], boxes(0)[:, :3], r"boxes are \[n, 4\]"),
        (boxes(0), boxes(0)[:, [2, 1, 0, 3]], "left, top, right and bottom"),
        (boxes(0), np.full((N, 4), np.nan), "finite"),
        (boxes(0)[:0], boxes(0)[:0], "there are no samples"),
    ],
)
def test_what_is_no_box(target: np.ndarray, answers: np.ndarray, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        grounding.figures(target, answers)


# The kind of task


def test_models_learn_centre_and_size() -> None:
    kind = KINDS["grounding"]
    task = kind.task(CORNERS, boxes(0))
    encoded = torch.from_numpy(kind.encode(task, boxes(0)))
    expected = box_convert(torch.from_numpy(boxes(0)), "xyxy", "cxcywh")
    torch.testing.assert_close(encoded, expected.float())
    torch.testing.assert_close(kind.answer(task, encoded), torch.from_numpy(boxes(0)), rtol=0, atol=1e-6)


def test_any_answer_is_a_box_within_the_image() -> None:
    answers = KINDS["grounding"].answer(KINDS["grounding"].task(CORNERS, boxes(0)), torch.rand(500, 4)).numpy()
    assert answers.min() == 0
    assert answers.max() == 1
    assert (answers[:, :2] < answers[:, 2:]).all()


# Targets


def index(targets: np.ndarray) -> Index:
    return Index([f"s{i}" for i in range(len(targets))], targets, CORNERS[: targets.shape[1]], grounding=True)


def test_a_sample_without_a_box_is_unlabelled() -> None:
    targets = boxes(0, 3)
    targets[1, 2] = np.nan
    made = index(targets)
    assert made.task == "grounding"
    assert made.labelled.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ((0.2, 0.2, 0.1, 0.4), "1 targets are no boxes .* the first, of s2: 0.2, 0.2, 0.1, 0.4"),
        ((0.2, 0.2, 0.2, 0.4), "no boxes"),
        ((10, 20, 30, 40), "from 0 to 1"),
        ((-0.1, 0.2, 0.3, 0.4), "no boxes"),
    ],
)
def test_targets_that_are_no_boxes(box: tuple[float, ...], problem: str) -> None:
    targets = np.concatenate([boxes(0, 2), [box]])
    targets[0, 0] = np.nan
    with pytest.raises(DataError, match=problem):
        index(targets)


def test_a_box_is_four_quantities() -> None:
    with pytest.raises(DataError, match="four quantities: left, top, right, bottom; there are 3"):
        index(boxes(0)[:, :3])
