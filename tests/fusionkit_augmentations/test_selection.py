"""Augmentations of numbers leave text alone."""

from __future__ import annotations

import numpy as np
import pytest
from fusionkit_augmentations.band_dropout import BandDropout
from fusionkit_augmentations.cutmix import CutMix
from fusionkit_augmentations.mixup import MixUp
from fusionkit_augmentations.noise import Noise
from fusionkit_augmentations.scale import Scale

from fusionkit.errors import RequestError
from fusionkit.flow import InputSpec, Task

INPUTS = {"image": InputSpec((20, 8, 8)), "text": InputSpec((), text=True)}
TOKENS = InputSpec((9,), ragged=True, text=True, vocabulary=50)


@pytest.mark.parametrize("augmentation", [BandDropout, Noise, Scale])
def test_text_is_left_alone(augmentation, draws):
    sample = {"image": np.random.default_rng(0).random((20, 8, 8)), "text": np.array("a field")}
    after = augmentation(INPUTS)(sample, draws(0))
    assert after["text"] is sample["text"]
    assert not np.array_equal(after["image"], sample["image"])
    with pytest.raises(RequestError, match="and text is text"):
        augmentation(INPUTS, modalities=["text"])


@pytest.mark.parametrize("mixing", [MixUp, CutMix])
def test_text_is_not_mixed(mixing):
    with pytest.raises(RequestError, match=f"{mixing.__name__} mixes values, and text is text"):
        mixing(INPUTS | {"text": TOKENS}, Task("classification", ("a", "b"), (1, 1), 2))
