"""Processes that die or hang cost the sample they were at, and nothing else."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from fusionkit_fakes import Perilous

from fusionkit.errors import DataError, FusionkitError
from fusionkit.processes import in_processes
from fusionkit.splits import Partition
from fusionkit.survey import Survey, survey

LIMIT = 1.0
"""Seconds for a sample: more than a process that reads a good one has to wait for its turn on a busy machine."""


def surveyed(folder: Path, perils: Mapping[int, str], workers: int = 0, *, max_bad: float = 1) -> Survey:
    folder.mkdir()
    data = Perilous(folder, perils)
    index = data.index()
    partition = Partition(*(np.flatnonzero(index.split == part) for part in ("train", "val", "test")))
    return survey(data, index, data.inputs(), [partition], workers=workers, max_bad=max_bad, timeout=LIMIT)


REASONS = {
    "pipe": f"reading it takes longer than data.timeout, {LIMIT:g} s",
    "deaf": f"reading it hangs: killed after 2 x data.timeout, {LIMIT:g} s",
    "crash": "the process that reads it dies (SIGKILL)",
}


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_that_block_or_kill_are_listed_and_no_other_is_lost(workers: int, tmp_path: Path) -> None:
    perils = {4: "pipe", 11: "crash", 12: "pipe", 33: "deaf", 59: "crash"}
    found = surveyed(tmp_path / "perils", perils, workers)
    assert np.flatnonzero(~found.good).tolist() == list(perils)
    assert {bad.id: bad.reason for bad in found.bad} == {f"s{i}": REASONS[peril] for i, peril in perils.items()}
    pipe = str(tmp_path / "perils" / "pipe")
    assert [bad.path for bad in found.bad] == [pipe if peril == "pipe" else "" for peril in perils.values()]
    plain = surveyed(tmp_path / "plain", dict.fromkeys(perils, "plainly bad"))
    assert found.statistics == plain.statistics
    assert found.fingerprint == plain.fingerprint


@pytest.mark.parametrize("workers", [0, 2])
def test_a_process_that_dies_once_costs_nothing(workers: int, tmp_path: Path) -> None:
    found = surveyed(tmp_path / "perils", {7: "crash once"}, workers)
    assert (tmp_path / "perils" / "crashed").exists()
    assert found.good.all()
    assert found.bad == []
    assert found.fingerprint == surveyed(tmp_path / "plain", {}).fingerprint


def test_blocked_samples_count_among_the_bad(tmp_path: Path) -> None:
    with pytest.raises(FusionkitError) as told:
        surveyed(tmp_path / "perils", {4: "pipe", 5: "crash"}, 0, max_bad=0.01)
    assert "2 of 60 samples (3.3%) are bad, more than data.max_bad (1.0%)" in str(told.value)
    assert f"s4: {tmp_path}/perils/pipe: {REASONS['pipe']}" in str(told.value)
    assert f"s5: {REASONS['crash']}" in str(told.value)


def test_without_a_limit_slow_reads_are_waited_for(tmp_path: Path) -> None:
    def work(number: int, lost: Mapping[int, str], begins: Callable[[int], None]) -> int:
        begins(number)
        time.sleep(0.6)
        return number

    assert list(in_processes(work, 2, 2, 0)) == [0, 1]


@pytest.mark.parametrize("processes", [1, 3])
def test_answers_come_in_the_order_of_the_chunks(processes: int) -> None:
    def work(number: int, lost: Mapping[int, str], begins: Callable[[int], None]) -> int:
        begins(number)
        time.sleep(0.02 * (5 - number))
        return number * number

    assert list(in_processes(work, 6, processes, 0)) == [0, 1, 4, 9, 16, 25]


def test_errors_of_the_work_come_as_they_are() -> None:
    def work(number: int, lost: Mapping[int, str], begins: Callable[[int], None]) -> int:
        raise DataError("is gone", "/data/x.png", option=("root",))

    with pytest.raises(DataError, match=r"^/data/x\.png: is gone$") as told:
        list(in_processes(work, 1, 1, 0))
    assert told.value.option == ("root",)
    assert "in work" in str(told.value.__cause__)  # where it was raised, for --verbose


def test_an_error_that_cannot_be_copied_is_told_by_name() -> None:
    class Awkward(Exception):  # noqa: N818
        def __init__(self, one: int, other: int):
            super().__init__("is awkward")

    def work(number: int, lost: Mapping[int, str], begins: Callable[[int], None]) -> int:
        raise Awkward(1, 2)

    with pytest.raises(RuntimeError, match="Awkward: is awkward"):
        list(in_processes(work, 1, 1, 0))


def test_a_process_that_dies_before_any_sample_ends_the_work() -> None:
    def work(number: int, lost: Mapping[int, str], begins: Callable[[int], None]) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(FusionkitError, match=r"died before the first sample \(SIGKILL\)"):
        list(in_processes(work, 1, 1, 0))


def test_no_process_is_left_behind() -> None:
    pids: list[int] = []

    def work(number: int, lost: Mapping[int, str], begins: Callable[[int], None]) -> int:
        return os.getpid()

    for pid in in_processes(work, 6, 2, 0):
        pids.append(pid)
        if len(pids) == 3:  # as where too much is wrong and the rest is not wanted
            break
    deadline = time.monotonic() + 60
    while left := set(pids) & {child.pid for child in multiprocessing.active_children()}:  # which buries the dead
        assert time.monotonic() < deadline, left
        time.sleep(0.01)
