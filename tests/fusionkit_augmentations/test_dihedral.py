"""Flips and quarter turns."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from fusionkit_augmentations.dihedral import Dihedral

from fusionkit.errors import RequestError
from fusionkit.flow import InputSpec


def test_keeps_the_contract(check_augmentation, inputs):
    check_augmentation(Dihedral(inputs), {"hsi", "rgb", "dem"})
    check_augmentation(Dihedral(inputs, modalities=["hsi"]), {"hsi"})


def eight(image: np.ndarray) -> list[bytes]:
    """All symmetries of the square, as NumPy's own functions make them."""
    turns = [np.rot90(image, k, axes=(-2, -1)) for k in range(4)]
    return [x.tobytes() for x in [*turns, *(np.flip(turn, -1) for turn in turns)]]


def test_all_eight_symmetries_and_equally_often(draws):
    image = np.arange(9).reshape(1, 3, 3)
    augmentation = Dihedral({"x": InputSpec((1, 3, 3))})
    seen = Counter(augmentation({"x": image}, draws(i))["x"].tobytes() for i in range(1600))
    assert set(seen) == set(eight(image))
    assert min(seen.values()) > 130  # 200 expected; 5 deviations of sqrt(1600 / 8 * 7 / 8) are 66


def test_rectangles_keep_their_shape(draws):
    image = np.arange(6).reshape(1, 2, 3)
    augmentation = Dihedral({"x": InputSpec((1, 2, 3))})
    seen = {augmentation({"x": image}, draws(i))["x"].tobytes() for i in range(200)}
    expected = [image, image[:, ::-1], image[:, :, ::-1], np.rot90(image, 2, axes=(1, 2))]
    assert seen == {x.tobytes() for x in expected}


def test_one_rectangle_binds_all_the_others(draws):
    augmentation = Dihedral({"x": InputSpec((1, 2, 3)), "y": InputSpec((1, 3, 3))})
    sample = {"x": np.zeros((1, 2, 3)), "y": np.arange(9).reshape(1, 3, 3)}
    assert len({augmentation(sample, draws(i))["y"].tobytes() for i in range(200)}) == 4


def test_maps_of_one_place_stay_aligned(draws):
    """A fine map and a coarse one of the same ground: the coarse one is still the mean of the fine one's blocks."""
    fine = np.random.default_rng(0).random((2, 6, 6))

    def coarse(x):
        return x.reshape(2, 3, 2, 3, 2).mean((2, 4))

    augmentation = Dihedral({"fine": InputSpec((2, 6, 6)), "coarse": InputSpec((2, 3, 3))})
    for i in range(30):
        after = augmentation({"fine": fine, "coarse": coarse(fine)}, draws(i))
        np.testing.assert_allclose(coarse(after["fine"]), after["coarse"])


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        (["hsj"], "no modality 'hsj'; did you mean 'hsi'"),
        (["visits"], "changes maps C x H x W, and visits is 7 x 26 x 24"),
        (["text"], "and text is 9 x 4"),
        ([], "the list of modalities is empty"),
    ],
)
def test_what_does_not_fit_is_told(inputs, modalities, message):
    with pytest.raises(RequestError, match=message):
        Dihedral(inputs, modalities=modalities)


def test_nothing_to_change_is_told():
    with pytest.raises(RequestError, match="finds none to change by default among a 4"):
        Dihedral({"a": InputSpec((4,))})
