"""Shifts of spectra, against values by hand."""

import numpy as np
import pytest
from fusionkit_plot_files.band_shift import BandShift

from fusionkit import InputSpec, RequestError
from fusionkit.testing import AugmentationSuite

INPUTS = {"spectrum": InputSpec((4,)), "image": InputSpec((3, 2, 2)), "soil": InputSpec((3,))}


class TestSuite(AugmentationSuite):
    component = "augmentation:band_shift"


class Drawn:
    """In the place of a generator: every draw is this number."""

    def __init__(self, value):
        self.value = value

    def uniform(self, low, high):
        assert (low, high) == (-1.5, 1.5)
        return self.value


@pytest.mark.parametrize(
    ("shift", "expected"),
    [(0.0, [8, 4, 0, 2]), (1.0, [8, 8, 4, 0]), (-1.0, [4, 0, 2, 2]), (0.25, [8, 5, 1, 1.5]), (-1.5, [2, 1, 2, 2])],
)
def test_values_between_bands_are_interpolated(shift, expected):
    sample = {"spectrum": np.array([8.0, 4.0, 0.0, 2.0]), "image": np.ones((3, 2, 2)), "soil": None}
    changed = BandShift(INPUTS, bands=1.5)(sample, Drawn(shift))
    assert changed["spectrum"].tolist() == expected
    assert changed["image"] is sample["image"]
    assert changed["soil"] is None


def test_what_it_shifts():
    assert BandShift(INPUTS).modalities == ["spectrum", "soil"]
    assert BandShift(INPUTS, modalities=["soil"]).modalities == ["soil"]
    with pytest.raises(RequestError, match="image is no vector; there are spectrum, soil"):
        BandShift(INPUTS, modalities=["image"])
    with pytest.raises(RequestError, match="there is none"):
        BandShift({"image": InputSpec((3, 2, 2))})
