"""Where the cells of a grid run: in threads of joblib, each of which waits for a process; or on a Dask cluster."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

from joblib import Parallel, delayed

from fusionkit.errors import FusionkitError, RequestError
from fusionkit.grid_work import Job, Outcome, work

_PATIENCE = 30
"""Seconds that a scheduler may take to answer."""


class Backend(Protocol):
    """Where cells run."""

    slots: int
    """How many run at a time."""

    def outcomes(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Run all jobs and yield how each went as it ends, in any order. Closing the iterator stops them."""
        ...


class Local:
    """This machine.

    A thread waits for each process, so that a process that is killed ends no other.

    Args:
        slots: how many cells run at a time.
    """

    def __init__(self, slots: int):
        self.slots = slots

    def outcomes(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        ended = threading.Event()
        parallel = Parallel(n_jobs=self.slots, backend="threading", return_as="generator_unordered", batch_size=1)
        running = parallel(delayed(work)(job, ended.is_set) for job in jobs)
        try:
            yield from running
        finally:
            ended.set()
            with suppress(Exception):
                running.close()


class Dask:
    """The workers of a Dask cluster that is there already, which see the grid's folder under the same path.

    Args:
        address: of the scheduler, such as `tcp://10.0.0.1:8786`.

    Raises:
        RequestError: Dask is not installed, or no scheduler answers.
    """

    def __init__(self, address: str):
        try:
            from distributed import Client
        except ImportError as error:
            raise RequestError(f"a Dask cluster needs more than is installed ({error}); {_EXTRA}") from None
        for name in ("distributed", "distributed.client"):  # what it logs of a lost scheduler is told in a line below
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            self.client: Any = Client(address, timeout=_PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RequestError(f"no Dask scheduler answers at {address}: {told}") from None
        self.slots = sum(self.client.nthreads().values()) or 1

    def outcomes(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        from distributed import CancelledError, as_completed

        # A cell whose worker dies goes on on another; `pure`: the same job of an earlier call is no answer to this one.
        futures = {self.client.submit(work, job, pure=False): job for job in jobs}
        try:
            for future in as_completed(futures, loop=self.client.loop):
                job = futures[future]
                if future.status == "finished":
                    yield future.result()
                elif future.status == "cancelled" or isinstance(future.exception(), CancelledError):
                    raise FusionkitError("the Dask scheduler has gone; start the grid again to go on")
                else:
                    yield Outcome(job.fingerprint, _told(future.exception()), attempts=1)
        finally:
            with suppress(Exception):
                self.client.cancel(list(futures))
                self.client.close()


_EXTRA = "pip install 'fusionkit-geo[dask]'"


def _told(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
