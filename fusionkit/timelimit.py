"""A limit on how long one sample may take to read."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import TypeVar

from fusionkit.errors import BadSample

T = TypeVar("T")


class TooSlow(BadSample):
    """Raised within a read that takes too long."""


def read_within(seconds: float, read: Callable[[], T]) -> T:
    """What `read` returns, if it does so in time.

    An alarm signal interrupts the read, so it can only do so in the main thread, on systems that have the signal, and
    where the read gives way to signals: Python code, and system calls such as opening a pipe that nobody writes to. A
    read that is stuck inside a C library goes on; see `fusionkit.processes`, which then ends its process.

    Args:
        seconds: the limit; 0 is none.
        read: what to call.

    Raises:
        BadSample: it took longer. The path is that of the error which the read made of the interruption, if any.
    """
    if not seconds or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        return read()
    rang = False
    late = TooSlow(f"reading it takes longer than data.timeout, {seconds:g} s")

    def ring(*_: object) -> None:
        nonlocal rang
        rang = True
        raise late

    handler = signal.signal(signal.SIGALRM, ring)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        value = read()
        if rang:  # whoever caught it has made something of half a read
            raise late
        return value
    except Exception as error:
        if not rang or error is late:
            raise
        raise TooSlow(late.reason, getattr(error, "path", None) or "") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)
