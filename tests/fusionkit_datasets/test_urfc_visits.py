"""Counting visits: against stored cells, and cell by cell against plain Python on clean and on dirty files."""

from __future__ import annotations

import datetime
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from fusionkit_datasets import urfc_visits

ORACLE = Path(__file__).parents[1] / "oracles" / "urfc_visit2array.pt"


class Parsers:
    """All parsers at once: they must agree on the counts, the lines left out and the reasons."""

    def __init__(self, names: list[urfc_visits.Parser]):
        self.names = names

    def __call__(self, data: bytes) -> tuple[np.ndarray, list[urfc_visits.BadLine]]:
        (counts, bad), *others = (urfc_visits.count_visits(data, name) for name in self.names)
        for other_counts, other_bad in others:
            assert other_counts.dtype == counts.dtype
            np.testing.assert_array_equal(other_counts, counts, err_msg=repr(data))
            assert other_bad == bad, data
        return counts, bad


count_visits = Parsers(["numpy"] if find_spec("numba") is None else ["numpy", "numba"])


def plain(data: bytes) -> tuple[np.ndarray, list[int]]:
    """The format read in the plainest way: the counts, and the numbers of the lines that do not parse."""
    counts, bad = np.zeros((7, 26, 24), np.int64), []
    for number, line in enumerate(data.split(b"\n"), start=1):
        line = line[:-1] if line.endswith(b"\r") else line
        if not line.strip():
            continue
        cells = []
        try:
            _, visits = line.split(b"\t")
            for record in visits.decode("ascii").split(","):
                date, hours = record.split("&")
                if len(date) != 8 or not date.isdigit():
                    raise ValueError(date)
                day = datetime.date(int(date[:4]), int(date[4:6]), int(date[6:]))
                i = (day - datetime.date(2018, 10, 1)).days
                if not 0 <= i < 182:
                    raise ValueError(date)
                for hour in hours.split("|"):
                    if len(hour) != 2 or not hour.isdigit() or int(hour) > 23:
                        raise ValueError(hour)
                    cells.append((i % 7, i // 7, int(hour)))
        except ValueError:
            bad.append(number)
            continue
        for cell in cells:
            counts[cell] += 1
    return counts, bad


def random_line(random: random.Random) -> bytes:
    user = random.choice(
        [
            f"{random.getrandbits(64):016x}",
            "1e10000000000000",
            "用户,1&2|3",
            " ",
            "",
            "0001",
            'a"b\\n',
            "x\x00y",
            "é\x0b",
        ]
    ).encode()
    first = datetime.date(2018, 10, 1)
    records = []
    for _ in range(random.randint(1, 6)):
        day = first + datetime.timedelta(days=random.randrange(182))
        hours = "|".join(f"{random.randrange(24):02d}" for _ in range(random.randint(1, 8)))
        records.append(f"{day:%Y%m%d}&{hours}")
    return user + b"\t" + ",".join(records).encode()


def spoil(line: bytes, random: random.Random) -> bytes:
    """Change, drop or add a byte anywhere, or cut the line short; what comes out may happen to be good."""
    where = random.randrange(len(line) + 1)
    byte = bytes([random.choice(b"0123456789&|,\t\r ;x\xff\x00")])
    return random.choice([line[:where], line[:where] + byte + line[where:], line[:where] + byte + line[where + 1 :]])


def test_stored_cells():
    oracle = torch.load(ORACLE, weights_only=True)
    counts, bad = count_visits(oracle["text"].encode())
    expected = np.zeros(oracle["shape"])
    for cell, value in oracle["nonzero"]:
        expected[cell] = value
    assert counts.shape == (7, 26, 24)
    np.testing.assert_array_equal(counts, expected)
    assert bad == []


def test_repeats_accumulate():
    counts, bad = count_visits(b"a\t20181002&05|05,20181002&05\nb\t20181002&05\n")
    assert counts[1, 0, 5] == 4
    assert counts.sum() == 4
    assert bad == []


def test_every_day_and_hour():
    first = datetime.date(2018, 10, 1)
    for i in range(182):
        day = first + datetime.timedelta(days=i)
        hours = "|".join(f"{hour:02d}" for hour in range(i % 24 + 1))
        counts, bad = count_visits(f"user\t{day:%Y%m%d}&{hours}".encode())
        assert bad == []
        assert counts[day.weekday(), i // 7, : i % 24 + 1].tolist() == [1] * (i % 24 + 1)
        assert counts.sum() == i % 24 + 1


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_clean_files(end: bytes):
    draw = random.Random(1)
    for lines in [1, 2, 3, 50, 400]:
        data = end.join(random_line(draw) for _ in range(lines)) + draw.choice([b"", end])
        counts, bad = count_visits(data)
        np.testing.assert_array_equal(counts, plain(data)[0])
        assert bad == []


def test_dirty_files():
    draw = random.Random(2)
    spoilt = 0
    for _ in range(1500):
        lines = [random_line(draw) for _ in range(draw.randint(1, 8))]
        for _ in range(draw.randint(1, 2)):
            where = draw.randrange(len(lines))
            lines[where] = spoil(lines[where], draw)
        data = draw.choice([b"\n", b"\r\n"]).join(lines) + draw.choice([b"", b"\n", b"\r"])
        counts, bad = count_visits(data)
        expected_counts, expected_bad = plain(data)
        assert [line.line for line in bad] == expected_bad, data
        np.testing.assert_array_equal(counts, expected_counts, err_msg=repr(data))
        spoilt += len(bad)
    assert spoilt > 500


def test_random_bytes():
    draw = random.Random(3)
    for _ in range(3000):
        data = bytes(draw.choice(b"0123\t\n&|,") for _ in range(draw.randint(0, 40)))
        counts, bad = count_visits(data)
        expected_counts, expected_bad = plain(data)
        assert [line.line for line in bad] == expected_bad, data
        np.testing.assert_array_equal(counts, expected_counts)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"no tab at all", "0 tabs instead of one"),
        (b"user\t20181001&00\tmore", "2 tabs instead of one"),
        (b"user\t", "'' is no visit"),
        (b"user\t20181001", "'20181001' is no visit"),
        (b"user\t20181001&00,", "'' is no visit"),
        (b"user\t20180930&00", "date '20180930' is not one from 20181001 to 20190331"),
        (b"user\t20190401&00", "date '20190401' is not one from"),
        (b"user\t20190229&00", "date '20190229'"),
        (b"user\t2018101&00", "date '2018101'"),
        (b"user\t20181001&24", "hour '24' is not one from 00 to 23"),
        (b"user\t20181001&7", "hour '7'"),
        (b"user\t20181001&00|", "hour ''"),
        (b"user\t20181001&00|1\xff", r"hour '1\\xff'"),
        (b"user\t" + b"9" * 1000, "'99999999999999999999...' is no visit"),
    ],
)
def test_bad_line_is_told_and_the_others_count(line: bytes, reason: str):
    counts, bad = count_visits(b"a\t20181001&00\n\n" + line + b"\nb\t20181001&00|01\n")
    assert counts[0, 0, :2].tolist() == [2, 1]
    assert counts.sum() == 3
    assert [found.line for found in bad] == [3]
    assert bad[0].reason.startswith(reason)


def test_one_tab_too_few_and_one_too_many():
    """As many tabs as lines, and yet both lines are bad."""
    for length in range(1, 7):
        tabs = b"u" * length + b"\tx\t20181001&00"
        for lines in ([b"no tab", tabs], [tabs, b"no tab"]):
            counts, bad = count_visits(b"\n".join(lines) + b"\n")
            assert counts.sum() == 0
            assert [found.line for found in bad] == [1, 2]


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n\n  \n"])
def test_nothing_in_the_file(data: bytes):
    counts, bad = count_visits(data)
    assert counts.sum() == 0
    assert bad == []


def test_every_byte_in_every_place():
    """Of a short good file, each byte becomes each other, goes, or is the last."""
    good = b"ab\t20181231&23|00,20190101&09\nc\t20190228&19\n"
    assert count_visits(good)[0].sum() == 4
    for where in range(len(good)):
        for spoilt in [good[:where], good[:where] + good[where + 1 :]] + [
            good[:where] + bytes([byte]) + good[where + 1 :] for byte in range(256)
        ]:
            counts, bad = count_visits(spoilt)
            expected_counts, expected_bad = plain(spoilt)
            assert [line.line for line in bad] == expected_bad, spoilt
            np.testing.assert_array_equal(counts, expected_counts)


def test_every_date_of_eight_digits_about_the_days():
    """No date outside the days counts, whatever tables it is looked up in."""
    for year in (1018, 2017, 2018, 2019, 2020, 3019):
        for month in range(100):
            for day in (0, 1, 10, 28, 29, 30, 31, 32, 99):
                line = f"u\t{year}{month:02d}{day:02d}&00\n".encode()
                assert [found.line for found in count_visits(line)[1]] == plain(line)[1], line


@pytest.mark.skipif(find_spec("numba") is None, reason="numba is not installed")
def test_numba_is_used_where_it_is():
    assert urfc_visits.fastest_parser() == "numba"


@pytest.mark.parametrize("fault", ["sys.modules['numba'] = None", "os.environ['NUMBA_CACHE_LOCATOR_CLASSES'] = 'None'"])
def test_numpy_is_used_where_numba_is_not_or_fails(fault: str):
    code = f"""
import os, sys
{fault}
from fusionkit_datasets.urfc_visits import count_visits, fastest_parser
counts, bad = count_visits(b"a\\t20181001&00\\nb\\n")
print(fastest_parser(), counts.sum(), bad[0].line)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "numpy 1 2\n", done.stderr
