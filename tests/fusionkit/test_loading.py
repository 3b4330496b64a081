"""From samples to batches: the same for any number of workers and processes."""

from __future__ import annotations

import pickle
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
import torch
from fusionkit_fakes import Crooked, Held, Jitter, Toy, ToyLabels, ToyQuantities, index_of

from fusionkit.errors import BadSample, DataError, FusionkitError
from fusionkit.flow import Batch, InputSpec
from fusionkit.kinds import KINDS
from fusionkit.loading import EVALUATION, Batches, Loader, Samples, collate, plainly, read_checked

VECTOR, STEPS = InputSpec((3,)), InputSpec((4, 2), ragged=True)


def toy_samples(seed: int = 0, *augmentations: Any) -> Samples:
    toy = Toy(samples=50)
    return Samples(toy, toy.index().targets, toy.inputs(), augmentations, seed)


def read_through(batches: Loader) -> list[Batch]:
    with plainly(batches):
        return list(batches)


def tensors(batch: Batch) -> list[torch.Tensor]:
    return [*batch.inputs.values(), *batch.present.values(), *batch.valid.values(), batch.target, batch.index]


def epochs(samples: Samples, workers: int, count: int = 2, **order: Any) -> list[list[torch.Tensor]]:
    batches = Batches(np.arange(5, 45), 8, seed=3, **order)
    made, seen = Loader(samples, batches, workers), []
    for epoch in range(count):
        batches.epoch = epoch
        seen += [tensors(batch) for batch in made]
    return seen


# Batches of samples


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(workers: int) -> None:
    samples = toy_samples(7, Jitter(Toy().inputs(), drop=0.3))
    alone, together = epochs(samples, 0), epochs(samples, workers)
    assert len(alone) == len(together) == 10
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("toy", [Toy(), ToyLabels(), ToyQuantities()], ids=lambda toy: toy.task)
def test_targets_are_what_the_task_asks_for(toy: Toy) -> None:
    index = toy.index()
    train = np.flatnonzero(index.labelled)[:30]
    task = KINDS[toy.task].task(index.class_names, index.targets[train])
    samples = Samples(toy, index.targets, toy.inputs(), task=task)
    positions = [41, 3, 12]
    found = samples.__getitems__([(EVALUATION, position) for position in positions]).target
    known = index.targets[positions]
    if toy.task == "regression":
        known = (known - index.targets[train].mean(0)) / index.targets[train].std(0)
    assert found.dtype == (torch.int64 if toy.task == "classification" else torch.float32)
    np.testing.assert_allclose(found.numpy(), known, rtol=1e-6)


def test_groups_are_numbered_over_the_whole_index() -> None:
    toy = Toy(samples=6)
    groups = np.array(["x", "y", "x", "z", "y", "x"])
    samples = Samples(toy, toy.index().targets, toy.inputs(), groups=groups)
    batch = samples.__getitems__([(EVALUATION, position) for position in (5, 3, 0, 1)])
    assert batch.group is not None
    assert batch.group.dtype == torch.int64
    assert batch.group.tolist() == [0, 2, 0, 1]
    assert batch.map(lambda tensor: tensor[2:]).group.tolist() == [0, 1]  # type: ignore[union-attr]
    assert toy_samples().__getitems__([(0, 1)]).group is None


def test_augmentation_depends_on_seed_epoch_and_sample_alone() -> None:
    jitter = Jitter(Toy().inputs())
    batch = toy_samples(1, jitter)[(4, 9)].inputs["vector"]
    among = toy_samples(1, jitter).__getitems__([(4, 3), (4, 9), (4, 5)]).inputs["vector"]
    assert torch.equal(among[1], batch[0])
    for seed, request in [(2, (4, 9)), (1, (5, 9))]:
        assert not torch.equal(toy_samples(seed, jitter)[request].inputs["vector"], batch)
    plain = toy_samples(1, jitter)[(EVALUATION, 9)].inputs["vector"]
    np.testing.assert_array_equal(plain[0].numpy(), Toy().read(9)["vector"])


def test_augmentations_follow_one_another_and_leave_the_data_alone() -> None:
    values = [np.zeros(3, np.float32) for _ in range(4)]
    inputs = {"a": VECTOR}
    held = Held(inputs, {"a": values}, index_of([0, 1, 0, 1]))
    once = Samples(held, np.array([0, 1, 0, 1]), inputs, [Jitter(inputs)], 0)[(0, 1)].inputs["a"]
    twice = Samples(held, np.array([0, 1, 0, 1]), inputs, [Jitter(inputs), Jitter(inputs)], 0)[(0, 1)].inputs["a"]
    assert not torch.equal(once, twice)
    assert all((value == 0).all() for value in values)


def test_an_augmentation_that_breaks_a_sample_is_named() -> None:
    with pytest.raises(FusionkitError, match=r"the augmentation Crooked fails: image is 1 x 6 x 6, not 2 x 6 x 6"):
        toy_samples(0, Crooked(Toy().inputs()))[(0, 1)]


def test_data_that_went_bad_since_the_survey_are_named() -> None:
    held = Held({"a": VECTOR}, {"a": [BadSample("image is truncated", "x.png")] * 2}, index_of([0, 1]))
    with pytest.raises(FusionkitError, match=r"sample 1 was good and now is not: x.png: image is trunc"):
        Samples(held, np.array([0, 1]), held.specs)[(0, 1)]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_goes_wrong_in_a_worker_is_told_in_one_line(workers: int) -> None:
    made = Loader(toy_samples(0, Crooked(Toy().inputs())), Batches(np.arange(9), 4, seed=0), workers)
    with pytest.raises(FusionkitError) as told:
        read_through(made)
    assert str(told.value) == "the augmentation Crooked fails: image is 1 x 6 x 6, not 2 x 6 x 6"
    held = Held({"a": VECTOR}, {"a": [DataError("is gone", "/data/x.png")] * 4}, index_of([0, 1, 0, 1]))
    made = Loader(Samples(held, np.array([0, 1, 0, 1]), held.specs), Batches(np.arange(4), 2, seed=0), workers)
    with pytest.raises(DataError, match=r"^/data/x\.png: is gone$"):
        read_through(made)


def test_absent_inputs_are_zero_and_told() -> None:
    values = {
        "a": [np.ones(3, np.float32), None, np.full(3, 2.0)],
        "s": [None, np.ones((2, 2), np.float32), np.ones((4, 2), np.float32)],
        "never": [None, None, None],
    }
    specs = {"a": VECTOR, "s": STEPS, "never": InputSpec((2, 3, 3))}
    samples = Samples(Held(specs, values, index_of([2, 0, 1])), np.array([2, 0, 1]), specs)
    batch = samples.__getitems__([(0, 2), (0, 0), (0, 1)])
    assert batch.index.tolist() == [2, 0, 1]
    assert batch.target.tolist() == [1, 2, 0]
    assert batch.present["a"].tolist() == [True, True, False]
    assert batch.inputs["a"].tolist() == [[2, 2, 2], [1, 1, 1], [0, 0, 0]]
    assert batch.valid.keys() == {"s"}
    assert batch.valid["s"].tolist() == [[True] * 4, [False] * 4, [True, True, False, False]]
    assert batch.inputs["s"][2].tolist() == [[1, 1], [1, 1], [0, 0], [0, 0]]
    assert batch.inputs["never"].shape == (3, 2, 3, 3)
    assert not batch.present["never"].any()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("uint8", torch.uint8),
        ("int16", torch.int16),
        ("bool", torch.bool),
        ("float32", torch.float32),
        (">f4", torch.float32),
        (">i2", torch.int16),
        ("uint16", torch.float32),
        ("int64", torch.float32),
        ("float16", torch.float32),
        ("float64", torch.float32),
    ],
)
def test_values_survive_their_type(given: str, kept: torch.dtype) -> None:
    value = np.array([0, 1, 1 if given == "bool" else 113]).astype(given)
    stacked, valid = collate([value, None], VECTOR)
    assert stacked.dtype == kept
    assert valid is None
    assert stacked[0].tolist() == value.tolist()


def test_samples_travel_to_spawned_processes() -> None:
    samples = toy_samples(5, Jitter(Toy().inputs()))
    copy = pickle.loads(pickle.dumps(samples))
    expected = tensors(samples.__getitems__([(1, 4), (1, 8)]))
    for one, other in zip(tensors(copy.__getitems__([(1, 4), (1, 8)])), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_a_spawned_worker_reads_the_same() -> None:
    samples = toy_samples(5, Jitter(Toy().inputs()))
    batches = Batches(np.arange(20), 8, seed=3)
    made = Loader(samples, batches, 1)
    made.multiprocessing_context = get_context("spawn")
    for spawned, here in zip(made, Loader(samples, batches, 0), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(tensors(spawned), tensors(here), strict=True))


# Which samples make which batch


@pytest.mark.parametrize(
    ("count", "size", "world"), [(40, 8, 1), (41, 8, 1), (42, 8, 2), (43, 8, 2), (1, 8, 1), (9, 4, 3)]
)
def test_nothing_is_dropped_or_there_twice(count: int, size: int, world: int) -> None:
    positions = np.arange(100, 100 + count)
    ranks = [list(Batches(positions, size, seed=0, rank=rank, world=world)) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    seen = [position for batches in ranks for batch in batches for _, position in batch]
    assert sorted(seen) == positions.tolist()


def test_batches_are_of_nearly_equal_size_and_never_of_one_sample() -> None:
    def sizes(count: int, size: int, **processes: int) -> list[int]:
        return [len(batch) for batch in Batches(np.arange(count), size, seed=0, **processes)]

    assert sizes(16, 8) == [8, 8]
    assert sizes(17, 8) == [5, 6, 6]
    assert sizes(65, 64) == [32, 33]
    assert sizes(3, 2) == [3]
    assert sizes(5, 2) == [2, 3]
    assert sizes(1, 8) == [1]
    assert sizes(3, 1) == [1, 1, 1]  # as asked for
    assert sizes(9, 4, world=2) == [2, 3]  # each process needs two samples of its own
    for count in range(2, 60):
        found = sizes(count, 8)
        assert sum(found) == count
        assert 2 <= min(found) <= max(found) <= min(found) + 1
        assert max(found) <= 8
        assert len(Batches(np.arange(count), 8, seed=0)) == len(found)


def test_processes_share_the_batches_that_one_would_see() -> None:
    alone = [{position for _, position in batch} for batch in Batches(np.arange(44), 8, seed=5)]
    ranks = [list(Batches(np.arange(44), 8, seed=5, rank=rank, world=2)) for rank in range(2)]
    together = [{position for batch in pair for _, position in batch} for pair in zip(*ranks, strict=True)]
    assert together == alone


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int | None, epoch: int | None = None, world: int = 1) -> list[tuple[int, int]]:
        batches = Batches(np.arange(50), 8, seed=seed, world=world)
        if epoch is not None:
            batches.epoch = epoch
        return [request for batch in batches for request in batch]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(2, 0)
    assert [position for _, position in order(1, 0)] != [position for _, position in order(1, 1)]
    assert {epoch for epoch, _ in order(1, 6)} == {6}
    assert order(None) == [(EVALUATION, position) for position in range(50)]


def test_fewer_samples_than_processes_repeat_one() -> None:
    ranks = [list(Batches(np.array([7]), 8, seed=None, rank=rank, world=2)) for rank in range(2)]
    assert ranks == [[[(EVALUATION, 7)]], [[(EVALUATION, 7)]]]


# What a sample is held against


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(4), "a is 4, not 3"),
        (np.zeros((1, 3)), "a is 1 x 3, not 3"),
        (np.float64(1), "a is a single number, not 3"),
        (np.array([1, np.nan, 3]), "a holds NaN"),
        (np.array([np.inf, np.nan, 3]), "a holds NaN"),
        (np.array([1, -np.inf, 3], np.float32), "a holds infinity"),
        (np.array([1, 2, 1e300]), "a holds infinity, or a number too great for 32 bits"),
        (np.array([1, 2, 3j]), "a holds complex128, not real numbers"),
        (np.array(["1", "2", "3"]), "a holds <U1, not real numbers"),
        (np.array([1, None, 3], dtype=object), "a holds object"),
    ],
)
def test_bad_values_are_told_apart(value: np.ndarray, message: str) -> None:
    held = Held({"a": VECTOR}, {"a": [value]}, index_of([0]))
    with pytest.raises(BadSample, match=message):
        read_checked(held, 0, held.specs)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((5, 2)), "s is 5 x 2, not 4 x 2"),
        (np.zeros((2, 3)), "s is 2 x 3, not 4 x 2"),
        (np.zeros((0, 2)), "s is empty"),
        (np.array(3.0), "s is a single number"),
    ],
)
def test_ragged_values_may_be_shorter_and_nothing_else(value: np.ndarray, message: str) -> None:
    held = Held({"s": STEPS}, {"s": [value, np.zeros((1, 2)), None]}, index_of([0, 0, 0]))
    with pytest.raises(BadSample, match=message):
        read_checked(held, 0, held.specs)
    assert len(read_checked(held, 1, held.specs)["s"]) == 1
    assert read_checked(held, 2, held.specs) == {"s": None}


def test_only_the_modalities_asked_for_are_looked_at() -> None:
    held = Held({"a": VECTOR, "b": VECTOR}, {"a": [np.zeros(3)], "b": [np.full(3, np.nan)]}, index_of([0]))
    assert read_checked(held, 0, {"a": VECTOR}).keys() == {"a"}
