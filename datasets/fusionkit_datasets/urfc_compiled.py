"""Visit files of URFC counted by a compiled loop over their bytes. Needs numba: `pip install fusionkit-geo[fast]`."""

from __future__ import annotations

import numpy as np
from numba import njit

from fusionkit_datasets.urfc_visits import CELLS, FIRST_CELLS, SHAPE

_TAB, _NEWLINE, _RETURN, _AND, _BAR, _COMMA = b"\t\n\r&|,"
_RECORD = len("YYYYMMDD&HH,")

# A number is the sum of its digits' values, each by its byte; a byte that is none makes the sum too large for anything.
_UNITS = np.full(256, 1_000_000, np.int64)
_UNITS[np.frombuffer(b"0123456789", np.uint8)] = np.arange(10)
_TENS = np.where(_UNITS < 10, 10 * _UNITS, 1_000_000)

# By year (0 is 2018), month and day; below zero where there is no such day.
_FIRST_CELL = np.full((2, 13, 32), -1, np.int64)
for _date, _cell in FIRST_CELLS.items():
    _FIRST_CELL[int(_date[:4]) - 2018, int(_date[4:6]), int(_date[6:])] = _cell


def count_clean(data: bytes) -> np.ndarray | None:
    """Count the visits `[7, 26, 24]` of a file whose last line ends; None if any line is not as it should be."""
    counts = np.zeros(CELLS, np.int64)
    return counts.reshape(SHAPE) if _count(np.frombuffer(data, np.uint8), counts) else None


@njit(cache=True)
def _count(text: np.ndarray, counts: np.ndarray) -> bool:
    """Add up the visits, in one pass; False as soon as a byte is wrong."""
    i, size = 0, len(text)
    while i < size:
        if text[i] == _NEWLINE:  # a blank line
            i += 1
            continue
        while text[i] != _TAB:
            if text[i] == _NEWLINE:
                return False
            i += 1  # stays in the file, whose last byte is a line's end
        i += 1
        separator = _COMMA
        while separator == _COMMA:
            if i + _RECORD > size or text[i + 8] != _AND:
                return False
            year = 100 * (_TENS[text[i]] + _UNITS[text[i + 1]]) + _TENS[text[i + 2]] + _UNITS[text[i + 3]] - 2018
            month = _TENS[text[i + 4]] + _UNITS[text[i + 5]]
            day = _TENS[text[i + 6]] + _UNITS[text[i + 7]]
            if year < 0 or year > 1 or month > 12 or day > 31:
                return False
            cell = _FIRST_CELL[year, month, day]
            if cell < 0:
                return False
            i += 9
            separator = _BAR
            while separator == _BAR:
                if i + 3 > size:
                    return False
                hour = _TENS[text[i]] + _UNITS[text[i + 1]]
                if hour > 23:
                    return False
                counts[cell + hour] += 1
                separator = text[i + 2]
                i += 3
        if separator == _RETURN:
            if i == size or text[i] != _NEWLINE:
                return False
            i += 1
        elif separator != _NEWLINE:
            return False
    return True
