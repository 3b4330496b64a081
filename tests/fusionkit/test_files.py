"""Files that are there whole or not at all."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from fusionkit.files import atomic


def interrupted(path: Path, error: BaseException) -> None:
    with atomic(path) as file:
        file.write(b"half")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk is full")])
def test_an_interrupted_write_leaves_nothing_new(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "former").write_text("whole")
    for name in ("former", "new"):
        with pytest.raises(type(error)):
            interrupted(tmp_path / name, error)
    assert [path.name for path in tmp_path.iterdir()] == ["former"]
    assert (tmp_path / "former").read_text() == "whole"


def test_a_file_is_invisible_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "confusion.csv"
    with atomic(path) as file:
        file.write(b"some")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"some"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_was_there_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("a former one that is longer")
    with atomic(path) as file:
        file.write(b"new")
        assert path.read_text() == "a former one that is longer"
    assert path.read_text() == "new"


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    with atomic(path) as one, atomic(path) as other:
        one.write(b"one")
        other.write(b"other")
    assert path.read_text() == "one"  # whose block ended last
    assert list(tmp_path.iterdir()) == [path]


def _killed_writer(path: Path) -> None:
    with atomic(path) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("whole")
    process = multiprocessing.get_context("fork").Process(target=_killed_writer, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert path.read_text() == "whole"
