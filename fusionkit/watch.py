"""Which sample each process of a loader is at, seen from the process that trains."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import c_longlong
from typing import Any

from torch.utils.data import get_worker_info

from fusionkit.processes import PATIENCE

_NOWHERE = -1
_LOOK = 0.5
"""Seconds between two looks."""


class Watch:
    """Notes in shared memory of what each loader process reads; ends those that stay at one sample.

    Args:
        workers: how many processes there are.
        timeout: limit for one sample in seconds; a process is killed after `PATIENCE` times that. 0 is none.
    """

    def __init__(self, workers: int, timeout: float):
        self.timeout = timeout
        self._pids = multiprocessing.RawArray(c_longlong, workers)
        self._samples = multiprocessing.RawArray(c_longlong, [_NOWHERE] * workers)
        self._reads = multiprocessing.RawArray(c_longlong, workers)

    def attend(self, worker: int) -> None:
        """Called in each loader process when it begins: its `Samples` then note what they read."""
        self._pids[worker] = os.getpid()
        info: Any = get_worker_info()
        info.dataset.watch = self

    def begins(self, sample: int) -> None:
        """Note, in a loader process, that it is about to read this sample."""
        worker = _worker()
        self._samples[worker] = sample
        self._reads[worker] += 1

    def rests(self) -> None:
        """Note that this process reads nothing."""
        self._samples[_worker()] = _NOWHERE

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Meanwhile, kill processes that hang."""
        over = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(over,), daemon=True)
        if self.timeout:
            keeper.start()
        try:
            yield
        finally:
            over.set()

    def _keep(self, over: threading.Event) -> None:
        seen: dict[int, tuple[tuple[int, ...], float]] = {}
        while not over.wait(_LOOK):
            for worker, pid in enumerate(self._pids):
                note = (pid, self._samples[worker], self._reads[worker])
                before, since = seen.get(worker, ((), 0.0))
                if note != before or self._samples[worker] == _NOWHERE:
                    seen[worker] = (note, time.monotonic())
                elif time.monotonic() - since > PATIENCE * self.timeout:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def at(self, complaint: str) -> int | None:
        """The sample at which a process died, by what torch says of its death; None where it read nothing."""
        pids = re.search(r"\(pid(?:\(s\))? ([\d, ]+)\)", complaint)
        for pid in map(int, pids[1].split(", ") if pids else ()):
            for worker, known in enumerate(self._pids):
                if known == pid and self._samples[worker] != _NOWHERE:
                    return int(self._samples[worker])
        return None


def _worker() -> int:
    """The number of this loader process."""
    info: Any = get_worker_info()
    return int(info.id)
