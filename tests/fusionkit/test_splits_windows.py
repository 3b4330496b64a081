"""Windows of one scene: parts share no pixel, or it is counted and told."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from fusionkit_fakes import index_of, once

from fusionkit.contract import Index
from fusionkit.sections import Split
from fusionkit.splits import divide


def windows_that_touch(index: Index, one: np.ndarray, other: np.ndarray) -> int:
    """By brute force: how many of the windows `one` share a pixel with a window of `other`."""
    assert index.positions is not None
    assert index.window is not None
    side = int(index.positions.max() + 2 * max(index.window))
    covered = np.zeros((side, side), dtype=bool)
    height, width = index.window
    for row, column in index.positions[other]:
        covered[row : row + height, column : column + width] = True
    return sum(covered[row : row + height, column : column + width].any() for row, column in index.positions[one])


def scene(seed: int, window: tuple[int, int], side: int = 120, count: int = 900) -> Index:
    random = np.random.default_rng(seed)
    cells = random.choice(side * side, count, replace=False)
    positions = np.stack([cells // side, cells % side], 1)
    return index_of(random.integers(0, 4, count), positions=positions, window=window)


@pytest.mark.parametrize(
    ("seed", "window", "blocks"), [(0, (5, 5), 15), (1, (3, 7), 12), (2, (4, 6), 20), (3, (1, 1), 9), (4, (14, 11), 40)]
)
def test_blocks_leave_no_shared_pixel(seed: int, window: tuple[int, int], blocks: int) -> None:
    index = scene(seed, window)
    partition = once(index, test=0.25, val=0.2, blocks=blocks, seed=seed)
    assert windows_that_touch(index, partition.test, partition.train) == 0
    assert windows_that_touch(index, partition.test, partition.val) == 0
    assert windows_that_touch(index, partition.val, partition.train) == 0
    assert partition.shared_pixels == 0
    assert sum(map(len, partition.parts().values())) + partition.left_out == len(index)
    assert (partition.left_out > 0) == (window != (1, 1))
    assert len(partition.test) > 0.15 * len(index)


def test_no_more_is_left_out_than_shares_pixels() -> None:
    # Two windows of three columns: centres three apart share nothing, two apart do.
    positions = np.array([[0, column] for column in range(60)])
    split = np.where(np.arange(60) < 30, "train", "test")
    index = index_of(np.arange(60) % 2, positions=positions, window=(3, 3), split=split)
    assert once(index).shared_pixels == 2
    partition = once(index, blocks=10)
    assert 30 - len(partition.train) - len(partition.val) == partition.left_out
    assert not {28, 29} & {*partition.train, *partition.val}
    assert partition.shared_pixels == 0


@pytest.mark.parametrize("seed", range(3))
def test_shared_pixels_of_a_random_split_are_counted(seed: int) -> None:
    index = scene(seed, (5, 3), count=300)
    partition = once(index, test=0.2)
    rest = np.concatenate([partition.train, partition.val])
    assert partition.shared_pixels == windows_that_touch(index, partition.test, rest) > 0


def test_blocks_clear_a_given_val_too() -> None:
    index = scene(5, (5, 5))
    assert index.positions is not None
    index.split = np.array(["train", "val", "test"])[np.clip(index.positions[:, 1] // 30, 0, 2)]
    partition = once(index, blocks=10)
    assert windows_that_touch(index, partition.val, partition.test) == 0
    assert windows_that_touch(index, partition.train, partition.val) == 0
    assert partition.left_out > 0


@pytest.mark.parametrize("buffer", [1, 4])
def test_a_buffer_keeps_windows_so_many_pixels_apart(buffer: int) -> None:
    index = scene(3, (5, 3))
    assert index.positions is not None
    partition = once(index, test=0.25, val=0.2, blocks=15, buffer=buffer)
    for part, others in (("train", "test"), ("val", "test"), ("train", "val")):
        one, other = (index.positions[partition.parts()[name]] for name in (part, others))
        between = np.abs(one[:, None] - other) - np.array([5, 3])  # pixels between two windows, along rows and columns
        assert between.max(-1).min() >= buffer
    bare = once(index, test=0.25, val=0.2, blocks=15)
    assert partition.left_out > bare.left_out
    assert partition.test.tolist() == bare.test.tolist()


def test_how_far_apart_parts_are_is_measured() -> None:
    positions = np.array([[0, column] for column in (0, 3, 10, 14, 30)])
    split = np.array(["train", "val", "test", "test", "test"])
    assert once(index_of([0, 1, 0, 1, 0], positions=positions, window=(3, 3), split=split)).apart == 7
    assert once(index_of([0, 1, 0, 1, 0], split=split)).apart is None


def test_pixels_that_parts_share_are_those_of_painted_windows():
    """Windows painted one by one, negative places and odd, even and oblong ones too; groups and distance by hand."""
    for seed, window in enumerate([(5, 5), (4, 7), (1, 3), (8, 2)] * 3):
        random = np.random.default_rng(seed)
        count = int(random.integers(10, 120))
        positions = np.unique(random.integers(-20, 60, (count, 2)), axis=0)
        count = len(positions)
        part = random.choice(["train", "val", "test"], count, p=[0.4, 0.2, 0.4])
        part[:3] = ["train", "val", "test"]
        index = Index(
            ids=[str(i) for i in range(count)],
            targets=np.arange(count) % 2,
            class_names=("a", "b"),
            split=part,
            positions=positions,
            window=window,
        )
        [found] = divide(index, None)
        painted = {True: np.zeros((120, 120), bool), False: np.zeros((120, 120), bool)}
        for (row, column), name in zip(positions, part, strict=True):
            painted[name == "test"][row + 30 : row + 30 + window[0], column + 30 : column + 30 + window[1]] = True
        assert found.overlap == (painted[True] & painted[False]).sum()
        near = np.abs(positions[part == "test"][:, None] - positions[part != "test"][None])
        assert found.shared_pixels == (near < window).all(2).any(1).sum()
        np.testing.assert_allclose(found.apart, np.sqrt((near**2).sum(2)).min())


def test_a_buffer_keeps_as_many_pixels_between_parts():
    random = np.random.default_rng(0)
    positions = np.unique(random.integers(0, 200, (900, 2)), axis=0)
    index = Index(
        [str(i) for i in range(len(positions))],
        np.arange(len(positions)) % 2,
        ("a", "b"),
        positions=positions,
        window=(7, 7),
    )
    [found] = divide(index, Split(test=0.3, val=0.2, blocks=50, buffer=6))
    assert (found.overlap, found.shared_pixels) == (0, 0)
    for one, other in combinations(found.parts().values(), 2):
        gap = np.abs(positions[one][:, None] - positions[other][None]).max(2).min() - 7
        assert gap >= 6
    assert found.left_out + sum(map(len, found.parts().values())) == len(positions)
