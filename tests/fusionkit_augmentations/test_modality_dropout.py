"""Modalities left out at random."""

import numpy as np
import pytest
from fusionkit_augmentations.modality_dropout import ModalityDropout

from fusionkit.errors import RequestError
from fusionkit.flow import InputSpec

INPUTS = {"image": InputSpec((3, 4, 4)), "lidar": InputSpec((1, 2, 2)), "text": InputSpec((5,))}


def samples(augmentation, count, **changed):
    whole = {name: np.ones(spec.shape) for name, spec in INPUTS.items()} | changed
    return [augmentation(whole, np.random.default_rng(seed)) for seed in range(count)]


def absent(sample):
    return {name for name, value in sample.items() if value is None}


def test_each_modality_is_left_out_as_often_as_stated():
    found = samples(ModalityDropout(INPUTS, probability={"image": 0.5, "lidar": 0.1}), 2000)
    shares = {name: np.mean([sample[name] is None for sample in found]) for name in INPUTS}
    assert shares["text"] == 0
    assert abs(shares["image"] - 0.5) < 0.04
    assert abs(shares["lidar"] - 0.1) < 0.03
    both = np.mean([absent(sample) == {"image", "lidar"} for sample in found])
    assert abs(both - 0.05) < 0.02  # one by one, not together


def test_one_modality_always_stays():
    found = samples(ModalityDropout(INPUTS, probability=1.0), 300)
    assert {len(absent(sample)) for sample in found} == {2}
    stays = [(set(INPUTS) - absent(sample)).pop() for sample in found]
    assert min(stays.count(name) for name in INPUTS) > 60


def test_what_is_absent_already_counts():
    """A sample of a single modality keeps it, and so does a baseline, which reads one alone."""
    augmentation = ModalityDropout(INPUTS, probability=1.0)
    for sample in samples(augmentation, 20, image=None, text=None):
        assert absent(sample) == {"image", "text"}
    assert list(augmentation({"text": np.ones(5)}, np.random.default_rng(0))) == ["text"]


def test_the_sample_given_is_left_alone():
    whole = {name: np.ones(spec.shape) for name, spec in INPUTS.items()}
    ModalityDropout(INPUTS, probability=1.0)(whole, np.random.default_rng(0))
    assert all(value is not None for value in whole.values())


def test_names_are_known():
    with pytest.raises(RequestError, match="there is no modality 'imagee'; did you mean 'image'"):
        ModalityDropout(INPUTS, probability={"imagee": 0.5})
