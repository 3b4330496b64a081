"""A read that takes too long is ended, whatever it makes of the interruption."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from fusionkit.errors import BadSample, DataError
from fusionkit.timelimit import read_within


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """One that nobody writes to: opening it blocks."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_what_is_read_in_time_comes_through() -> None:
    assert read_within(60, lambda: "a sample") == "a sample"
    with pytest.raises(DataError, match="is gone"):
        read_within(60, lambda: exec("raise DataError('is gone')", {"DataError": DataError}))


def test_a_blocked_read_is_ended_and_blamed_on_the_limit(pipe: Path) -> None:
    with pytest.raises(BadSample) as told:
        read_within(0.05, pipe.read_bytes)
    assert told.value.reason == "reading it takes longer than data.timeout, 0.05 s"


def test_the_path_is_the_one_that_the_reader_adds_to_every_error(pipe: Path) -> None:
    def read() -> bytes:
        try:
            return pipe.read_bytes()
        except Exception as error:
            raise DataError(f"cannot be read: {error}", pipe) from error

    with pytest.raises(BadSample) as told:
        read_within(0.05, read)
    assert (told.value.path, told.value.reason) == (
        str(pipe),
        "reading it takes longer than data.timeout, 0.05 s",
    )


def test_a_reader_that_swallows_the_interruption_has_read_nothing(pipe: Path) -> None:
    def read() -> bytes:
        try:
            return pipe.read_bytes()
        except BadSample:
            return b"nothing is here"

    with pytest.raises(BadSample, match="takes longer"):
        read_within(0.05, read)


def test_former_alarms_are_put_back() -> None:
    rang: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: rang.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        assert read_within(60, lambda: 7) == 7
        deadline = time.monotonic() + 10
        while not rang and time.monotonic() < deadline:
            time.sleep(0.01)
        assert rang
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_where_no_alarm_can_be_set_reading_goes_on_without(pipe: Path) -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(read_within(0.001, lambda: "read in a thread")))
    thread.start()
    thread.join()
    assert found == ["read in a thread"]
    assert read_within(0, lambda: "without a limit") == "without a limit"
