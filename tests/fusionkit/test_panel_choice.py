"""Which samples are shown: groups by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fusionkit.panel_choice import drawn, groups, right
from fusionkit.predictions import Predictions


def made(task: str, target: list, answers: list) -> Predictions:
    ids = [str(i) for i in range(len(target))]
    return Predictions(ids, np.array(target), np.array(answers, dtype=float), task=task)  # type: ignore[arg-type]


def test_four_groups() -> None:
    target = [0, 0, 0, 1, 1]
    ours = made("classification", target, [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.9, 0.1], [0.6, 0.4]])
    theirs = made("classification", target, [[0.9, 0.1], [0.2, 0.8], [0.9, 0.1], [0.9, 0.1], [0.8, 0.2]])
    assert [(title, rows.tolist()) for title, rows in groups(ours, theirs)] == [
        ("Fusion gains: ours right, the baseline wrong", [1]),
        ("Fusion loses: ours wrong, the baseline right", [2]),
        ("Both right", [0]),
        ("Both wrong", [3, 4]),
    ]
    assert [(title, rows.tolist()) for title, rows in groups(ours, None)] == [("Right", [0, 1]), ("Wrong", [2, 3, 4])]


@pytest.mark.parametrize(
    ("task", "target", "answers", "expected"),
    [
        ("multilabel", [[1, 0], [1, 1]], [[0.9, 0.1], [0.9, 0.1]], [True, False]),
        ("regression", [[0.0], [1.0], [2.0]], [[0.1], [5.0], [2.2]], [True, False, True]),
        ("grounding", [[0, 0, 1, 1], [0, 0, 1, 1]], [[0, 0, 1, 0.5], [0, 0, 0.4, 1]], [True, False]),
    ],
)
def test_what_is_right(task: str, target: list, answers: list, expected: list[bool]) -> None:
    assert right(made(task, target, answers)).tolist() == expected


def test_a_retrieval_goes_by_rank() -> None:
    """Twelve things on a circle; one description points at its own, one at the next, one away from all."""
    angle = np.arange(12) * 2 * np.pi / 12
    first = np.stack([np.cos(angle), np.sin(angle)], 1)
    second = first.copy()
    second[1] = first[2]
    second[5] = -first[5]
    ours = made("retrieval", [[i, -1] for i in range(12)], np.concatenate([first, second], 1).tolist())
    found = dict(groups(ours, None))
    assert found["Found first"].tolist() == [0, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert found["Found among the first ten"].tolist() == [1]
    assert found["Not found among the first ten"].tolist() == [5]


def test_the_seed_draws() -> None:
    rows = np.arange(100, 200)
    one = drawn(rows, 4, 0, "Right")
    assert one == sorted(one) == drawn(rows, 4, 0, "Right")
    assert len(set(one)) == 4
    assert set(one) <= set(rows.tolist())
    assert {tuple(drawn(rows, 4, seed, title)) for seed in range(3) for title in "ab"} >= {
        tuple(drawn(rows, 4, 1, "a"))
    }
    assert len({tuple(drawn(rows, 4, seed, title)) for seed in range(3) for title in "ab"}) == 6
    assert drawn(rows[:2], 4, 0, "Right") == [100, 101]
