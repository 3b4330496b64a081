"""Windows cover the scene, and blending in blocks is a weighted mean over the whole."""

from __future__ import annotations

import numpy as np
import pytest

from fusionkit.mapping_grid import Axis, blend


@pytest.mark.parametrize(("length", "window", "stride"), [(10, 4, 2), (11, 4, 3), (4, 4, 1), (17, 5, 5), (9, 1, 1)])
def test_windows_stay_inside_and_leave_no_gap(length: int, window: int, stride: int) -> None:
    axis = Axis.of_windows(length, window, stride)
    assert axis.starts[0] == 0
    assert axis.starts[-1] == length - window
    assert np.diff(axis.starts).max(initial=0) <= stride
    np.testing.assert_array_equal(axis.middles, axis.starts + window / 2)
    span, weights = axis.over(0, length)
    assert span == slice(0, len(axis))
    assert (weights.sum(1) > 0).all()
    assert ((weights > 0).sum(0) == window).all()


def test_half_overlapping_windows_add_up_to_one() -> None:
    _, weights = Axis.of_windows(60, 20, 10).over(0, 60)
    np.testing.assert_allclose(weights[10:50].sum(1), 1)


def test_between_pixels_it_is_interpolated() -> None:
    axis = Axis.of_pixels(13, 4)
    assert axis.middles.tolist() == [0.5, 4.5, 8.5, 12.5]
    _, weights = axis.over(0, 13)
    heights = np.array([1.0, 3.0, -2.0, 5.0])
    np.testing.assert_allclose(weights @ heights, np.interp(np.arange(13), [0, 4, 8, 12], heights))
    np.testing.assert_allclose(Axis.of_pixels(5, 1).over(0, 5)[1], np.eye(5))


@pytest.mark.parametrize("stride", [1, 3, 5])
@pytest.mark.parametrize("make", [lambda n, s: Axis.of_windows(n, 7, s), Axis.of_pixels])
def test_parts_of_an_axis_are_those_of_the_whole(make, stride: int) -> None:
    axis = make(23, stride)
    _, whole = axis.over(0, 23)
    for start in range(23):
        for stop in range(start + 1, 24):
            span, weights = axis.over(start, stop)
            np.testing.assert_array_equal(weights, whole[start:stop, span])
            assert not np.delete(whole[start:stop], np.r_[span], axis=1).any()


def test_a_blend_is_the_weighted_mean_of_what_is_known() -> None:
    random = np.random.default_rng(0)
    answers = random.random((4, 3, 2)).astype(np.float32)
    answers[1, 2] = answers[3, 0] = np.nan
    rows, columns = random.random((6, 4)), random.random((5, 3))
    rows[5, [0, 1, 2]] = 0
    columns[4, 1:] = 0
    got = blend(answers, rows, columns)
    for h in range(6):
        for w in range(5):
            weights = np.outer(rows[h], columns[w]) * ~np.isnan(answers[..., 0])
            if weights.sum() == 0:
                assert np.isnan(got[:, h, w]).all()
            else:
                expected = np.nansum(answers * weights[..., None], axis=(0, 1)) / weights.sum()
                np.testing.assert_allclose(got[:, h, w], expected, rtol=1e-6)
    assert np.isnan(got[:, 5, 4]).all()
