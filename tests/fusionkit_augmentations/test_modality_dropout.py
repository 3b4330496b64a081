"""Modality dropout."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from fusionkit_augmentations.modality_dropout import ModalityDropout
from fusionkit_fakes import Held, index_of
from scipy.stats import chisquare

from fusionkit.errors import RequestError
from fusionkit.flow import InputSpec
from fusionkit.loading import EVALUATION, Samples
from fusionkit.options import options_model

THREE = {name: InputSpec((2,)) for name in "abc"}
FULL = {name: np.ones(2, np.float32) for name in "abc"}


def kept(augmentation, draws, sample=FULL, count=4000):
    """How often each set of modalities is left."""
    return Counter(
        "".join(name for name, value in augmentation(sample, draws(i)).items() if value is not None)
        for i in range(count)
    )


def expected(probability, count=4000):
    """By enumeration: independent draws; of none, one of those there, as likely as any other."""
    chances = Counter()
    for gone in product([False, True], repeat=len(probability)):
        chance = np.prod([p if g else 1 - p for p, g in zip(probability.values(), gone, strict=True)])
        left = "".join(name for name, g in zip(probability, gone, strict=True) if not g)
        if left:
            chances[left] += chance * count
        else:
            for name in probability:
                chances[name] += chance * count / len(probability)
    return chances


@pytest.mark.parametrize("probability", [0.3, {"a": 0.5, "b": 0.2, "c": 0.7}])
def test_draws_are_independent_and_one_modality_stays(draws, probability):
    shares = probability if isinstance(probability, dict) else dict.fromkeys("abc", probability)
    found, due = kept(ModalityDropout(THREE, probability=probability), draws), expected(shares)
    assert found.keys() == due.keys()
    assert chisquare([found[left] for left in due], list(due.values())).pvalue > 1e-3


def test_modalities_without_a_probability_stay(draws):
    assert ModalityDropout(THREE, probability=0.2).makes_absent == {"a", "b", "c"}
    assert ModalityDropout(THREE, probability={"b": 0.9}).makes_absent == {"b"}
    assert kept(ModalityDropout(THREE, probability={"b": 0.9}), draws, count=200).keys() == {"abc", "ac"}


def test_the_last_one_present_stays(draws):
    augmentation = ModalityDropout(THREE, probability=0.99)
    assert kept(augmentation, draws, FULL | {"a": None, "c": None}, 100).keys() == {"b"}
    assert kept(augmentation, draws, {"c": FULL["c"]}, 100).keys() == {"c"}  # a baseline reads its own alone
    assert kept(augmentation, draws, dict.fromkeys("abc"), 100).keys() == {""}
    assert kept(augmentation, draws, FULL | {"b": None}, 100).keys() == {"a", "c"}


def test_what_is_absent_changes_nothing_for_the_others(draws):
    augmentation = ModalityDropout(THREE, probability={"a": 0.5, "b": 0.5})
    for i in range(50):
        whole, part = augmentation(FULL, draws(i)), augmentation(FULL | {"a": None}, draws(i))
        assert (whole["b"] is None) == (part["b"] is None)


def test_values_and_their_order_are_left_alone(draws):
    after = ModalityDropout(THREE)(FULL, draws(0))
    assert list(after) == list(FULL)
    assert all(value is None or value is FULL[name] for name, value in after.items())


def test_each_sample_of_a_batch_has_its_own_draw_in_training_alone():
    rows = [np.full(2, float(i)) for i in range(64)]
    data = Held(dict(list(THREE.items())[:2]), {"a": rows, "b": rows}, index_of(np.arange(64) % 2))
    samples = Samples(data, data.listed.targets, data.specs, [ModalityDropout(data.specs, probability=0.4)], seed=3)
    batch = samples.__getitems__([(0, i) for i in range(64)])
    present = torch.stack(list(batch.present.values()))
    assert present.any(0).all()
    assert (~present).any(1).all()
    assert (present[0] != present[1]).any()
    assert present.all(0).any()
    again = samples.__getitems__([(0, i) for i in reversed(range(64))])
    assert torch.equal(again.present["a"].flip(0), batch.present["a"])
    other = samples.__getitems__([(1, i) for i in range(64)])
    assert not torch.equal(other.present["a"], batch.present["a"])
    still = samples.__getitems__([(EVALUATION, i) for i in range(64)])
    assert all(held.all() for held in still.present.values())


@pytest.mark.parametrize(
    ("inputs", "probability", "message"),
    [
        (THREE, {"d": 0.1}, "no modality 'd'"),
        (THREE, {}, "mapping of probabilities is empty"),
        ({"a": InputSpec((2,))}, 0.1, "two modalities or more; there is a alone"),
    ],
)
def test_what_cannot_be_dropped_is_told(inputs, probability, message):
    with pytest.raises(RequestError, match=message):
        ModalityDropout(inputs, probability=probability)


@pytest.mark.parametrize("probability", [0.0, 1.0, {"a": 1.5}, "0.2"])
def test_options_are_shares(probability):
    with pytest.raises(ValueError, match="probability"):
        options_model(ModalityDropout)(probability=probability)


def test_what_a_teacher_reads_beside_counts_for_nothing():
    own = {name: InputSpec((2,)) for name in ("image", "visits")}
    dropout = ModalityDropout(own, probability=0.5)
    for seed in range(200):
        sample = {"image": np.ones(2), "visits": None, "lidar": np.ones(2)}
        found = dropout(sample, np.random.default_rng(seed))
        assert found["image"] is not None
        assert found["lidar"] is not None
