"""`URFC.prepare`: the store that it makes, however often it is killed, and what it says of damage."""

from __future__ import annotations

import csv
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fusionkit_datasets import urfc_blocks, urfc_prepare
from fusionkit_datasets.urfc import URFC
from fusionkit_datasets.urfc_files import find_places, read_tile
from fusionkit_datasets.urfc_make import make_urfc
from fusionkit_datasets.urfc_prepare import prepare_store
from fusionkit_datasets.urfc_visits import count_visits
from PIL import Image

from fusionkit.errors import BadSample, DataError, FusionkitError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "urfc"
    make_urfc(root, places=30, test_places=4, seed=1)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "urfc")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(urfc_prepare, "BLOCK", 4)


def contents(cache: Path) -> dict[str, bytes]:
    """Every file of a cache, the lock aside."""
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*") if path.suffix}


def file(cache: Path, name: str) -> Path:
    (path,) = cache.rglob(name)
    return path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The tiles that were decoded."""
    decoded: list[Path] = []
    monkeypatch.setattr(urfc_blocks, "read_tile", lambda path: (decoded.append(path), read_tile(path))[1])
    return decoded


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_kept_is_what_the_files_say(root: Path, cache: Path, workers: int):
    URFC.prepare(root, cache=cache, workers=workers)
    places, _ = find_places(root)
    assert len(places) == 34
    visits, tiles = np.load(file(cache, "visits.npy")), np.load(file(cache, "tiles.npy"))
    assert (visits.dtype, visits.shape) == (np.uint16, (34, 7, 26, 24))
    assert (tiles.dtype, tiles.shape) == (np.uint8, (34, 3, 100, 100))
    for i, place in enumerate(places):
        np.testing.assert_array_equal(visits[i], count_visits((root / place.visits).read_bytes())[0])
        with Image.open(root / place.image) as image:
            np.testing.assert_array_equal(tiles[i], np.asarray(image).transpose(2, 0, 1))


def test_samples_come_from_the_store(root: Path, cache: Path):
    plain = URFC(root=root, cache=cache.with_name("other"))
    plain.index()
    assert not list(cache.with_name("other").rglob("tiles.npy"))
    URFC.prepare(root, cache=cache, workers=1)
    data = URFC(root=root, cache=cache)
    index = data.index()
    for path in root.rglob("*.jpg"):
        stamp = path.stat()
        path.write_bytes(bytes(stamp.st_size))  # as it was, as far as its stamp tells
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    data = URFC(root=root, cache=cache)
    assert data.index().bad == index.bad == []
    for copy in (data, pickle.loads(pickle.dumps(data))):
        with pytest.raises(BadSample):
            plain.read(0)
        assert copy.read(0)["image"].dtype == np.uint8
        np.testing.assert_array_equal(copy.read(0)["visits"], plain._store.row("visits", 0))


def test_workers_make_no_difference(root: Path, tmp_path: Path):
    for workers in (1, 2):
        URFC.prepare(root, cache=tmp_path / str(workers), workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_index_then_prepare_then_index(root: Path, cache: Path, read: list[Path]):
    """There is one store: each takes what the other made."""
    URFC(root=root, cache=cache).index()
    first = file(cache, "visits.npy").read_bytes()
    URFC.prepare(root, cache=cache, workers=1)
    assert file(cache, "visits.npy").read_bytes() == first
    read.clear()
    before = contents(cache)
    URFC(root=root, cache=cache).index()
    assert contents(cache) == before
    tile = next(root.rglob("*.jpg"))
    os.utime(tile, ns=(0, 0))
    URFC(root=root, cache=cache).index()
    assert read == [tile]
    assert file(cache, "tiles.npy").exists()


def test_bad_lines_and_tiles_are_listed(root: Path, cache: Path):
    places, _ = find_places(root)
    dirty, black, cut, gone = places[1], places[2], places[3], places[5]
    with (root / dirty.visits).open("ab") as visits:
        visits.write(b"nobody\t20171231&00\n\"a, b\n")
    lines = (root / dirty.visits).read_bytes().count(b"\n")
    Image.new("RGB", (100, 100)).save(root / black.image)
    (root / cut.image).write_bytes((root / cut.image).read_bytes()[:300])
    (root / gone.visits).unlink()
    (root / gone.visits).symlink_to(root / "elsewhere")
    answer = str(URFC.prepare(root, cache=cache, workers=2))
    with file(cache, "bad.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [(row["place"], row["file"], row["line"]) for row in rows] == [
        (dirty.id, dirty.visits, str(lines - 1)),
        (dirty.id, dirty.visits, str(lines)),
        (black.id, black.image, ""),
        (cut.id, cut.image, ""),
        (gone.id, gone.visits, ""),
    ]
    for row, reason in zip(rows, ["20171231", "0 tabs", "fully black", "cannot be read", "cannot be"], strict=True):
        assert reason in row["reason"]
    assert "5 bad lines or files at 4 places" in answer

    data = URFC(root=root, cache=cache)
    index = data.index()
    told = [(id, error.line) for id, error in index.bad]
    assert told == [(dirty.id, lines - 1), (dirty.id, lines), (black.id, None), (gone.id, None)]
    assert data.read(2)["image"] is None
    with pytest.raises(BadSample, match="cannot be read"):
        data.read(3)


CHILD = """
import sys
from pathlib import Path
from fusionkit_datasets import urfc_prepare
from fusionkit_datasets.urfc_files import find_places

urfc_prepare.BLOCK = 4
root, cache = map(Path, sys.argv[1:])
tell = lambda *step: print(*step, flush=True)
urfc_prepare.prepare_store(root, find_places(root)[0], cache, tiles=True, workers=2, verify=True, progress=tell)
"""


@pytest.mark.slow
def test_killed_at_any_moment_and_started_again(root: Path, tmp_path: Path):
    draw = random.Random(0)
    places, _ = find_places(root)
    prepare_store(root, places, tmp_path / "whole", tiles=True)
    expected = contents(tmp_path / "whole")
    assert len(expected) == 5
    unfinished = 0
    for number in range(10):
        cache = tmp_path / str(number)
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, root, cache], stdout=subprocess.PIPE, start_new_session=True
        )
        for _ in range(draw.randint(0, 18)):  # of 9 blocks, each read and verified
            child.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):  # the pipe stays open as long as any worker lives
            child.communicate(timeout=draw.uniform(0, 0.02))
        (os.kill if number % 2 else os.killpg)(child.pid, signal.SIGKILL)  # alone, or with its workers
        child.wait()
        unfinished += not list(cache.rglob("manifest.json"))
        prepare_store(root, places, cache, tiles=True, workers=1, verify=True)
        assert contents(cache) == expected
    assert unfinished
