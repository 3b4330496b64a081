"""The process of a cell, seen from the one that starts it: what it is told, how it may end, and what is recorded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import ANY

import pytest

from fusionkit import grid_work
from fusionkit.grid_work import Job, Outcome, work

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
DONE = "(folder / 'result.json').touch()"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    folder = tmp_path / "cells" / "one"
    folder.mkdir(parents=True)
    return Job("f00d", folder, tmp_path / "one.log", threads=3, retries=0, gpu=False, start=tmp_path)


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch):
    """Have these lines run in the place of a cell; `folder` is its run folder."""

    def child(lines: str) -> None:
        script = (
            f"import os, signal, subprocess, sys, time\nfrom pathlib import Path\nfolder = Path(sys.argv[1])\n{lines}"
        )
        monkeypatch.setattr(grid_work, "COMMAND", [sys.executable, "-c", script])

    return child


def again(job: Job, retries: int) -> Job:
    return Job(job.fingerprint, job.folder, job.log, job.threads, retries, job.gpu, job.start)


def alive(pid: int) -> bool:
    told = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(told.strip()) and not told.startswith("Z")


def test_a_cell_has_its_own_cores_and_its_start(job, child):
    child("print(os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS'], os.getcwd())\n" + DONE)
    outcome = work(job)
    assert (outcome.fingerprint, outcome.reason, outcome.attempts) == ("f00d", "", 1)
    assert job.log.read_text().split() == ["3", "3", str(job.start)]


@pytest.mark.parametrize(
    ("lines", "reason", "attempts"),
    [
        ("print('much'); sys.exit('the disk is full')", "the disk is full", 3),
        ("sys.exit(1)", "ended with exit code 1", 3),
        ("print('train.lr: no number', file=sys.stderr); sys.exit(2)", "train.lr: no number", 1),  # it will be again
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed (SIGKILL), perhaps for lack of memory", 3),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed (SIGSEGV)", 3),
        ("raise MemoryError('no 8 GiB')", "MemoryError: no 8 GiB", 3),
        ("pass", "ended with exit code 0", 3),  # and left no result
    ],
)
def test_a_failure_is_told_and_tried_again_where_that_may_help(job, child, lines, reason, attempts):
    child(lines)
    outcome = work(again(job, 2))
    assert (outcome.reason, outcome.attempts) == (reason, attempts)


def test_an_attempt_that_works_makes_the_earlier_ones_good(job, child):
    child("tried = folder / 'tried'\nif not tried.exists():\n    tried.touch(); sys.exit('not yet')\n" + DONE)
    assert work(again(job, 5)) == Outcome("f00d", "", 2, ANY)
    assert job.log.read_text() == "not yet\n"


def test_a_program_that_is_not_there_is_told(job, monkeypatch):
    monkeypatch.setattr(grid_work, "COMMAND", ["/nowhere/python"])
    assert work(job).reason.startswith("cannot be started: [Errno 2]")


def test_the_end_of_the_grid_ends_a_cell_and_its_loaders(job, child):
    child(
        "loader = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "(folder / 'pids.part').write_text(f'{os.getpid()} {loader.pid}')\n"
        "(folder / 'pids.part').rename(folder / 'pids')\ntime.sleep(600)"
    )
    ended = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work, again(job, 5), ended.is_set)
        while not (job.folder / "pids").exists():
            time.sleep(0.02)
        ended.set()
        assert running.result(timeout=60).reason == "stopped"
    pids = [int(pid) for pid in (job.folder / "pids").read_text().split()]
    while any(map(alive, pids)):  # a loader is the init process's to bury
        time.sleep(0.02)


def test_a_killed_grid_takes_its_cells_with_it(job, tmp_path):
    """By the closed pipe alone: nobody is left to kill them."""
    cell = (
        "import os, sys, time, threading\nfrom pathlib import Path\nfrom fusionkit import grid_child\n"
        "threading.Thread(target=grid_child._end_with_parent, daemon=True).start()\n"
        f"part = Path({str(tmp_path)!r}) / 'part'\npart.write_text(str(os.getpid()))\n"
        "part.rename(part.with_name('pid'))\n"
        "time.sleep(600)"
    )
    grid = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {cell!r}], stdin=subprocess.PIPE, start_new_session=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", grid]) as parent:
        while not (tmp_path / "pid").exists():
            time.sleep(0.02)
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
    while alive(pid):
        time.sleep(0.02)


def test_no_two_cells_have_one_gpu(tmp_path, child, monkeypatch):
    """Three cells and two GPUs; each notes when it has its GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, 5")
    monkeypatch.setattr(grid_work.tempfile, "gettempdir", lambda: str(tmp_path))
    child(
        "gpu = os.environ['CUDA_VISIBLE_DEVICES']\nbusy = folder.parent / f'busy-{gpu}'\nbusy.touch(exist_ok=False)\n"
        f"time.sleep(.3)\nbusy.unlink()\nprint(gpu)\n{DONE}"
    )
    jobs = []
    for name in "abcd":
        folder = tmp_path / "cells" / name
        folder.mkdir(parents=True)
        jobs.append(Job(name, folder, tmp_path / f"{name}.log", 1, 0, name != "d", tmp_path))
    with ThreadPoolExecutor(3) as pool:
        assert [outcome.reason for outcome in pool.map(work, jobs[:3])] == ["", "", ""]
    used = [job.log.read_text().strip() for job in jobs[:3]]
    assert set(used) == {"GPU-a", "5"}
    assert work(jobs[3]).reason == ""
    assert jobs[3].log.read_text().strip() == "GPU-a, 5"  # it asked for none, and is told nothing


@pytest.mark.parametrize(("listed", "names"), [("0,1", ["0", "1"]), ("", []), ("-1", []), ("GPU-8f", ["GPU-8f"])])
def test_the_gpus_that_one_may_use(monkeypatch, listed, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert grid_work.gpus() == names


def test_no_gpu_where_there_is_no_driver(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert grid_work.gpus() == []
