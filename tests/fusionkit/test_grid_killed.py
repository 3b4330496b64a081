"""Grids that are killed: with real training, on this machine and on a Dask cluster."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_recipe import write_toy

from fusionkit.grids import load_grid

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="kills by signals")]
GRID = "base: toy.yaml\naxes: {fusion: [concat, late, gmu]}\nseeds: 1\n"
KILLS = 5


def write_grid(folder: Path) -> Path:
    write_toy(folder, samples=160, apart=2, batch_size=4, epochs=4)
    (folder / "g.yaml").write_text(GRID)
    return folder


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The current folder, with a grid, its base and its data."""
    monkeypatch.chdir(tmp_path)
    return write_grid(tmp_path)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """The folder of an undisturbed grid."""
    folder = write_grid(tmp_path_factory.mktemp("calm"))
    with begin("--jobs", "2", "--threads", "1", folder=folder) as process:
        told, _ = process.communicate()
    assert process.returncode == 0, told
    return folder / "grids" / "g"


def begin(*words: str, folder: Path | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fusionkit", "grid", "g.yaml", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder)


def wait_for_files(process: subprocess.Popen[str], folder: Path, count: int) -> bool:
    """Wait until so many files were written in a folder, or written anew; whether the process still runs then."""
    before = states(folder)
    while len(states(folder) - before) < count:
        if process.poll() is not None:
            return False
        time.sleep(0.02)
    return True


def states(folder: Path) -> set[tuple[str, int]]:
    found = set()
    for path in folder.rglob("*"):
        try:
            found.add((str(path), path.stat().st_mtime_ns))
        except FileNotFoundError:  # renamed meanwhile
            continue
    return found


def results(folder: Path) -> dict[str, int]:
    """Which cells are finished, and when they were."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("cells/*/result.json")}


def same_results(one: Path, other: Path) -> None:
    """All tables and answers of two grids are the same, byte for byte."""
    for name in ("table.csv", "table.md", "table.tex"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    answers = [{p.relative_to(f): p.read_bytes() for p in f.glob("cells/*/**/*.csv")} for f in (one, other)]
    answers = [{p: b for p, b in found.items() if p.name != "metrics.csv"} for found in answers]  # has seconds
    assert answers[0] == answers[1]


def test_a_grid_killed_five_times_leaves_what_an_undisturbed_one_leaves(toy, calm):
    draw, killed, finished = random.Random(4), 0, {}
    folder = toy / "grids" / "g"
    while killed < KILLS:
        process = begin("--jobs", "2", "--threads", "1")
        if not wait_for_files(process, folder, draw.randint(3, 20)):  # an undisturbed grid writes about 100
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed += 1
        assert results(folder).items() >= finished.items()  # what was finished stays as it was
        finished = results(folder)
    assert killed == KILLS
    last = begin("--jobs", "2", "--threads", "1")
    told, _ = last.communicate()
    assert last.returncode == 0, told
    assert results(folder).items() >= finished.items()
    assert len(results(folder)) == len(list((folder / "cells").glob("*/"))) == 3
    same_results(calm, folder)


@pytest.fixture
def cluster(toy):
    """A Dask scheduler and two worker processes on this machine: the scheduler's address and the workers."""
    pytest.importorskip("distributed")
    where = toy / "scheduler.json"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    dask = [sys.executable, "-m", "distributed.cli.dask_{}"]
    words = {
        "scheduler": ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(where)],
        "worker": ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--scheduler-file", str(where)],
    }
    begun = []
    for what in ("scheduler", "worker", "worker"):
        command = [word.format(what) for word in dask] + words[what]
        log = (toy / f"{what}.log").open("a")
        begun.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        while not where.exists():
            time.sleep(0.05)
    yield json.loads(where.read_text())["address"], begun[1:]
    for process in begun:
        process.kill()
        process.wait()


def test_a_dask_cluster_that_loses_a_worker_loses_nothing(toy, calm, cluster):
    address, workers = cluster
    folder = toy / "grids" / "g"
    process = begin("--backend", "dask", "--scheduler", address)
    while len(list(folder.glob("cells/*/checkpoints/*/last.ckpt"))) < 2 and process.poll() is None:
        time.sleep(0.05)
    workers[0].send_signal(signal.SIGKILL)
    told, _ = process.communicate()
    assert process.returncode == 0, told
    assert len(results(folder)) == 3
    same_results(calm, folder)
    grid = load_grid("g.yaml")
    lines = [line for line in told.splitlines() if line[:1].isdigit()]
    assert sorted(line.split("  ")[1].removesuffix(":") for line in lines) == sorted(cell.title for cell in grid.cells)
