"""Visit records of URFC as counts: one line a user, `user<TAB>YYYYMMDD&HH|HH|...,YYYYMMDD&HH...`.

The days run from Monday 2018-10-01 to 2019-03-31. Day i and hour h are counted in cell `[i % 7, i // 7, h]`: weekday
(0 is Monday) x week x hour of the day. Repeats accumulate.

What makes counting fast: with numba, a compiled loop over the bytes (`urfc_compiled`). Without it, NumPy: behind the
tab, a good line is made of units of three bytes. `20181001&00|23,` reads `201 810 01& 00| 23,`, and the line's end
takes the place of the last comma. So a file without its users is an array `[units, 3]`, and NumPy looks up whole
columns of it. Either gives up at the first thing wrong; then the good lines are sifted out and counted alone.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

FIRST_DAY = datetime.date(2018, 10, 1)
DAYS = 182
SHAPE = (7, DAYS // 7, 24)
CELLS = DAYS * 24

DATES = [f"{FIRST_DAY + datetime.timedelta(days=day):%Y%m%d}" for day in range(DAYS)]
FIRST_CELLS = {date: (day % 7 * SHAPE[1] + day // 7) * 24 for day, date in enumerate(DATES)}
"""Where the hours of each day begin among the `CELLS`."""

_TAB, _NEWLINE, _AND, _BAR, _COMMA = b"\t\n&|,"

# A date is found by its eight bytes taken as one number, modulo the smallest number that keeps all dates apart.
_WORDS = np.frombuffer("".join(DATES).encode(), "<u8")
_MODULUS = next(m for m in range(DAYS, 1 << 16) if len(np.unique(_WORDS % np.uint64(m))) == DAYS)
_SLOTS = _WORDS % np.uint64(_MODULUS)
_WORD_IN_SLOT = np.zeros(_MODULUS, np.uint64)
_WORD_IN_SLOT[_SLOTS] = _WORDS
_FIRST_CELL_IN_SLOT = np.zeros(_MODULUS, np.int32)
_FIRST_CELL_IN_SLOT[_SLOTS] = list(FIRST_CELLS.values())

# An hour is found by its two bytes taken as one number; anything else leads to a cell below zero.
_HOURS = np.full(1 << 16, -CELLS, np.int32)
_HOURS[np.frombuffer(b"".join(b"%02d" % hour for hour in range(24)), "<u2")] = np.arange(24)

_DAY_28, _DAY_30, _DAY_31 = r"(?:0[1-9]|1\d|2[0-8])", r"(?:0[1-9]|[12]\d|30)", r"(?:0[1-9]|[12]\d|3[01])"
_DATE = rf"(?:20181[02]{_DAY_31}|201811{_DAY_30}|20190[13]{_DAY_31}|201902{_DAY_28})"
_HOUR = r"(?:[01]\d|2[0-3])"
_RECORD = rf"{_DATE}&{_HOUR}(?:\|{_HOUR})*"
_GOOD_LINE = re.compile(rf"[^\t]*\t({_RECORD}(?:,{_RECORD})*)".encode())


@dataclass(frozen=True)
class BadLine:
    """A line that was not counted.

    Args:
        line: its number in the file, from 1.
        reason: what is wrong with it.
    """

    line: int
    reason: str


Parser = Literal["numba", "numpy"]


@cache
def fastest_parser() -> Parser:
    """The compiled loop where numba is installed (and works), else NumPy."""
    try:
        from fusionkit_datasets import urfc_compiled  # noqa: F401
    except (ImportError, RuntimeError):  # numba finds no folder to keep the compiled loop in
        return "numpy"
    return "numba"


def count_visits(data: bytes, parser: Parser | None = None) -> tuple[np.ndarray, list[BadLine]]:
    """Count the visits of one file.

    A line with anything wrong in it is left out whole and reported; the others count. Lines end with `\\n` or `\\r\\n`;
    blank ones mean nothing. User ids are any bytes but tab and newline.

    Args:
        data: the file's content.
        parser: default: the fastest; what is found does not depend on it.

    Returns:
        The counts `[7, 26, 24]` as int64, and the lines left out.
    """
    count = _compiled() if (parser or fastest_parser()) == "numba" else _count_clean
    if data and not data.endswith(b"\n"):
        data += b"\n"
    counts = count(data)
    if counts is not None:
        return counts, []
    good, bad = _sift(data)
    counts = _count(good)
    assert counts is not None, "a line is good by the pattern alone"  # noqa: S101
    return counts, bad


@cache
def _compiled() -> Callable[[bytes], np.ndarray | None]:
    from fusionkit_datasets.urfc_compiled import count_clean

    return count_clean


def _count_clean(data: bytes) -> np.ndarray | None:
    """Count the visits of a file whose last line ends; None if any line is not as it should be."""
    visits = _without_users(data.replace(b"\r\n", b"\n"))
    return None if visits is None else _count(visits)


def _without_users(data: bytes) -> bytes | None:
    """What stands behind the tabs, line ends included; None if a line has no tab, several, or a broken unit."""
    text = np.frombuffer(data, np.uint8)
    tabs, ends = np.flatnonzero(text == _TAB), np.flatnonzero(text == _NEWLINE)
    if len(tabs) != len(ends) or (tabs > ends).any() or (tabs[1:] < ends[:-1]).any() or ((ends - tabs) % 3).any():
        return None
    return b"".join([data[start:stop] for start, stop in zip((tabs + 1).tolist(), (ends + 1).tolist(), strict=True)])


def _count(visits: bytes) -> np.ndarray | None:
    """Count units of three bytes; None if anything in them is wrong."""
    units = len(visits) // 3
    if units == 0:
        return np.zeros(SHAPE, np.int64)
    separator = np.frombuffer(visits, np.uint8)[2::3]
    starts = np.flatnonzero(separator == _AND) - 2
    if len(starts) == 0 or starts[0] != 0:
        return None
    spans = np.diff(starts, append=units)  # units of each record: three of its date, then one an hour

    words = np.ndarray(units - 2, "<u8", visits, strides=(3,))[starts]
    slots = words % np.uint64(_MODULUS)
    if (_WORD_IN_SLOT[slots] != words).any():
        return None
    # Behind a record's last hour stands a comma or a line's end, behind all its others a bar. As many bars as there
    # are others, and none in the wrong place: so none is missing.
    last = separator[starts + spans - 1]
    if ((last != _COMMA) & (last != _NEWLINE)).any():
        return None
    if np.count_nonzero(separator == _BAR) != units - 4 * len(starts):
        return None

    hours = _HOURS.take(np.ndarray(units, "<u2", visits, strides=(3,)))
    cells = np.repeat(_FIRST_CELL_IN_SLOT[slots], spans) + hours
    for unit in range(3):
        cells[starts + unit] = CELLS  # a date is no hour: counted in a cell of no use
    if cells.min() < 0:
        return None
    return np.bincount(cells, minlength=CELLS + 1)[:CELLS].reshape(SHAPE)


def _sift(data: bytes) -> tuple[bytes, list[BadLine]]:
    """Part the good lines, as `_without_users` has them, from the bad ones."""
    good, bad = [], []
    for number, line in enumerate(data.replace(b"\r\n", b"\n").split(b"\n"), start=1):
        if match := _GOOD_LINE.fullmatch(line):
            good.append(match[1] + b"\n")
        elif line.strip():
            bad.append(BadLine(number, _fault(line)))
    return b"".join(good), bad


def _fault(line: bytes) -> str:
    """What is wrong with a line that is not good."""
    fields = line.split(b"\t")
    if len(fields) != 2:
        return f"{len(fields) - 1} tabs instead of one between user and visits"
    for record in fields[1].split(b","):
        date, mark, hours = record.partition(b"&")
        if not mark:
            return f"{_quoted(record)} is no visit; visits read YYYYMMDD&HH|HH"
        if not re.fullmatch(_DATE.encode(), date):
            return f"date {_quoted(date)} is not one from {DATES[0]} to {DATES[-1]}"
        for hour in hours.split(b"|"):
            if not re.fullmatch(_HOUR.encode(), hour):
                return f"hour {_quoted(hour)} is not one from 00 to 23"
    raise AssertionError("the line is good")


def _quoted(text: bytes) -> str:
    shown = text[:20].decode("ascii", "backslashreplace")
    return repr(shown + ("..." if len(text) > 20 else ""))
