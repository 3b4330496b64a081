"""Orders of axes and slices, against NumPy's own transposition and indexing."""

from __future__ import annotations

import numpy as np
import pytest
from fusionkit_datasets.layout import ONE_SAMPLE, SAMPLES, SCENE, LayoutError, lay_out, take

ARRAY = np.arange(4 * 5 * 6 * 7).reshape(4, 5, 6, 7)


def sample(array: np.ndarray, i: int, *what) -> np.ndarray:
    """Sample `i` through a layout."""
    layout = lay_out(array.shape, *what, default=SAMPLES)
    assert layout.samples is not None
    value = layout.arrange(np.moveaxis(array, layout.sample_axis, 0)[layout.samples[i]])
    assert value.shape == layout.shape
    return value


@pytest.mark.parametrize(
    ("shape", "expected"), [((4,), (1,)), ((4, 5), (5,)), ((4, 5, 6), (5, 6)), ((4, 5, 6, 7), (5, 6, 7))]
)
def test_default_is_samples_first(shape: tuple[int, ...], expected: tuple[int, ...]):
    array = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(sample(array, 2), array[2].reshape(expected))


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ("nhwc", ARRAY[2].transpose(2, 0, 1)),
        ("hwcn", ARRAY[..., 2].transpose(2, 0, 1)),
        ("cnwh", ARRAY[:, 2].transpose(0, 2, 1)),
    ],
)
def test_maps(axes: str, expected: np.ndarray):
    np.testing.assert_array_equal(sample(ARRAY, 2, axes), expected)


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ("nhw", ARRAY[0][2][None]),
        ("whn", ARRAY[0][:, :, 2].T[None]),
        ("ndt", ARRAY[0][2].T),
        ("ntc", ARRAY[0][2]),
        ("tnd", ARRAY[0][:, 2]),
    ],
)
def test_maps_of_one_channel_and_sequences(axes: str, expected: np.ndarray):
    np.testing.assert_array_equal(sample(ARRAY[0], 2, axes), expected)


def test_sequence_of_numbers():
    np.testing.assert_array_equal(sample(ARRAY[0, 0], 2, "nt"), ARRAY[0, 0, 2][:, None])


@pytest.mark.parametrize(
    ("axis", "index", "expected"),
    [
        (1, [0, 2], ARRAY[2][[0, 2]]),
        ("c", "1:3", ARRAY[2][1:3]),
        (1, "::-2", ARRAY[2][::-2]),
        (1, [3, 0, 1], ARRAY[2][[3, 0, 1]]),
        (1, [3, 1], ARRAY[2][[3, 1]]),
        (1, [2, 2], ARRAY[2][[2, 2]]),
        (1, -1, ARRAY[2][-1]),
        (3, [-1, 0], ARRAY[2][:, :, [-1, 0]]),
        ("n", "1:", ARRAY[3]),
        (0, [3, 1, 2], ARRAY[2]),
    ],
)
def test_slices_of_an_axis(axis: int | str, index: int | list[int] | str, expected: np.ndarray):
    if index == -1:
        expected = expected[None]  # the axis of the channels is gone, and a map has one
    np.testing.assert_array_equal(sample(ARRAY, 2, "nchw", axis, index), expected)


def test_an_even_step_copies_nothing():
    layout = lay_out(ARRAY.shape, None, 1, [1, 3], default=SAMPLES)
    assert np.shares_memory(layout.arrange(ARRAY[0]), ARRAY)


def test_five_axes_become_a_map_by_one_position():
    array = np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6)
    np.testing.assert_array_equal(sample(array, 1, "ntchw", "t", 2), array[1, 2])


def test_scenes_and_single_samples():
    scene = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(lay_out((2, 3, 4), None, default=SCENE).arrange(scene), scene.transpose(2, 0, 1))
    np.testing.assert_array_equal(lay_out((2, 3, 4), "chw", default=SCENE).arrange(scene), scene)
    np.testing.assert_array_equal(lay_out((3, 4), None, default=SCENE).arrange(scene[0]), scene[:1])
    assert lay_out((3, 4), None, default=ONE_SAMPLE).shape == (3, 4)


@pytest.mark.parametrize(
    ("shape", "what", "message"),
    [
        ((2, 3, 4, 5, 6), (None,), "no usual order"),
        ((2, 3), ("nchw",), "names 4 axes, the array has 2"),
        ((2, 3, 4), ("ndd",), "a letter twice"),
        ((2, 3, 4), ("chw",), "has no n"),
        ((2, 3, 4), ("nch",), "neither map, sequence nor vector"),
        ((2, 3, 4, 5), ("nthw",), "samples? of steps, rows, columns is neither"),
        ((2, 3, 4), ("ncd",), "c and d are the same"),
        ((2, 3), (None, 1, [3]), r"axis 1 has 3 positions \(0 to 2\), not 3"),
        ((2, 3), (None, 1, "1:5"), "goes beyond"),
        ((2, 3), (None, 1, "2:2"), "takes none"),
        ((2, 3), (None, 1, []), "empty"),
        ((2, 3), (None, 2, [0]), "no axis 2"),
        ((2, 3), (None, "t", [0]), "no axis 't'"),
        ((2, 3), (None, "n", 1), "single sample"),
    ],
)
def test_refused(shape: tuple[int, ...], what: tuple, message: str):
    with pytest.raises(LayoutError, match=message):
        lay_out(shape, *what, default=SAMPLES)


def test_take():
    np.testing.assert_array_equal(take(ARRAY, 1, "1:3"), ARRAY[:, 1:3])
    np.testing.assert_array_equal(take(ARRAY, 0, 2), ARRAY[2])
    assert take(ARRAY, None, None) is ARRAY
    with pytest.raises(LayoutError, match="no axis 'h'"):
        take(ARRAY, "h", 1)
