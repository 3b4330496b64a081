"""Samples, and what every augmentation owes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fusionkit.contract import Augmentation, Sample
from fusionkit.flow import InputSpec
from fusionkit.randomness import generator

INPUTS = {
    "hsi": InputSpec((20, 6, 6)),
    "rgb": InputSpec((3, 12, 12)),
    "dem": InputSpec((1, 6, 6)),
    "visits": InputSpec((7, 26, 24), counts=True),
    "text": InputSpec((9, 4), ragged=True),
    "vector": InputSpec((5,)),
}


@pytest.fixture
def inputs() -> dict[str, InputSpec]:
    return dict(INPUTS)


@pytest.fixture
def sample() -> Sample:
    """One sample in its own units and types."""
    random = np.random.default_rng(0)
    return {
        "hsi": random.integers(0, 10_000, (20, 6, 6)).astype(np.int16),
        "rgb": random.integers(0, 256, (3, 12, 12)).astype(np.uint8),
        "dem": random.random((1, 6, 6)).astype(np.float32),
        "visits": random.poisson(3.0, (7, 26, 24)).astype(np.uint16),
        "text": random.standard_normal((5, 4)).astype(np.float32),
        "vector": random.standard_normal(5),
    }


@pytest.fixture
def draws() -> Callable[[int], np.random.Generator]:
    """The generator of the i-th sample, as the core makes it."""
    return lambda i: generator(0, "augment", 1, i)


@pytest.fixture
def check_augmentation(sample, draws) -> Callable[[Augmentation, set[str]], None]:
    """Hold an augmentation that changes these modalities against everything that the core relies on."""

    def check(augmentation: Augmentation, changed: set[str]) -> None:
        before = {name: value.copy() for name, value in sample.items()}
        for value in sample.values():
            value.flags.writeable = False
        moved = set()
        for i in range(30):
            after = augmentation(sample, draws(i))
            again = augmentation(sample, draws(i))
            assert list(after) == list(sample)
            for name, value in after.items():
                assert value.shape == sample[name].shape
                assert np.array_equal(value, again[name])  # the generator alone decides
                if not np.array_equal(value, before[name]):
                    moved.add(name)
                if name not in changed:
                    assert value is sample[name]
                assert value.dtype in (sample[name].dtype, np.float32)
            absent = augmentation(dict.fromkeys(sample), draws(i))
            assert absent == dict.fromkeys(sample)
            # A baseline reads its own modality alone.
            alone = augmentation({"hsi": sample["hsi"]}, draws(i))
            assert list(alone) == ["hsi"]
        assert moved == changed
        assert all(np.array_equal(sample[name], before[name]) for name in sample)

    return check
