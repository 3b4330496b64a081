"""URFC as a dataset: both layouts, dirt, groups, and the cache of counted visits."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from fusionkit_datasets import urfc_blocks, urfc_prepare
from fusionkit_datasets.urfc import URFC
from PIL import Image

from fusionkit.errors import BadSample, DataError
from fusionkit.options import options_model


def jpeg(colour: tuple[int, int, int] = (90, 120, 60), size: tuple[int, int] = (100, 100)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG")
    return file.getvalue()


def line(hour: int = 8, date: str = "20181001") -> bytes:
    return f"0a1b2c3d4e5f6071\t{date}&{hour:02d}\n".encode()


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The small round: three labelled places and a test place, all with different visits."""
    root = tmp_path / "urfc"
    for number, label in [(0, 1), (1, 9), (2, 1)]:
        stem = f"{number:06d}_{label:03d}"
        put(root / f"train_image/train/{label:03d}/{stem}.jpg", jpeg((10 + number, 100, 200)))
        put(root / f"train_visit/{stem}.txt", line(number))
    put(root / "test_image/test/000000.jpg", jpeg((77, 100, 200)))
    put(root / "test_visit/test/000000.txt", line(23))
    return root


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_small_round(root: Path, cache: Path):
    data = URFC(root=root, cache=cache)
    index = data.index()
    assert list(index.ids) == [
        "small/test/000000",
        "small/train/000000_001",
        "small/train/000001_009",
        "small/train/000002_001",
    ]
    assert index.targets.tolist() == [-1, 0, 8, 0]
    assert index.class_names[8] == "hospital"
    assert index.columns["round"].tolist() == ["small"] * 4
    assert index.columns["split"].tolist() == ["test", "train", "train", "train"]
    assert index.columns["place"].tolist()[1] == "000000_001"
    assert index.bad == []
    sample = data.read(2)
    spec = data.inputs()
    assert sample["image"].shape == spec["image"].shape == (3, 100, 100)
    assert sample["image"].dtype == np.uint8
    np.testing.assert_allclose(sample["image"].mean((1, 2)), [11, 100, 200], atol=2)
    assert sample["visits"].shape == spec["visits"].shape == (7, 26, 24)
    assert spec["visits"].counts
    assert sample["visits"].dtype == np.float32
    assert np.argwhere(sample["visits"]).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("parts", [True, False])
def test_large_round_beside_the_small_one(root: Path, cache: Path, parts: bool):
    """Ids collide between rounds; files lie in part folders or flat."""
    put(root / ("train/001/000000_001.jpg" if parts else "train/000000_001.jpg"), jpeg((200, 0, 0)))
    put(root / ("train_part/3/000000_001.txt" if parts else "train_part/000000_001.txt"), line(12, "20181007"))
    put(root / "test/000000.jpg", jpeg((0, 200, 0)))
    put(root / ("test_part/1/000000.txt" if parts else "test_part/000000.txt"), line(13, "20181008"))
    data = URFC(root=root, cache=cache)
    index = data.index()
    assert len(index) == len(set(index.ids)) == 6
    assert list(index.ids)[:2] == ["large/test/000000", "large/train/000000_001"]
    assert index.targets.tolist()[:2] == [-1, 0]
    assert np.argwhere(data.read(0)["visits"]).tolist() == [[0, 1, 13]]
    assert np.argwhere(data.read(1)["visits"]).tolist() == [[6, 0, 12]]
    np.testing.assert_allclose(data.read(1)["image"].mean((1, 2)), [200, 0, 0], atol=2)


def test_flat_small_round(tmp_path: Path, cache: Path):
    put(tmp_path / "train_image/000000_004.jpg", jpeg())
    put(tmp_path / "train_visit/000000_004.txt", line())
    put(tmp_path / "train_image/._000000_004.jpg", b"of another system")
    put(tmp_path / "train_image/Thumbs.db", b"of another system")
    index = URFC(root=tmp_path, cache=cache).index()
    assert list(index.ids) == ["small/train/000000_004"]
    assert index.targets.tolist() == [3]
    assert index.bad == []


def test_class_names_without_data(tmp_path: Path):
    assert len(URFC(root=tmp_path).class_names()) == 9
    assert URFC(root=tmp_path, language="zh").class_names()[3] == "火车站"
    assert set(options_model(URFC).model_fields) == {"root", "cache", "language"}


def test_nothing_there(tmp_path: Path):
    with pytest.raises(DataError, match="no such folder"):
        URFC(root=tmp_path / "none").index()
    put(tmp_path / "photos/a.jpg", jpeg())
    with pytest.raises(DataError, match="expected are train_image/, train_visit/") as error:
        URFC(root=tmp_path).index()
    assert error.value.option == ("root",)


def found(data: URFC) -> tuple[dict[str, int], dict[str, list[BadSample]]]:
    index = data.index()
    bad: dict[str, list[BadSample]] = {}
    for id, error in index.bad:
        bad.setdefault(id, []).append(error)
    return {id: i for i, id in enumerate(index.ids)}, bad


@pytest.mark.parametrize(("colour", "word"), [((0, 0, 0), "black"), ((255, 255, 255), "white")])
def test_blank_tile_is_absent(root: Path, cache: Path, colour: tuple[int, int, int], word: str):
    put(root / "train_image/train/009/000001_009.jpg", jpeg(colour))
    data = URFC(root=root, cache=cache)
    places, bad = found(data)
    assert list(bad) == ["small/train/000001_009"]
    assert word in bad["small/train/000001_009"][0].reason
    assert bad["small/train/000001_009"][0].path.endswith("000001_009.jpg")
    sample = data.read(places["small/train/000001_009"])
    assert sample["image"] is None
    assert sample["visits"] is not None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (jpeg()[:400], "cannot be read"),
        (b"", "cannot be read"),
        (b"GIF89a no tile", "cannot be read"),
        (jpeg(size=(100, 99)), "100 x 99 pixels, not 100 x 100"),
        (jpeg(size=(1, 1)), "1 x 1 pixels"),
    ],
)
def test_broken_tile_is_a_bad_sample(root: Path, cache: Path, content: bytes, reason: str):
    put(root / "train_image/train/009/000001_009.jpg", content)
    data = URFC(root=root, cache=cache)
    places, _ = found(data)
    with pytest.raises(BadSample, match=reason) as error:
        data.read(places["small/train/000001_009"])
    assert error.value.path.endswith("000001_009.jpg")
    assert data.read(places["small/train/000000_001"])["image"] is not None


def test_grey_tile_is_read_as_rgb(root: Path, cache: Path):
    file = io.BytesIO()
    Image.new("L", (100, 100), 50).save(file, "JPEG")
    put(root / "train_image/train/009/000001_009.jpg", file.getvalue())
    data = URFC(root=root, cache=cache)
    places, _ = found(data)
    assert data.read(places["small/train/000001_009"])["image"].shape == (3, 100, 100)


def test_missing_files_are_absent(root: Path, cache: Path):
    (root / "train_visit/000000_001.txt").unlink()
    (root / "train_image/train/009/000001_009.jpg").unlink()
    data = URFC(root=root, cache=cache)
    places, bad = found(data)
    assert len(places) == 4
    assert bad == {}
    assert data.read(places["small/train/000000_001"])["visits"] is None
    assert data.read(places["small/train/000000_001"])["image"] is not None
    assert data.read(places["small/train/000001_009"])["image"] is None
    assert data.read(places["small/train/000001_009"])["visits"] is not None


@pytest.mark.parametrize(
    ("content", "reasons"),
    [
        (b"", ["the visit file is empty"]),
        (b"\n \n", ["the visit file is empty"]),
        (b"no tab\n", ["0 tabs", "no good line"]),
        (b"a\t20170101&00\nb\t20190401&00\n", ["20170101", "20190401", "no good line"]),
    ],
)
def test_visits_without_a_good_line_are_absent(root: Path, cache: Path, content: bytes, reasons: list[str]):
    put(root / "train_visit/000001_009.txt", content)
    for _ in ["counted", "from the cache"]:
        data = URFC(root=root, cache=cache)
        places, bad = found(data)
        assert data.read(places["small/train/000001_009"])["visits"] is None
        assert list(bad) == ["small/train/000001_009"]
        told = [error.reason for error in bad["small/train/000001_009"]]
        assert len(told) == len(reasons)
        assert all(reason in text for reason, text in zip(reasons, told, strict=True))


def test_good_lines_of_a_dirty_file_count(root: Path, cache: Path):
    put(root / "train_visit/000001_009.txt", line(3) + b"broken\n" + line(4) + line(5, "20190401"))
    for _ in ["counted", "from the cache"]:
        data = URFC(root=root, cache=cache)
        places, bad = found(data)
        assert np.argwhere(data.read(places["small/train/000001_009"])["visits"]).tolist() == [[0, 0, 3], [0, 0, 4]]
        assert [(error.line, Path(error.path).name) for error in bad["small/train/000001_009"]] == [
            (2, "000001_009.txt"),
            (4, "000001_009.txt"),
        ]


def test_more_than_fits(root: Path, cache: Path):
    put(root / "train_visit/000001_009.txt", b"a\t20181001&" + b"|".join([b"08"] * 65536))
    put(root / "train_visit/000000_001.txt", b"a\t20181001&" + b"|".join([b"08"] * 65535))
    data = URFC(root=root, cache=cache)
    places, bad = found(data)
    assert data.read(places["small/train/000000_001"])["visits"].max() == 65535
    assert data.read(places["small/train/000001_009"])["visits"] is None
    assert "more than 65535" in bad["small/train/000001_009"][0].reason


def test_nothing_left_of_a_place(root: Path, cache: Path):
    (root / "train_visit/000001_009.txt").unlink()
    put(root / "train_image/train/009/000001_009.jpg", jpeg((0, 0, 0)))
    data = URFC(root=root, cache=cache)
    places, _ = found(data)
    with pytest.raises(BadSample, match="neither a tile nor visits"):
        data.read(places["small/train/000001_009"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("train_image/train/001/000007_010.jpg", "class 010"),
        ("train_image/train/001/000007_000.jpg", "class 000"),
        ("train_image/train/001/000007_002.jpg", "name says class 002, its folder 001"),
        ("train_image/train/000007.jpg", "does not end in a class"),
    ],
)
def test_wrong_label_is_no_label(root: Path, cache: Path, name: str, reason: str):
    put(root / name, jpeg())
    data = URFC(root=root, cache=cache)
    index = data.index()
    id = f"small/train/{Path(name).stem}"
    assert index.targets[list(index.ids).index(id)] == -1
    assert [(bad, reason in error.reason) for bad, error in index.bad] == [(id, True)]


def test_second_file_of_a_place_is_told(root: Path, cache: Path):
    put(root / "train_visit/5/000001_009.txt", line(20))
    data = URFC(root=root, cache=cache)
    places, bad = found(data)
    assert "second file" in bad["small/train/000001_009"][0].reason
    assert np.argwhere(data.read(places["small/train/000001_009"])["visits"]).tolist() == [[0, 0, 1]]


def test_groups(root: Path, cache: Path):
    """Identical counts, not identical bytes; places without visits are on their own."""
    put(root / "train_visit/000001_009.txt", line(5) + line(6))
    put(root / "train_visit/000002_001.txt", b"other\t20181001&05|06\n")
    put(root / "train_image/train/000003_002.jpg", jpeg())
    put(root / "train_image/train/000004_002.jpg", jpeg())
    index = URFC(root=root, cache=cache).index()
    group = dict(zip(index.ids, index.groups.tolist(), strict=True))
    assert group["small/train/000001_009"] == group["small/train/000002_001"]
    assert len(set(group.values())) == len(group) - 1


def test_cache_is_used_and_follows_the_files(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    counted: list[bytes] = []
    count = urfc_blocks.count_visits
    monkeypatch.setattr(urfc_blocks, "count_visits", lambda data: (counted.append(data), count(data))[1])

    def visits() -> list[list[int]]:
        data = URFC(root=root, cache=cache)
        return [np.argwhere(data.read(i)["visits"])[0].tolist() for i in range(len(data.index()))]

    first = visits()
    assert len(counted) == 4
    assert visits() == first
    assert len(counted) == 4

    path = root / "train_visit/000001_009.txt"  # the same size, another time
    put(path, line(9))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
    put(root / "train_visit/000009_009.txt", line(7))
    (root / "train_image/train/001/000002_001.jpg").unlink()
    counted.clear()
    assert visits() == [first[0], first[1], [0, 0, 9], first[3], [0, 0, 7]]
    assert sorted(counted) == sorted([line(9), line(7)])

    assert len(list(cache.rglob("*.npy"))) == len(list(cache.rglob("*.npz"))) == 1  # the earlier one is gone
    assert list(cache.rglob("*.part")) == []

    counted.clear()
    monkeypatch.setattr(urfc_prepare, "VERSION", "of other rules")
    visits()
    assert len(counted) == 5


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("left", [0, 100])
def test_broken_cache_is_built_again(root: Path, cache: Path, suffix: str, left: int):
    data = URFC(root=root, cache=cache)
    data.index()
    before = data.read(0)["visits"]
    (path,) = cache.rglob(f"*{suffix}")
    path.write_bytes(path.read_bytes()[:left])
    data = URFC(root=root, cache=cache)
    data.index()
    np.testing.assert_array_equal(data.read(0)["visits"], before)


def test_cache_that_cannot_be_written(root: Path, tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match="name another folder with `cache`") as error:
        URFC(root=root, cache=tmp_path / "file").index()
    assert error.value.option == ("cache",)


def test_root_is_left_as_it_is(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """So a root that cannot be written to works; the cache is the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    before = sorted(root.rglob("*"))
    URFC(root=root).index()
    assert sorted(root.rglob("*")) == before
    assert len(list((tmp_path / "home/fusionkit").rglob("*.npy"))) == 1


def test_a_copy_in_a_worker_reads_the_same(root: Path, cache: Path):
    data = URFC(root=root, cache=cache)
    data.index()
    expected = data.read(1)
    packed = pickle.dumps(data)
    assert len(packed) < 10_000  # not the counts
    copy = pickle.loads(packed)
    for modality, value in copy.read(1).items():
        np.testing.assert_array_equal(value, expected[modality])


def test_progress(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(urfc_prepare, "BLOCK", 2)
    told: list[tuple[int, int]] = []
    URFC(root=root, cache=cache).index(lambda done, total: told.append((done, total)))
    assert told == [(2, 4), (4, 4)]


def test_unreadable_visits_are_told_and_tried_again(root: Path, cache: Path):
    path = root / "train_visit/000001_009.txt"
    path.unlink()
    path.symlink_to(root / "elsewhere.txt")
    for _ in range(2):
        data = URFC(root=root, cache=cache)
        places, bad = found(data)
        assert "cannot be read" in bad["small/train/000001_009"][0].reason
        assert data.read(places["small/train/000001_009"])["visits"] is None
        assert data.read(places["small/train/000000_001"])["visits"] is not None
    put(root / "elsewhere.txt", line(2))
    data = URFC(root=root, cache=cache)
    places, bad = found(data)
    assert bad == {}
    assert np.argwhere(data.read(places["small/train/000001_009"])["visits"]).tolist() == [[0, 0, 2]]


def test_indexed_again(root: Path, cache: Path):
    data = URFC(root=root, cache=cache)
    data.index()
    data.read(0)
    put(root / "test_visit/test/000000.txt", line(4, "20181002"))
    os.utime(root / "test_visit/test/000000.txt", ns=(0, 0))
    data.index()
    assert np.argwhere(data.read(0)["visits"]).tolist() == [[1, 0, 4]]
