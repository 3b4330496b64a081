"""What is made up for a task is measured like the targets and answers of that kind of task."""

from __future__ import annotations

import numpy as np
import pytest

from fusionkit.flow import TaskKind
from fusionkit.kinds import KINDS
from fusionkit.made_up import made_up
from fusionkit.testing.metrics import TASKS


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("samples", [1, 32])
def test_it_is_measured(kind: TaskKind, samples: int) -> None:
    target, answers = made_up(TASKS[kind], samples)
    assert len(target) == len(answers) == samples
    assert np.isfinite(answers).all()
    found = KINDS[kind].figures(target, answers)
    if samples > 1:
        assert all(np.isfinite(value) for value in found.values())
    again, _ = made_up(TASKS[kind], samples)
    assert np.array_equal(target, again)
    assert not np.array_equal(made_up(TASKS[kind], 32, seed=1)[1], made_up(TASKS[kind], 32)[1])


def test_boxes_have_an_area_within_the_image() -> None:
    for boxes in made_up(TASKS["grounding"], 32):
        assert ((boxes >= 0) & (boxes <= 1)).all()
        assert (boxes[:, :2] < boxes[:, 2:]).all()


def test_probabilities_of_classes_add_up_and_quantities_have_their_scale() -> None:
    _, answers = made_up(TASKS["classification"], 32)
    assert answers.sum(1) == pytest.approx(1)
    target, _ = made_up(TASKS["regression"], 500)
    assert target.mean(0) == pytest.approx([10, -3], abs=0.5)
    assert target.std(0) == pytest.approx([1, 5], rel=0.1)
