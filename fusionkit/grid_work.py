"""Runs one cell in a process of its own, with its share of the cores and a GPU, and says how it went.

`work` runs where the cell runs: in a thread of the grid, or on the worker of a cluster.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

from filelock import FileLock, Timeout

from fusionkit.errors import RequestError

COMMAND = [sys.executable, "-P", "-m", "fusionkit.grid_child"]
"""What runs a cell; the run folder is its last word."""
_LOOK = 0.1
"""Seconds between two looks at a process."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """What a process is told.

    Args:
        fingerprint: of the cell.
        folder: its run folder, ready; absolute.
        log: where its output is added.
        threads: cores it may use.
        retries: how often it is tried again.
        gpu: whether it uses a GPU where there is one.
        start: the folder that the paths of its recipe are relative to.
    """

    fingerprint: str
    folder: Path
    log: Path
    threads: int
    retries: int
    gpu: bool
    start: Path


@dataclass(frozen=True)
class Outcome:
    """How a cell went.

    Args:
        fingerprint: of the cell.
        reason: why it failed; empty where it is finished.
        attempts: how often it was begun.
        seconds: how long all of them took.
    """

    fingerprint: str
    reason: str
    attempts: int = 0
    seconds: float = 0.0


def work(job: Job, ended: Callable[[], bool] = lambda: False) -> Outcome:
    """Run a cell to its end, trying again as asked; never raises for what happens to the cell.

    Args:
        job: what is to be done.
        ended: asked now and then whether the grid has ended; then the process is killed.
    """
    started, attempts = time.monotonic(), 0
    while True:
        attempts += 1
        try:
            reason, hopeless = _attempt(job, ended)
        except OSError as error:  # no memory to start a process, a full disk
            reason, hopeless = f"cannot be started: {error}", False
        if not reason or hopeless or ended() or attempts > job.retries:
            return Outcome(job.fingerprint, reason, attempts, time.monotonic() - started)


def _attempt(job: Job, ended: Callable[[], bool]) -> tuple[str, bool]:
    """Run a cell once: why it failed, and whether that would be so the next time too."""
    with _one_gpu(job.gpu, ended) as gpu, job.log.open("ab") as log:
        begins = log.tell()
        environment = os.environ | dict.fromkeys(_THREADS, str(job.threads)) | {"PYTHONUNBUFFERED": "1"} | gpu
        process = subprocess.Popen(  # noqa: S603 - our own module
            [*COMMAND, str(job.folder)],
            stdin=subprocess.PIPE,  # closed by the end of this process, which ends that one
            stdout=log,
            stderr=log,
            cwd=job.start,
            env=environment,
            start_new_session=True,
        )
        try:
            while process.poll() is None and not ended():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK)
        finally:
            _end(process)
    code = process.returncode
    if code == 0 and (job.folder / "result.json").is_file():
        return "", False
    if ended():
        return "stopped", True
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed ({name})" + (", perhaps for lack of memory" if name == "SIGKILL" else ""), False
    return _last_words(job.log, begins) or f"ended with exit code {code}", code == RequestError.exit_code


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a process and of those that it started."""
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)  # its loaders too, which may outlive it
        else:
            process.kill()
    process.wait()
    if process.stdin:
        process.stdin.close()


def _last_words(log: Path, begins: int) -> str:
    """The last line that a process wrote: the error."""
    with log.open("rb") as file:
        file.seek(begins)
        lines = file.read().decode("utf-8", "replace").split("\n")
    return next((shorten(line, 300) for line in reversed(lines) if line.strip()), "")


@contextmanager
def _one_gpu(wanted: bool, ended: Callable[[], bool]) -> Iterator[dict[str, str]]:
    """What the environment of a process says of GPUs: the one that it has for itself, as long as this block lasts.

    Files are locked, one a GPU, so that grids and cluster workers of one machine do not take the same one.
    """
    names = gpus() if wanted else []
    if not names:
        yield {}
        return
    folder = Path(tempfile.gettempdir()) / f"fusionkit-gpus-{os.getuid() if hasattr(os, 'getuid') else 'all'}"
    folder.mkdir(exist_ok=True)
    while not ended():
        for name in names:
            lock = FileLock(folder / name.replace("/", "-"), thread_local=False)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield {"CUDA_VISIBLE_DEVICES": name}
            finally:
                lock.release()
            return
        threading.Event().wait(_LOOK)
    yield {}


def gpus() -> Sequence[str]:
    """The GPUs that this process may use, by number or name; CUDA itself is left alone."""
    if (listed := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for part in listed.split(",") if (name := part.strip()) and name != "-1"]
    try:
        told = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return told.stdout.split()
