"""Shifts of visits in time."""

from collections import Counter

import numpy as np
import pytest
from fusionkit_augmentations.time_shift import TimeShift

from fusionkit.errors import RequestError
from fusionkit.flow import InputSpec


def test_keeps_the_contract(check_augmentation, inputs):
    check_augmentation(TimeShift(inputs), {"visits"})


def test_every_shift_within_the_limits(draws):
    counts = np.zeros((7, 26, 24), np.uint16)
    counts[3, 0, 23] = 5
    seen = Counter()
    for i in range(1000):
        after = TimeShift({"v": InputSpec((7, 26, 24), counts=True)}, hours=1, weeks=2)({"v": counts}, draws(i))["v"]
        assert after.dtype == np.uint16
        assert after.sum() == 5
        seen[tuple(np.argwhere(after)[0])] += 1
    assert set(seen) == {(3, week, hour) for week in (24, 25, 0, 1, 2) for hour in (22, 23, 0)}
    assert min(seen.values()) > 30  # 67 expected


@pytest.mark.parametrize(("options", "axis"), [({"hours": 3, "weeks": 0}, 2), ({"hours": 0, "weeks": 3}, 1)])
def test_one_axis_alone(draws, options, axis):
    counts = np.random.default_rng(0).poisson(2.0, (7, 26, 24))
    for i in range(20):
        after = TimeShift({"v": InputSpec((7, 26, 24), counts=True)}, **options)({"v": counts}, draws(i))["v"]
        assert any(np.array_equal(after, np.roll(counts, shift, axis)) for shift in range(-3, 4))


def test_all_cubes_move_alike(draws):
    spec = InputSpec((7, 26, 24), counts=True)
    counts = np.random.default_rng(0).poisson(2.0, (7, 26, 24))
    for i in range(10):
        after = TimeShift({"in": spec, "out": spec})({"in": counts, "out": 2 * counts}, draws(i))
        assert np.array_equal(2 * after["in"], after["out"])


def test_what_does_not_fit_is_told(inputs):
    with pytest.raises(RequestError, match="both 0"):
        TimeShift(inputs, hours=0, weeks=0)
    with pytest.raises(RequestError, match="cubes of counts, weekday x week x hour, and hsi is"):
        TimeShift(inputs, modalities=["hsi"])
