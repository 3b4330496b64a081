"""Maps with holes: the mask goes where the pixels go, and what stands under it changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from fusionkit_augmentations.band_dropout import BandDropout
from fusionkit_augmentations.cutmix import CutMix
from fusionkit_augmentations.dihedral import Dihedral
from fusionkit_augmentations.mixup import MixUp
from fusionkit_augmentations.modality_dropout import ModalityDropout
from fusionkit_augmentations.noise import Noise
from fusionkit_augmentations.scale import Scale

from fusionkit.contract import Augmentation
from fusionkit.flow import Batch, InputSpec, Task
from fusionkit.randomness import generator

INPUTS = {"hsi": InputSpec((20, 6, 6)), "dem": InputSpec((1, 4, 5))}
MASKS = {name: np.random.default_rng(3).random(spec.shape) < 0.3 for name, spec in INPUTS.items()}
MASKS["hsi"][:, 2] = MASKS["hsi"][4] = True


def masked(under: float) -> dict[str, np.ndarray | None]:
    """One sample, with this under its masks."""
    random = np.random.default_rng(4)
    sample = {name: random.normal(100, 5, spec.shape).astype(np.float32) for name, spec in INPUTS.items()}
    return {name: np.ma.MaskedArray(np.where(MASKS[name], under, value), MASKS[name]) for name, value in sample.items()}


@pytest.mark.parametrize("make", [Dihedral, Noise, Scale, BandDropout, ModalityDropout], ids=lambda made: made.__name__)
def test_what_stands_under_a_mask_changes_nothing(make: Callable[..., Augmentation]) -> None:
    augmentation = make(INPUTS)
    for draw in range(12):
        one, other = (augmentation(masked(under), generator(draw)) for under in (np.nan, -7.0))
        for name in INPUTS:
            if one[name] is None:
                assert other[name] is None
                continue
            assert isinstance(one[name], np.ma.MaskedArray)
            assert one[name].mask.any()
            np.testing.assert_array_equal(one[name].mask, other[name].mask)
            np.testing.assert_array_equal(one[name].filled(0), other[name].filled(0))
            assert np.isfinite(one[name].filled(0)).all()


def test_dihedral_moves_the_mask_with_the_pixels() -> None:
    numbers = np.arange(36.0).reshape(1, 6, 6)
    for draw in range(16):
        given = {"map": np.ma.MaskedArray(numbers, numbers % 5 == 0)}
        found = Dihedral({"map": InputSpec((1, 6, 6))})(given, generator(draw))["map"]
        np.testing.assert_array_equal(found.mask, found.data % 5 == 0)


@pytest.mark.parametrize("make", [Noise, Scale])
def test_values_change_as_they_do_without_a_mask_and_the_mask_stays(make: Callable[..., Augmentation]) -> None:
    found = make(INPUTS)(masked(np.nan), generator(1))
    for name, value in found.items():
        np.testing.assert_array_equal(value.mask, MASKS[name])
        ratio = value.compressed() / masked(np.nan)[name].compressed()
        assert (ratio != 1).any()
        assert ratio.min() > 0.8


def test_a_dropped_band_is_masked_where_its_neighbours_are() -> None:
    spec = InputSpec((3, 1, 4))
    values = np.array([[10.0, 10, 10, 10], [99, 99, 99, 99], [20, 20, 20, 20]])[:, None]
    mask = np.array([[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], bool)[:, None]
    augmentation = BandDropout({"map": spec}, probability=0.4, modalities=["map"])
    for draw in range(200):
        random = generator(draw)
        if (random.random(3) < 0.4).tolist() == [False, True, False]:
            found = augmentation({"map": np.ma.MaskedArray(values, mask)}, generator(draw))["map"]
            assert found[1, 0].tolist() == [15, None, None, None]
            np.testing.assert_array_equal(found.mask[[0, 2]], mask[[0, 2]])
            return
    raise AssertionError("the band in the middle was never dropped alone")


# Mixing of batches


def a_batch(under: float) -> Batch:
    """Two samples of 100 and 200, each with a hole of its own."""
    value = torch.stack([torch.full((2, 4, 4), 100.0), torch.full((2, 4, 4), 200.0)])
    valid = torch.ones(2, 2, 4, 4, dtype=torch.bool)
    valid[0, :, :2, :2] = valid[1, :, :2, 1:3] = valid[0, 1, 3] = False
    value[~valid] = under
    present = torch.ones(2, dtype=torch.bool)
    return Batch({"map": value}, {"map": present}, torch.arange(2), torch.arange(2), {"map": valid})


@pytest.mark.parametrize("make", [MixUp, CutMix])
def test_mixed_maps_have_the_values_of_whoever_was_measured(make: type[MixUp] | type[CutMix]) -> None:
    task = Task("classification", ("a", "b"), (1, 1), 2)
    mixing = make({"map": InputSpec((2, 4, 4))}, task, alpha=1.0)
    mixed = 0
    for draw in range(20):
        batch = a_batch(np.nan)
        found = mixing(batch, generator(draw))
        again = mixing(a_batch(5.0), generator(draw))
        assert torch.equal(found.valid["map"], again.valid["map"])
        value, valid = found.inputs["map"], found.valid["map"]
        assert torch.equal(value.where(valid, 0), again.inputs["map"].where(valid, 0))
        assert torch.isfinite(value.where(valid, 0)).all()
        if found.target[0, 0] == 1:  # its own partner
            assert torch.equal(valid, batch.valid["map"])
            continue
        mixed += 1
        whole, partner = batch.valid["map"][0], batch.valid["map"][1]
        assert (value[0][whole & ~partner & valid[0]] == 100).all()
        assert (value[0][~whole & partner & valid[0]] == 200).all()
        assert not valid[0][~whole & ~partner].any()
        if make is MixUp:
            share = found.target[0, 1]
            torch.testing.assert_close(value[0][whole & partner], (100 + 100 * share).expand((whole & partner).sum()))
            assert torch.equal(valid[0], whole | partner)
    assert mixed > 4


def test_a_hole_is_pasted_as_one() -> None:
    """Where a box lies on a whole cell, nothing of the sample under it is left."""
    task = Task("classification", ("a", "b"), (1, 1), 2)
    mixing = CutMix({"map": InputSpec((2, 4, 4))}, task)
    mixing.draw = lambda random: (0.5, lambda spec: np.outer([1, 1, 0, 0], [0, 1, 1, 0]))  # type: ignore[method-assign]
    batch = a_batch(np.nan)
    for draw in range(20):
        found = mixing(batch, generator(draw))
        if found.target[0, 0] != 1:
            assert not found.valid["map"][0, :, :2, 1:3].any()
            assert found.valid["map"][1, :, :2, 2].all()
            return
    raise AssertionError("nobody was mixed")
