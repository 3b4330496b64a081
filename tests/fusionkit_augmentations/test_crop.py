"""Random windows of the ground: the same of all maps, at the place and values that SciPy's interpolation gives."""

from __future__ import annotations

import numpy as np
import pytest
from fusionkit_augmentations.crop import Crop
from scipy.ndimage import map_coordinates

from fusionkit.contract import Sample
from fusionkit.errors import RequestError
from fusionkit.flow import InputSpec


def test_keeps_the_contract(check_augmentation, inputs):
    check_augmentation(Crop(inputs), {"hsi", "rgb", "dem"})
    check_augmentation(Crop(inputs, modalities=["rgb"], padding=0.2), {"rgb"})


SIZES = {"fine": (40, 60), "middle": (20, 30), "coarse": (12, 12)}
INPUTS = {name: InputSpec((2, *size)) for name, size in SIZES.items()}


def grounds() -> Sample:
    """Maps of one ground at three resolutions that hold where each pixel's middle lies: row and column, as shares."""
    return {
        name: np.stack(np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij"))
        for name, (height, width) in SIZES.items()
    }


def window(places: np.ndarray) -> list[float]:
    """Top, left, height and width of the window that a cut map of places shows, by lines through its inner pixels."""
    found = []
    for values in (places[0, :, places.shape[2] // 2], places[1, places.shape[1] // 2]):
        shares = (np.arange(len(values)) + 0.5) / len(values)
        inner = slice(len(values) // 4, -(len(values) // 4))
        slope, start = np.polyfit(shares[inner], values[inner], 1)
        found.append((start, slope))
    return [found[0][0], found[1][0], found[0][1], found[1][1]]


def test_all_maps_show_the_same_window_whatever_their_resolution(draws):
    augmentation, windows = Crop(INPUTS, smallest=0.4), []
    for i in range(300):
        after = augmentation(grounds(), draws(i))
        shown = {name: window(places) for name, places in after.items()}
        np.testing.assert_allclose(shown["middle"], shown["fine"], atol=1e-9)
        np.testing.assert_allclose(shown["coarse"], shown["fine"], atol=1e-9)
        windows.append(shown["fine"])
    top, left, height, width = np.array(windows).T
    np.testing.assert_allclose(height, width)
    assert 0.4 <= height.min() < 0.42
    assert 0.98 < height.max() <= 1
    for start in (top, left):
        assert start.min() >= 0
        assert (start + height).max() <= 1 + 1e-9
        place = start / (1 - height)  # among all where the window fits
        assert abs(place.mean() - 0.5) < 0.06
        np.testing.assert_allclose(place.std(), 12**-0.5, rtol=0.1)
    assert abs(np.corrcoef(top / (1 - height), left / (1 - width))[0, 1]) < 0.2


@pytest.mark.parametrize(("order", "nearest"), [(1, None), (0, ["x"])])
def test_values_are_those_of_scipy_beyond_the_border_too(draws, order, nearest):
    """`reflect` of SciPy is the reflection about the border."""
    image, outside = np.random.default_rng(0).random((3, 9, 14)), 0
    spec, places = InputSpec((3, 9, 14)), InputSpec((2, 40, 60))
    augmentation = Crop({"places": places, "x": spec}, smallest=0.5, padding=0.3, nearest=nearest)
    for i in range(60):
        after = augmentation({"places": grounds()["fine"], "x": image}, draws(i))
        random = draws(i)
        side = random.uniform(0.5, 1)
        top, left = random.uniform(-0.3, 1.3 - side, 2)
        outside += top < 0 or left < 0 or max(top, left) + side > 1
        rows = (top + side * (np.arange(9) + 0.5) / 9) * 9 - 0.5
        columns = (left + side * (np.arange(14) + 0.5) / 14) * 14 - 0.5
        grid = np.meshgrid(rows, columns, indexing="ij")
        expected = np.stack([map_coordinates(band, grid, order=order, mode="reflect") for band in image])
        np.testing.assert_allclose(after["x"], expected, atol=1e-9)
    assert outside > 20


def test_a_window_of_full_size_only_moves(draws):
    augmentation = Crop(INPUTS, smallest=1.0, padding=0.1)
    for i in range(20):
        top, left, height, width = window(augmentation(grounds(), draws(i))["fine"])
        np.testing.assert_allclose([height, width], 1)
        assert max(abs(top), abs(left)) <= 0.1


def test_types_stay_and_integers_are_rounded(draws):
    image = np.random.default_rng(0).integers(0, 256, (3, 8, 8)).astype(np.uint8)
    inputs = {name: InputSpec((3, 8, 8)) for name in ("bytes", "numbers", "long")}
    sample = {"bytes": image, "numbers": image.astype(np.float64), "long": image.astype(np.int32) + 2**24}
    for i in range(20):
        after = Crop(inputs)(sample, draws(i))
        assert after["bytes"].dtype == np.uint8
        assert np.array_equal(after["bytes"], np.rint(after["numbers"].astype(np.float32)))
        assert np.array_equal(after["long"] - 2**24, np.rint(after["numbers"]))


def test_categories_stay_categories(draws):
    image = np.random.default_rng(0).choice([0, 7, 200], (1, 8, 8)).astype(np.uint8)
    augmentation = Crop({"x": InputSpec((1, 8, 8))}, nearest=["x"])
    for i in range(20):
        assert set(np.unique(augmentation({"x": image}, draws(i))["x"])) <= {0, 7, 200}


def test_a_mask_is_cut_alike_and_what_is_under_it_plays_no_part(draws):
    """Missing is the ground left of the middle: there are as many pixels missing as the window has of that."""
    seen = 0
    for i in range(40):
        masked = {name: np.ma.MaskedArray(v.copy(), np.stack([v[1] < 0.5] * 2)) for name, v in grounds().items()}
        clean = Crop(INPUTS, smallest=0.4)(grounds(), draws(i))
        for value in masked.values():
            value.data[value.mask] = np.nan
        after = Crop(INPUTS, smallest=0.4)(masked, draws(i))
        for name, value in after.items():
            mask = np.ma.getmaskarray(value)
            step = 1 / SIZES[name][1]
            np.testing.assert_array_equal(mask[0], mask[1])
            sure = np.abs(clean[name][1] - 0.5) > step
            np.testing.assert_array_equal(mask[0][sure], clean[name][1][sure] < 0.5)
            whole = clean[name][1] > 0.5 + step  # no missing pixel nearby
            np.testing.assert_allclose(value.data[:, whole], clean[name][:, whole], atol=1e-9)
            assert (value.data[~mask] <= 1).all()
            seen += mask.any() and not mask.all()
    assert seen > 20


def test_each_entry_of_a_recipe_draws_a_window_of_its_own(draws):
    one, other = Crop(INPUTS, modalities=["fine", "middle"]), Crop(INPUTS, modalities=["coarse"])
    apart = []
    for i in range(50):
        random = draws(i)
        after = other(one(grounds(), random), random)
        shown = {name: window(places) for name, places in after.items()}
        np.testing.assert_allclose(shown["middle"], shown["fine"], atol=1e-9)
        apart.append((shown["coarse"][2], shown["fine"][2]))
    assert abs(np.corrcoef(np.transpose(apart))[0, 1]) < 0.4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": ["visits"]}, "crop changes maps C x H x W, and visits is 7 x 26 x 24"),
        ({"modalities": ["rgd"]}, "no modality 'rgd'; did you mean 'rgb'"),
        ({"nearest": ["vector"]}, "vector is in `nearest` and not among the modalities"),
        ({"smallest": 1.0}, "every window is the whole map"),
    ],
)
def test_what_does_not_fit_is_told(inputs, options, message):
    with pytest.raises(RequestError, match=message):
        Crop(inputs, **options)
