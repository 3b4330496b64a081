"""`URFC.prepare`: the store that it makes, however often it is killed, and what it says of damage."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from fusionkit_datasets import urfc_blocks, urfc_prepare
from fusionkit_datasets.urfc import URFC
from fusionkit_datasets.urfc_files import find_places, read_tile
from fusionkit_datasets.urfc_make import make_urfc
from fusionkit_datasets.urfc_prepare import prepare_store
from fusionkit_datasets.urfc_visits import count_visits, fastest_parser
from PIL import Image

from fusionkit.cli import app
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
        visits.write(b'nobody\t20171231&00\n"a, b\n')
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
root, cache, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
tell = lambda *step: print(*step, flush=True)
urfc_prepare.prepare_store(root, find_places(root)[0], cache, tiles=True, workers=workers, verify=True, progress=tell)
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
        words = [sys.executable, "-c", CHILD, root, cache, str(1 + number % 2)]
        child = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
        for _ in range(draw.randint(0, 18)):  # of 9 blocks, each read and verified
            child.stdout.readline()
        time.sleep(draw.uniform(0, 0.02))
        (os.killpg if number % 4 > 1 else os.kill)(child.pid, signal.SIGKILL)  # alone, or with its workers
        child.wait()
        unfinished += not list(cache.rglob("manifest.json"))
        prepare_store(root, places, cache, tiles=True, workers=1, verify=True)
        assert contents(cache) == expected
    assert unfinished


def flip(path: Path, where: int) -> None:
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(("name", "size"), [("visits.npy", 2 * 4368), ("tiles.npy", 30_000)])
def test_damaged_rows_are_noticed_and_mended(root: Path, cache: Path, read: list[Path], name: str, size: int):
    URFC.prepare(root, cache=cache, workers=1)
    expected = contents(cache)
    flip(file(cache, name), 128 + 5 * size + 77)
    flip(file(cache, name), 128 + 9 * size)
    data = URFC(root=root, cache=cache)
    data.index()
    for i in (5, 9):
        with pytest.raises(BadSample, match=f"damaged in row {i}; `fusionkit data prepare urfc` mends it") as error:
            data.read(i)
        assert error.value.path == str(file(cache, name))
    data.read(6)
    read.clear()
    answer = str(URFC.prepare(root, cache=cache, workers=1))
    assert "2 places of the cache were damaged" in answer
    assert len(read) == (2 if name == "tiles.npy" else 0)  # all else is copied
    assert contents(cache) == expected
    assert "were damaged" not in str(URFC.prepare(root, cache=cache, workers=1))


@pytest.mark.parametrize("name", ["facts.npz", "bad.csv", "manifest.json", "visits.npy", "tiles.npy"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "gone"])
def test_damaged_files_are_noticed_and_made_again(root: Path, cache: Path, name: str, damage: str):
    URFC.prepare(root, cache=cache, workers=1)
    expected = contents(cache)
    path = file(cache, name)
    if damage == "gone":
        path.unlink()
    elif damage == "flipped":
        flip(path, 3)
    else:
        path.write_bytes(path.read_bytes()[: -1 if damage == "cut" else 0])
    URFC.prepare(root, cache=cache, workers=1)
    assert contents(cache) == expected


class Stop(Exception):  # noqa: N818 - it is no error
    pass


def stop_after(blocks: int):
    def progress(what: str, done: int, total: int) -> None:
        if done >= 4 * blocks:
            raise Stop

    return progress


@pytest.fixture
def stopped(root: Path, cache: Path) -> Path:
    """A store whose making was stopped after three of nine blocks."""
    with pytest.raises(Stop):
        prepare_store(root, find_places(root)[0], cache, tiles=True, progress=stop_after(3))
    return cache


def test_only_what_is_missing_is_done_again(root: Path, stopped: Path, read: list[Path]):
    told: list[tuple[str, int, int]] = []
    prepare_store(root, find_places(root)[0], stopped, tiles=True, progress=lambda *step: told.append(step))
    assert len(read) == 34 - 12
    assert told[:2] == [("reading", 16, 34), ("reading", 20, 34)]
    assert told[5:7] == [("reading", 34, 34), ("verifying", 4, 34)]


def test_a_run_meanwhile_leaves_what_was_done(root: Path, stopped: Path, read: list[Path]):
    URFC(root=root, cache=stopped).index()
    assert not list(stopped.rglob("tiles.npy")) or file(stopped, "tiles.npy").parent.suffix == ".part"
    read.clear()
    URFC.prepare(root, cache=stopped, workers=1)
    assert len(read) == 34 - 12


def test_rows_lost_in_a_power_cut_are_done_again(root: Path, stopped: Path, tmp_path: Path):
    URFC.prepare(root, cache=tmp_path / "whole", workers=1)
    path = file(stopped, "tiles.npy")
    path.write_bytes(path.read_bytes()[:128] + bytes(34 * 30_000))
    URFC.prepare(root, cache=stopped, workers=1)
    assert contents(stopped) == contents(tmp_path / "whole")


def test_a_disk_that_does_not_keep_what_is_written(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(urfc_blocks, "_write", lambda *_: None)
    with pytest.raises(FusionkitError, match="the disk may be broken"):
        URFC.prepare(root, cache=cache, workers=1)
    assert not list(cache.rglob("manifest.json"))


def test_a_full_disk(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(urfc_blocks, "_write", full)
    with pytest.raises(DataError, match="No space left on device; name another folder with `cache`"):
        URFC.prepare(root, cache=cache, workers=1)


def test_a_killed_worker_is_told(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patched:
        patched.setattr(urfc_prepare, "convert", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        with pytest.raises(FusionkitError, match="a worker process was killed"):
            URFC.prepare(root, cache=cache, workers=2)
    URFC.prepare(root, cache=cache, workers=1)


def test_one_process_waits_for_another(root: Path, cache: Path):
    lock = FileLock(URFC.prepare(root, cache=cache, workers=1).store.path.parent / ".lock")
    lock.acquire()
    told: list[str] = []

    def progress(what: str, done: int, total: int) -> None:
        told.append(what)
        if "waiting" in what:
            lock.release()

    URFC.prepare(root, progress, cache=cache, workers=1)
    assert told[0].startswith("waiting for another process")
    assert told[-1] == "verifying"


def test_what_the_manifest_says(root: Path, cache: Path):
    store = URFC.prepare(root, cache=cache, workers=1).store
    manifest = json.loads((store.path / "manifest.json").read_text())
    assert (manifest["places"], manifest["rows"]) == (34, ["visits", "tiles"])
    for name, expected in manifest["checksums"].items():
        assert hashlib.blake2b((store.path / name).read_bytes(), digest_size=16).hexdigest() == expected
    with np.load(store.path / "facts.npz") as facts:
        visits = np.load(store.path / "visits.npy")
        assert hashlib.blake2b(visits[7].tobytes(), digest_size=16).digest() == facts["sums"][7, 0].tobytes()


def test_the_command(root: Path, cache: Path, capsys: pytest.CaptureFixture[str]):
    def call(*words: object) -> int:
        with pytest.raises(SystemExit) as ended:
            app(["data", "prepare", "urfc", *map(str, words)], prog_name="fusionkit")
        return int(ended.value.code or 0)

    assert call(root, "--cache", cache, "--workers", 1) == 0
    out = capsys.readouterr().out
    assert out.startswith("34 places, visits and tiles, 1.3 MB, all checksums agree: ")
    assert f"visit files are read by {fastest_parser()}\n" in out
    assert call(root / "none", "--cache", cache) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert call(root, "--workers", "0") == 2
    assert capsys.readouterr().err == "error: --workers: should be greater than 0, not 0\n"
