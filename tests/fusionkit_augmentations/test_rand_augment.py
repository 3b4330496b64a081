"""RandAugment: torchvision's own, drawn by the sample's key."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fusionkit_augmentations.rand_augment import GEOMETRIC, RandAugment
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from fusionkit.contract import Dataset, Index, Sample
from fusionkit.errors import RequestError
from fusionkit.flow import InputSpec
from fusionkit.loading import Batches, Samples

RGB = {"rgb": InputSpec((3, 12, 12))}


def test_keeps_the_contract(check_augmentation, inputs):
    check_augmentation(RandAugment(inputs), {"rgb"})
    check_augmentation(RandAugment(inputs, geometric=True), {"rgb"})
    check_augmentation(RandAugment(inputs, range=[0.0, 300.0]), {"rgb"})


def test_equals_torchvision_and_leaves_its_generator_alone(sample, draws):
    theirs, moved = v2.RandAugment(3, 12), 0
    for i in range(40):
        torch.manual_seed(i)
        before = torch.get_rng_state()
        after = RandAugment(RGB, operations=3, magnitude=12, geometric=True)(sample, draws(i))["rgb"]
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(int(draws(i).integers(2**63)))
        expected = theirs(torch.from_numpy(sample["rgb"].copy())).numpy()
        assert np.array_equal(after, expected)
        moved += not np.array_equal(after, sample["rgb"])
    assert moved > 30


def test_no_pixel_moves_unless_asked(draws):
    """What is the same left and right stays so; and a shear, a shift or a turn would show."""
    half = np.random.default_rng(0).integers(0, 256, (3, 12, 6)).astype(np.uint8)
    image = np.concatenate([half, half[..., ::-1]], 2)
    lopsided = {False: 0, True: 0}
    for geometric in lopsided:
        augmentation = RandAugment(RGB, geometric=geometric)
        for i in range(150):
            after = augmentation({"rgb": image}, draws(i))["rgb"]
            lopsided[geometric] += not np.array_equal(after, after[..., ::-1])
    assert lopsided[False] == 0
    assert lopsided[True] > 50
    assert set(GEOMETRIC) <= set(v2.RandAugment._AUGMENTATION_SPACE)  # names of theirs: a renamed one would slip in


def test_reflectance_changes_as_bytes_do(sample, draws):
    """In its range, but for rounding: of bytes torchvision rounds down."""
    for i in range(60):
        as_bytes = RandAugment(RGB, operations=1)(sample, draws(i))["rgb"].astype(float)
        reflectance = {"rgb": (sample["rgb"] / 255 * 0.4 + 0.1).astype(np.float32)}
        after = RandAugment(RGB, operations=1, range=[0.1, 0.5])(reflectance, draws(i))["rgb"]
        assert after.dtype == np.float32
        np.testing.assert_allclose((after - 0.1) / 0.4 * 255, as_bytes, atol=1.5)


def test_values_beyond_the_range_are_cut_off_and_types_stay(draws):
    value = np.linspace(-1000, 20_000, 432).reshape(3, 12, 12).astype(np.int16)
    for i in range(20):
        after = RandAugment(RGB, range=[0.0, 10_000.0])({"rgb": value}, draws(i))["rgb"]
        assert after.dtype == np.int16
        assert after.min() >= 0
        assert after.max() <= 10_000


def test_missing_pixels_stay_missing_and_play_no_part(sample, draws):
    mask = np.zeros((3, 12, 12), bool)
    mask[:, 3:6, 2:9] = True
    for i in range(20):
        afters = []
        for under in (0, 255):
            value = np.ma.MaskedArray(np.where(mask, under, sample["rgb"]).astype(np.uint8), mask)
            afters.append(RandAugment(RGB)({"rgb": value}, draws(i))["rgb"])
        assert np.array_equal(afters[0].mask, mask)
        assert np.array_equal(afters[0].data, afters[1].data)
        assert not afters[0].data[mask].any()


class Images(Dataset):
    def inputs(self) -> dict[str, InputSpec]:
        return RGB

    def index(self, progress: object = None) -> Index:
        return Index(list("abcdefgh"), np.zeros(8, np.int64), ("a",))

    def read(self, i: int) -> Sample:
        return {"rgb": np.random.default_rng(i).integers(0, 256, (3, 12, 12)).astype(np.uint8)}


def test_any_number_of_workers_draws_the_same():
    samples = Samples(Images(), np.zeros(8, np.int64), RGB, [RandAugment(RGB, geometric=True)], seed=3)

    def drawn(workers: int) -> list[torch.Tensor]:
        torch.manual_seed(workers)
        order = Batches(np.arange(8), 4, seed=1)
        batches = DataLoader(samples, batch_sampler=order, num_workers=workers, collate_fn=lambda batch: batch)
        return [batch.inputs["rgb"] for batch in batches]

    assert all(torch.equal(*pair) for pair in zip(drawn(0), drawn(2), strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": ["hsi"]}, "changes images of red, green and blue, 3 x H x W, and hsi is 20 x 6 x 6"),
        ({"modalities": ["dem"]}, "and dem is 1 x 6 x 6"),
        ({"modalities": ["visits"]}, "and visits is 7 x 26 x 24"),
        ({"range": [1.0, 0.0]}, r"the range \[1.0, 0.0\] goes from black to white"),
    ],
)
def test_what_does_not_fit_is_told(inputs, options, message):
    with pytest.raises(RequestError, match=message):
        RandAugment(inputs, **options)


def test_no_image_is_told():
    with pytest.raises(
        RequestError, match="red, green and blue, 3 x H x W and finds none to change by default among x 4"
    ):
        RandAugment({"x": InputSpec((4, 8, 8))})


def test_numbers_without_a_range_are_told(draws):
    with pytest.raises(RequestError, match=r"rgb is float32, not of 8 bits; say its `range`"):
        RandAugment(RGB)({"rgb": np.zeros((3, 12, 12), np.float32)}, draws(0))


def test_missing_pixels_are_not_moved(draws):
    value = np.ma.MaskedArray(np.zeros((3, 12, 12), np.uint8), np.eye(12, dtype=bool)[None].repeat(3, 0))
    with pytest.raises(RequestError, match="has missing pixels, which `geometric` cannot move along"):
        RandAugment(RGB, geometric=True)({"rgb": value}, draws(0))
