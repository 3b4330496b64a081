"""The suite of datasets names the defect of each faulty reader, and no other."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from fusionkit.contract import Dataset, Index
from fusionkit.errors import BadSample
from fusionkit.flow import InputSpec
from fusionkit.testing import DatasetSuite, Fault
from fusionkit.testing.datasets import CHECKS, damage_is_told
from fusionkit.testing.fault import hold

SPLIT = ("train", "train", "train", "val", "test", "test")


class Right(Dataset):
    """One array a sample, in a file of its own."""

    split = SPLIT
    names = tuple("abcdef")

    def __init__(self, *, folder: Path):
        self.folder = folder

    def inputs(self):
        return {"image": InputSpec((2, 4, 4))}

    def index(self, progress=None):
        count = len(self.names)
        return Index(list(self.names), np.arange(count) % 2, ("x", "y"), split=np.array(self.split))

    def read(self, i):
        path = self.folder / f"{i}.npy"
        try:
            return {"image": np.load(path)}
        except (OSError, ValueError) as error:
            raise BadSample("cannot be read", path) from error


def write(folder: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(len(SPLIT)):
        np.save(folder / f"{number}.npy", random.normal(size=(2, 4, 4)).astype(np.float32))


class BlackImages(Right):
    """Hands out zeros for what it cannot read."""

    def read(self, i):
        try:
            return super().read(i)
        except BadSample:
            return {"image": np.zeros((2, 4, 4), np.float32)}


class RawError(Right):
    """Lets the error of the library out."""

    def read(self, i):
        return {"image": np.load(self.folder / f"{i}.npy")}


class TrainInTest(Right):
    """The test split repeats a training sample."""

    def read(self, i):
        return super().read(0 if i == 5 else i)


class Windows(Right):
    """Windows of one scene."""

    columns = (0, 4, 8, 12, 16, 20)

    def index(self, progress=None):
        index = super().index()
        index.positions, index.window = np.array([[0, column] for column in self.columns]), (4, 4)
        return index


class OverlappingWindows(Windows):
    """A test window that shares three columns with one of val."""

    columns = (0, 4, 8, 12, 13, 20)


class OneName(Right):
    names = tuple("abcdea")


class OtherShape(Right):
    """Promises three channels and hands out two."""

    def inputs(self):
        return {"image": InputSpec((3, 4, 4))}


class Drifting(Right):
    """Reads something else every time."""

    count = 0

    def read(self, i):
        self.count += 1
        return {"image": super().read(i)["image"] + np.float32(self.count)}


class StaysAtHome(Right):
    """Holds what cannot be copied to a loader process."""

    def __init__(self, *, folder):
        super().__init__(folder=folder)
        self.lock = threading.Lock()


def faults(kind: type[Dataset], folder: Path) -> set[str]:
    found = set()

    def take(check, dataset):
        try:
            hold(check, dataset)
        except Fault as fault:
            found.add(fault.check)

    write(folder)
    for check in CHECKS:
        take(check, kind(folder=folder))
    damage(folder)
    take(damage_is_told, kind(folder=folder))
    return found


def damage(folder: Path) -> None:
    (folder / "2.npy").write_bytes((folder / "2.npy").read_bytes()[:40])


@pytest.mark.parametrize("right", [Right, Windows])
def test_a_right_dataset_passes(tmp_path, right):
    assert faults(right, tmp_path) == set()


@pytest.mark.parametrize(
    ("faulty", "rule"),
    [
        (BlackImages, "damage_is_told"),
        (RawError, "damage_is_told"),
        (TrainInTest, "test_is_kept_apart"),
        (OverlappingWindows, "test_is_kept_apart"),
        (OneName, "names_are_unique"),
        (OtherShape, "samples_are_as_promised"),
        (Drifting, "reading_twice_gives_the_same"),
        (StaysAtHome, "it_travels_to_workers"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_defect_is_named_and_no_other(tmp_path, faulty, rule):
    assert faults(faulty, tmp_path) == {rule}


class TestRight(DatasetSuite):
    def make(self, folder):
        write(folder)
        return Right(folder=folder)

    def damage(self, folder):
        damage(folder)
