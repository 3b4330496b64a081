"""Counted randomness: the same everywhere, different wherever the purpose differs."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import torch

from fusionkit.randomness import generator, key, seed_torch


def test_keys_are_the_same_on_every_machine_and_in_every_version() -> None:
    # `printf '3\\037a\\0371' | b2sum -l 64`, read from its little end; a change here would change every run.
    assert key(0) == int.from_bytes(bytes.fromhex("842b7d9d43cddf75"), "little")
    assert key(3, "a", 1) == int.from_bytes(bytes.fromhex("9d0dc0c92f04a003"), "little")


def test_keys_differ_wherever_a_part_does() -> None:
    parts = [*itertools.product(range(4), ("order", "augment", ""), range(4), range(8)), (1, 23), (12, 3)]
    assert len({key(*given) for given in parts}) == len(parts)


def test_numpy_numbers_are_numbers() -> None:
    assert key(np.int64(3), np.str_("a"), np.uint8(1)) == key(3, "a", 1)


def test_generators_are_independent_of_each_other_and_of_the_past() -> None:
    first = generator(0, "augment", 1, 2).random(1000)
    np.random.default_rng(0).random(5)
    assert np.array_equal(first, generator(0, "augment", 1, 2).random(1000))
    others = np.stack([generator(0, "augment", 1, index).random(1000) for index in range(3, 53)])
    correlations = np.corrcoef(np.vstack([first, others]))[~np.eye(51, dtype=bool)]
    assert np.abs(correlations).max() < 0.2  # 1000 draws: six standard deviations
    # The first draws of neighbouring samples are uniform together, too: a chi-square test with 9 degrees of freedom.
    starts = [generator(0, "augment", 0, index).random() for index in range(2000)]
    counts = np.histogram(starts, bins=10, range=(0, 1))[0]
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # exceeded once in a thousand; the draws are fixed


def test_torch_is_seeded_for_a_purpose() -> None:
    seed_torch(0, "step", 1)
    first = torch.rand(4)
    torch.rand(100)
    seed_torch(0, "step", 1)
    assert torch.equal(first, torch.rand(4))
    seed_torch(0, "step", 2)
    assert not torch.equal(first, torch.rand(4))


def test_all_keys_are_seeds_of_torch() -> None:
    for number in range(200):
        seed_torch("any", number)
        assert torch.initial_seed() == key("any", number) % 2**63


def test_another_process_draws_the_same() -> None:
    code = "from fusionkit.randomness import generator; print(generator(7, 'order', 3).permutation(9).tolist())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == str(generator(7, "order", 3).permutation(9).tolist())
