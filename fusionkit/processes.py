"""Work on numbered chunks of samples in processes of our own, which may die or hang and cost no more than one sample.

A loader of torch gives up as soon as one of its processes dies. Here each process notes in shared memory which sample
it is at, so that the one it died or hung at is known; another process does the rest.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from ctypes import c_longlong
from multiprocessing.connection import Connection, wait
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined] # there since 3.4
from typing import Any, Generic, Protocol, TypeVar

from fusionkit.errors import FusionkitError

R = TypeVar("R", covariant=True)

PATIENCE = 2
"""So many times the time limit of a sample, a process may stay at it before it is killed. Before that comes the alarm
of `timelimit`, which knows more."""
_CHANCES = 2
_NOWHERE = -1
_LOOK = 0.5
"""Seconds between two looks at where the processes are."""


class Work(Protocol[R]):
    """What is done with a chunk."""

    def __call__(self, number: int, lost: Mapping[int, str], begins: Callable[[int], None]) -> R:
        """Work on a chunk.

        Args:
            number: of the chunk.
            lost: the samples that are not to be read, and why: a process died or hung at them.
            begins: to be told of each sample before it is read.
        """
        ...


def forks() -> bool:
    """Whether processes begin as copies of this one: where they do not, a script needs to be written for them."""
    return multiprocessing.get_start_method() == "fork"


def in_processes(work: Work[R], chunks: int, processes: int, timeout: float) -> Iterator[R]:
    """What `work` makes of the chunks 0 to `chunks`, in this order however many processes there are.

    A process that stays at a sample for longer than `PATIENCE` times the limit is killed. One that dies is given a
    second chance, for memory may have been short; a sample at which two of them died is lost.

    Args:
        work: travels to the processes.
        chunks: how many.
        processes: how many.
        timeout: limit for one sample in seconds; 0 is none.

    Raises:
        FusionkitError: a process died before it came to any sample.
        Exception: whatever `work` raised.
    """
    waiting = deque(range(chunks))
    lost: dict[int, dict[int, str]] = {}
    deaths: Counter[int] = Counter()
    done: dict[int, R] = {}
    idle: list[_Process[R]] = []
    busy: dict[_Process[R], int] = {}
    given = 0
    try:
        while given < chunks:
            while waiting and len(busy) < processes:
                one = idle.pop() if idle else _Process(work)
                busy[one] = waiting.popleft()
                one.begin(busy[one], lost.get(busy[one], {}))
            ready = wait([one.pipe for one in busy], _LOOK)
            for one, chunk in list(busy.items()):
                if one.pipe in ready:
                    try:
                        done[chunk] = one.answer()
                    except (EOFError, ConnectionError):
                        reason = f"the process that reads it dies {one.cause_of_death()}"
                        deaths[one.sample] += 1
                    else:
                        del busy[one]
                        idle.append(one)
                        continue
                elif one.hangs(PATIENCE * timeout):
                    reason = f"reading it hangs: killed after {PATIENCE} x data.timeout, {timeout:g} s"
                    deaths[one.sample] = _CHANCES
                else:
                    continue
                if one.sample == _NOWHERE:
                    raise FusionkitError(
                        f"a process that was to read the data died before the first sample {one.cause_of_death()}"
                    )
                if deaths[one.sample] >= _CHANCES:
                    lost.setdefault(chunk, {})[one.sample] = reason
                waiting.appendleft(chunk)
                del busy[one]
                one.end()
            while given in done:
                yield done.pop(given)
                given += 1
    finally:
        for one in [*idle, *busy]:
            one.end()


class _Process(Generic[R]):
    """One process, seen from the one that gives the work."""

    def __init__(self, work: Work[R]):
        context = multiprocessing.get_context()
        self.pipe, theirs = context.Pipe()
        self._at = multiprocessing.RawValue(c_longlong, _NOWHERE)
        self.process: Any = context.Process(target=_serve, args=(work, theirs, self.pipe, self._at), daemon=True)
        self.process.start()
        theirs.close()  # or the end of the process would not end the pipe
        self._seen, self._since = _NOWHERE, 0.0

    @property
    def sample(self) -> int:
        """The sample that it is at."""
        return int(self._at.value)

    def begin(self, chunk: int, lost: Mapping[int, str]) -> None:
        self._seen, self._since = _NOWHERE, time.monotonic()
        with suppress(BrokenPipeError):  # it has died, which `answer` will tell
            self.pipe.send((chunk, lost))

    def answer(self) -> R:
        """What it made of its chunk.

        Raises:
            EOFError, ConnectionError: it has died.
            Exception: what the work raised.
        """
        found = self.pipe.recv()
        if isinstance(found, Exception):
            raise found
        return found

    def hangs(self, limit: float) -> bool:
        """Whether it has been at one sample for longer than the limit."""
        if self._seen != self.sample:
            self._seen, self._since = self.sample, time.monotonic()
        return 0 < limit < time.monotonic() - self._since

    def cause_of_death(self) -> str:
        self.process.join(_LOOK)
        code = self.process.exitcode or 0
        return f"({signal.Signals(-code).name})" if code < 0 else f"(exit code {code})"

    def end(self) -> None:
        self.process.kill()
        self.process.join(_LOOK)  # one that waits for a dead disk cannot even be killed
        self.pipe.close()


def _serve(work: Work[Any], pipe: Connection, parents: Connection, at: Any) -> None:
    """What each process does: answer until the pipe is closed."""
    parents.close()  # a copy of it here would keep the pipe open after the parent's end
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent sees to it

    def begins(sample: int) -> None:
        at.value = sample

    with suppress(EOFError, ConnectionError):
        while True:
            number, lost = pipe.recv()
            try:
                answer = work(number, lost, begins)
            except Exception as error:
                answer = _travelling(error)
            pipe.send(answer)


def _travelling(error: Exception) -> Any:
    """An error that keeps its traceback on the way; what cannot be copied is told by its name."""
    traceback = error.__traceback__
    try:
        error = pickle.loads(pickle.dumps(error))  # noqa: S301 - its own copy
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return ExceptionWithTraceback(error, traceback)
