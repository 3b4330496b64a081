"""MixUp and CutMix: one coefficient and one partner for all modalities and the target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fusionkit_augmentations.cutmix import CutMix
from fusionkit_augmentations.mixup import MixUp
from fusionkit_losses.cross_entropy import CrossEntropy
from fusionkit_losses.focal import Focal
from scipy.stats import beta, kstest
from torch import Tensor
from torch.nn import functional as F

from fusionkit.flow import Batch, InputSpec, Output, Task
from fusionkit.options import options_model
from fusionkit.randomness import generator

INPUTS = {
    "image": InputSpec((3, 100, 100)),
    "visits": InputSpec((7, 26, 24), counts=True),
    "small": InputSpec((2, 3, 5)),
    "text": InputSpec((9, 4), ragged=True),
    "series": InputSpec((50, 2)),
    "vector": InputSpec((5,)),
}
SIZE = 8
OWN = Task("classification", tuple("abcdefgh"), (1,) * SIZE, SIZE)
"""Each sample is of a class of its own, so that the mixed target tells who is mixed with whom, and how."""
NUMBER = torch.tensor([3.0, 14.0, 15.0, 92.0, 65.0, 35.0, 89.0, 79.0])
"""What stands in all inputs of each sample, so that their means tell the same."""

MIXINGS = pytest.mark.parametrize("mixing", [MixUp, CutMix])


def a_batch(target: Tensor | None = None) -> Batch:
    inputs = {name: NUMBER.reshape(-1, *[1] * len(s.shape)).repeat(1, *s.shape) for name, s in INPUTS.items()}
    inputs["visits"] = inputs["visits"].to(torch.int32)
    present = {name: torch.ones(SIZE, dtype=torch.bool) for name in INPUTS}
    index = torch.arange(SIZE)
    valid = {"text": torch.ones(SIZE, 9, dtype=torch.bool)}
    return Batch(inputs, present, index if target is None else target, index + 100, valid, index % 4)


def draws(i: int) -> np.random.Generator:
    return generator(0, "mix", i)


@MIXINGS
@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_every_modality_and_the_target_have_one_coefficient_and_one_partner(mixing, alpha):
    mix, met = mixing(INPUTS, OWN, alpha=alpha), torch.zeros(SIZE, SIZE)
    for i in range(60):
        batch = mix(a_batch(), draws(i))
        torch.testing.assert_close(batch.target.sum(1), torch.ones(SIZE))
        assert ((batch.target > 0).sum(1) <= 2).all()
        met += batch.target > 0
        for value in batch.inputs.values():
            assert value.dtype == torch.float32
            mean = value.double().flatten(1).mean(1)
            torch.testing.assert_close(mean, batch.target.double() @ NUMBER.double(), rtol=1e-6, atol=1e-6)
    assert met.all()


@MIXINGS
def test_the_coefficient_is_the_same_to_six_places(mixing):
    """Ones and zeros: the mean of an input is the coefficient itself."""
    mix, given, mixed = mixing(INPUTS, OWN, alpha=1.0), a_batch(), 0
    ones = torch.arange(SIZE) % 2 == 0
    given = replace(given, target=torch.where(ones, 0, 1))
    given.inputs = {n: ones.float().reshape(-1, *[1] * (v.dim() - 1)).expand_as(v) for n, v in given.inputs.items()}
    for i in range(60):
        batch = mix(given, draws(i))
        mixed += int((batch.target.amax(1) < 1).sum())
        for value in batch.inputs.values():
            coefficient = value.double().flatten(1).mean(1)
            torch.testing.assert_close(coefficient, batch.target[:, 0].double(), rtol=0, atol=1e-6)
    assert mixed > 100


def shares_of(mixing: type, alpha: float, count: int) -> np.ndarray:
    mix = mixing(INPUTS, OWN, alpha=alpha)
    drawn = [mix.draw(draws(i))[0] for i in range(count)]
    return np.array(drawn)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_coefficients_of_mixup_are_beta(alpha):
    assert kstest(shares_of(MixUp, alpha, 2000), beta(alpha, alpha).cdf).pvalue > 1e-3


def test_areas_of_cutmix_are_those_of_boxes_cut_off_at_the_border():
    """By simulation of the paper's equations on a fine grid of pixels."""
    random, size, areas = np.random.default_rng(1), 4096, []
    for _ in range(4000):
        side = size * np.sqrt(1 - random.uniform())
        x, y = random.uniform(0, size, 2)
        x1, x2 = np.clip([x - side / 2, x + side / 2], 0, size).round()
        y1, y2 = np.clip([y - side / 2, y + side / 2], 0, size).round()
        areas.append((x2 - x1) * (y2 - y1) / size**2)
    assert kstest(shares_of(CutMix, 1.0, 4000), areas).pvalue > 1e-3


def test_cutmix_pastes_one_box_in_the_same_place_of_every_grid():
    inputs = {"fine": InputSpec((1, 60, 90)), "coarse": InputSpec((2, 20, 18)), "series": InputSpec((40, 1))}
    for i in range(40):
        area, shares = CutMix(inputs, OWN).draw(draws(i))
        fine, coarse, series = (torch.from_numpy(shares(spec)) for spec in inputs.values())
        torch.testing.assert_close(F.avg_pool2d(fine[None], (3, 5))[0], coarse)  # the same place
        for covered in (fine, coarse):
            rows, columns = covered.any(1).nonzero(), covered.any(0).nonzero()
            box = covered[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert (box > 0).all()  # a box
            assert torch.allclose(box[1:-1, 1:-1], torch.ones(()).double())  # mixed on its border alone
            assert covered.mean().item() == pytest.approx(area)
        steps = series.flatten().nonzero().flatten()
        assert torch.allclose(series.flatten()[steps[1:-1]], torch.ones(()).double())
        assert (steps.diff() == 1).all()


@MIXINGS
def test_partners_have_the_same_modalities_and_what_is_absent_stays_so(mixing):
    given = a_batch()
    given.present["image"][[0, 1, 2]] = False
    given.present["text"][[2, 3]] = False
    given.inputs["image"][[0, 1, 2]] = torch.nan
    kinds = [{0, 1}, {2}, {3}, {4, 5, 6, 7}]
    met = torch.zeros(SIZE, SIZE)
    for i in range(60):
        batch = mixing(INPUTS, OWN, alpha=1.0)(given, draws(i))
        met += batch.target > 0
        assert all(torch.equal(batch.present[name], given.present[name]) for name in INPUTS)
        for name, value in batch.inputs.items():
            assert value[given.present[name]].isfinite().all()
        for alone in (2, 3):
            assert batch.target[alone, alone] == 1
            assert torch.equal(batch.inputs["vector"][alone], given.inputs["vector"][alone])
    assert [set(row.nonzero().flatten().tolist()) for row in met] == [
        next(kind for kind in kinds if row in kind) for row in range(SIZE)
    ]


@MIXINGS
def test_steps_that_are_no_steps_are_zero_and_masks_follow(mixing):
    given = a_batch()
    given.valid["text"] = torch.arange(9) < torch.arange(1, SIZE + 1).unsqueeze(1)
    given.inputs["text"] = given.inputs["text"].masked_fill(~given.valid["text"].unsqueeze(2), torch.nan)
    for i in range(30):
        batch = mixing(INPUTS, OWN, alpha=1.0)(given, draws(i))
        value, valid = batch.inputs["text"], batch.valid["text"]
        assert not value[~valid].any()
        assert (value[valid] > 0).all()
        longest = ((batch.target > 0) * torch.arange(1, SIZE + 1)).amax(1)
        assert (valid.sum(1) <= longest).all()
        assert mixing is CutMix or torch.equal(valid.sum(1), longest)


@MIXINGS
def test_the_generator_alone_decides_and_the_batch_is_left_alone(mixing):
    given = a_batch()
    before = given.map(torch.clone)
    one, again, other = (mixing(INPUTS, OWN, alpha=1.0)(given, draws(i)) for i in (5, 5, 6))
    for name in INPUTS:
        assert torch.equal(one.inputs[name], again.inputs[name])
        assert torch.equal(given.inputs[name], before.inputs[name])
    assert torch.equal(one.target, again.target)
    assert not torch.equal(one.target, other.target)
    assert torch.equal(given.target, before.target)
    assert torch.equal(one.index, given.index)
    assert torch.equal(one.group, given.group)


@MIXINGS
def test_probability_is_of_batches(mixing):
    given = a_batch()
    half = [mixing(INPUTS, OWN, alpha=1.0, probability=0.5)(given, draws(i)) is given for i in range(400)]
    assert 160 < sum(half) < 240
    assert all(mixing(INPUTS, OWN, probability=0.0)(given, draws(i)) is given for i in range(20))


@MIXINGS
def test_a_baseline_reads_its_own_modality_alone(mixing):
    given = a_batch()
    alone = replace(given, inputs={"image": given.inputs["image"]}, present={"image": given.present["image"]}, valid={})
    batch = mixing(INPUTS, OWN, alpha=1.0)(alone, draws(1))
    assert list(batch.inputs) == ["image"]
    assert batch.valid == {}


@MIXINGS
@pytest.mark.parametrize("kind", ["multilabel", "regression", "classification"])
def test_targets_of_numbers_are_mixed_as_they_are(mixing, kind):
    """Also shares of classes, of samples that are mixed already."""
    task = Task(kind, ("a", "b", "c"), (4, 4, 4), SIZE, (0.0,) * 3, (1.0,) * 3)
    target = torch.randn(SIZE, 3, generator=torch.Generator().manual_seed(0))
    target = target.softmax(1) if kind == "classification" else target
    batch = mixing(INPUTS, task, alpha=1.0)(a_batch(target), draws(3))
    told = mixing(INPUTS, OWN, alpha=1.0)(a_batch(), draws(3))
    torch.testing.assert_close(batch.target, told.target @ target)


LOSSES = [
    (CrossEntropy, {}),
    (CrossEntropy, {"class_weights": [1.0, 2.0, 0.5], "label_smoothing": 0.1}),
    (Focal, {}),
    (Focal, {"class_weights": "balanced"}),
]


@MIXINGS
@pytest.mark.parametrize(("loss", "options"), LOSSES)
def test_losses_of_mixed_samples_are_mixtures_of_their_losses(mixing, loss, options):
    """lam L(a) + (1 - lam) L(b), the mean of which is weighted where classes are."""
    task, classes = Task("classification", ("a", "b", "c"), (4, 3, 1), SIZE), torch.tensor([0, 1, 2, 0, 1, 0, 0, 1])
    logits = torch.randn(SIZE, 3, generator=torch.Generator().manual_seed(0))
    given = a_batch(classes)
    mixed = mixing(INPUTS, task, alpha=1.0)(given, draws(2))
    share = mixing(INPUTS, OWN, alpha=1.0)(a_batch(), draws(2)).target
    assert share.max() < 1 or (share < 1).any()
    measure = loss(task, **options)
    total = weight = 0.0
    for row in range(SIZE):
        for other in share[row].nonzero().flatten().tolist():
            output = Output(logits[row : row + 1], torch.zeros(1, 1))
            one = Batch({}, {}, classes[other : other + 1], torch.zeros(1, dtype=torch.int64))
            total += share[row, other].item() * float(measure.count(one)) * measure(output, one).item()
            weight += share[row, other].item() * float(measure.count(one))
    found = measure(Output(logits, torch.zeros(SIZE, 1)), mixed)
    assert found.item() == pytest.approx(total / weight, rel=1e-5)
    assert float(measure.count(mixed)) == pytest.approx(weight, rel=1e-5)


@MIXINGS
@pytest.mark.parametrize("option", [{"alpha": 0.0}, {"probability": 1.5}])
def test_options_out_of_bounds_are_refused(mixing, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        options_model(mixing)(**option)
