"""Training tells which sample a loader process was at when it died, or what blocks; it never hangs."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from fusionkit_fakes import Cat, Conv, Entropy, Linear, Perilous
from lightning.fabric import Fabric
from rich.console import Console

from fusionkit.errors import FusionkitError
from fusionkit.evaluation import evaluate, in_order
from fusionkit.flow import Task
from fusionkit.loading import Batches, Loader, Samples
from fusionkit.model import Blueprint
from fusionkit.progress import Progress
from fusionkit.sections import Train
from fusionkit.trainer import Fit, fit

pytestmark = pytest.mark.usefixtures("nobody_left")
TASK = Task("classification", ("a", "b", "c"), (1, 1, 1))
PROGRESS = Progress(Console(file=StringIO()))


@pytest.fixture
def nobody_left() -> Iterator[None]:
    """End what a failed training leaves: torch would do so at the next collection of garbage, with 5 s for each."""
    yield
    for child in multiprocessing.active_children():
        child.terminate()


class AfterEpoch:
    """Makes a file when the first epoch is over."""

    def __init__(self, file: Path):
        self.file = file

    def on_epoch_end(self, job: Fit) -> None:
        self.file.touch()


def a_fit(folder: Path, perils: dict[int, str], workers: int, timeout: float) -> Fit:
    toy = Perilous(folder, perils, from_when=folder / "now")
    inputs = {name: spec for name, spec in toy.inputs().items() if name != "steps"}
    index = toy.index()
    return Fit(
        name="toy",
        model=Blueprint(inputs, {"image": Conv, "vector": partial(Linear)}, Cat, Cat, TASK).build({}),
        losses={"entropy": (Entropy(TASK), 1.0)},
        samples=Samples(toy, index.targets, inputs, ids=index.ids, timeout=timeout),
        train=np.flatnonzero(index.split == "train"),
        val=np.flatnonzero(index.split == "val"),
        ids=index.ids,
        settings=Train(epochs=3),
        batch_size=8,
        workers=workers,
        seed=0,
        folder=folder,
    )


def trained(job: Fit) -> None:
    fit(job, Fabric(accelerator="cpu", devices=1), PROGRESS, [AfterEpoch(job.folder / "now")])


@pytest.mark.parametrize("sample", [3, 10], ids=["train", "val"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_blocks_in_epoch_2_is_named_with_its_path(workers: int, sample: int, tmp_path: Path) -> None:
    job = a_fit(tmp_path, {sample: "pipe"}, workers, timeout=1)
    with pytest.raises(FusionkitError) as told:
        trained(job)
    assert job.epoch == 1
    assert str(told.value) == (
        f"sample s{sample} was good and now is not: {tmp_path}/pipe: reading it takes longer than data.timeout, 1 s"
    )


@pytest.mark.parametrize("sample", [3, 10], ids=["train", "val"])
def test_a_process_that_dies_in_epoch_2_is_told_with_its_sample(sample: int, tmp_path: Path) -> None:
    job = a_fit(tmp_path, {sample: "crash"}, 2, timeout=0)
    with pytest.raises(FusionkitError) as told:
        trained(job)
    assert job.epoch == 1
    assert str(told.value) == (
        f"a process of the loader died while it read sample s{sample}: memory was short, which "
        "a lower data.num_workers mends, or the file makes its reader crash"
    )


def test_a_process_that_hears_no_signal_is_killed(tmp_path: Path) -> None:
    with pytest.raises(FusionkitError, match=r"while it read sample s3: .*, or the read hung for 2 x data\.timeout"):
        trained(a_fit(tmp_path, {3: "deaf"}, 2, timeout=1))


def test_answers_of_the_test_samples_meet_the_same(tmp_path: Path) -> None:
    job = a_fit(tmp_path, {12: "crash"}, 1, timeout=0)
    fabric = Fabric(accelerator="cpu", devices=1)
    objective = fit(job, fabric, PROGRESS)
    (tmp_path / "now").touch()
    with pytest.raises(FusionkitError, match="while it read sample s12"):
        evaluate(objective, in_order(job.samples, np.array([12, 13, 14]), fabric, 2, 1), fabric, job.samples.targets)


def test_a_process_between_two_samples_may_stay_there(tmp_path: Path) -> None:
    job = a_fit(tmp_path, {}, 1, timeout=0.5)
    seen = []
    for batch in Loader(job.samples, Batches(np.arange(12), 3, seed=0), 1):
        time.sleep(1.2)  # twice the limit, and more
        seen += batch.index.tolist()
    assert sorted(seen) == list(range(12))
