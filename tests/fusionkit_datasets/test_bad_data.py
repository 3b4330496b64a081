"""Every fault, injected into files of every kind of dataset: each is listed with its path and reason, no good sample is
lost, and the statistics are those of the samples that are left."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fusionkit_datasets.arrays import ArrayDataset
from fusionkit_datasets.patches import Patches
from fusionkit_datasets.table import Table
from fusionkit_datasets.urfc import URFC
from PIL import Image

from fusionkit.errors import FusionkitError
from fusionkit.experiment import run
from fusionkit.report import MOST_BAD
from fusionkit.splits import Partition
from fusionkit.survey import Survey, survey

pytestmark = pytest.mark.usefixtures("undrawn")

N = 24
RANDOM = np.random.default_rng(0)


@dataclass
class Injected:
    """A dataset with faults: by the id of the sample, a part of its path and of the reason that have to be told."""

    dataset: Any
    faults: dict[str, tuple[str, str]]
    harmless: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Faults of a part of a sample, which is used without it."""
    absent: dict[str, int] = field(default_factory=dict)
    """How many good samples lack a modality."""


def jpeg(seed: int, size: tuple[int, int] = (100, 100)) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def urfc(root: Path, make: Callable, geotiff: Callable) -> Injected:
    """Tiles and visit files; visits that cannot be used make a place lack them, for the tile is there. A visit file
    that is missing is no fault: the place does not have that modality, which is counted."""
    stems = [f"{i:06d}_{i % 9 + 1:03d}" for i in range(N)]
    for i, stem in enumerate(stems):
        put(root / f"train_image/train/{stem[-3:]}/{stem}.jpg", jpeg(i))
        put(root / f"train_visit/{stem}.txt", f"a{i}\t20181001&{i % 24:02d}\n".encode())
    image = [root / f"train_image/train/{stem[-3:]}/{stem}.jpg" for stem in stems]
    visit = [root / f"train_visit/{stem}.txt" for stem in stems]
    put(image[1], jpeg(1)[:900])
    put(image[2], b"")
    put(image[3], jpeg(3, (90, 100)))
    put(visit[4], b"")
    visit[5].unlink()
    put(visit[6], b"a\t20170101&08\n")
    put(visit[7], b"a\t20181001&08\na\t20181001&99\n")
    wrong = image[8].with_name("000008_077.jpg")
    image[8].rename(wrong)
    visit[8].rename(visit[8].with_name("000008_077.txt"))
    ids = [f"small/train/{stem}" for stem in stems]
    return Injected(
        make(URFC, root=root, cache=root.parent / "cache"),
        {ids[1]: (image[1].name, "cannot be read"), ids[2]: (image[2].name, "cannot be read"),
         ids[3]: (image[3].name, "90 x 100 pixels, not 100 x 100")},
        {ids[4]: (visit[4].name, "empty"), ids[6]: (visit[6].name, "date '20170101'"),
         ids[7]: (visit[7].name, "hour '99'"), "small/train/000008_077": (wrong.name, "class 077")},
        {"image": 0, "visits": 3},
    )  # fmt: skip


def table(root: Path, make: Callable, geotiff: Callable) -> Injected:
    """Images, rasters, arrays and values, a file a cell."""
    frame = pd.DataFrame({"class": [str(i % 3) for i in range(N)], "name": [f"s{i}" for i in range(N)]})
    for i in range(N):
        put(root / f"i{i}.png", b"")
        Image.fromarray(RANDOM.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(root / f"i{i}.png")
        geotiff(root / f"r{i}.tif", RANDOM.normal(size=(2, 16, 16)).astype(np.float32))
        np.save(root / f"a{i}.npy", RANDOM.normal(size=5))
    for column, suffix in {"i": "png", "r": "tif", "a": "npy"}.items():
        frame[column] = [f"{column}{i}.{suffix}" for i in range(N)]
    frame["v1"], frame["v2"] = RANDOM.normal(size=(2, N)).astype(str)
    faults: dict[str, tuple[str, str]] = {}
    for number, (column, suffix) in enumerate({"i": "png", "r": "tif", "a": "npy"}.items()):
        first = 1 + 4 * number
        files = [root / f"{column}{first + k}.{suffix}" for k in range(4)]
        put(files[0], files[0].read_bytes()[: -files[0].stat().st_size // 3])
        put(files[1], b"")
        files[2].unlink()
        if column == "i":
            Image.fromarray(np.zeros((9, 8, 3), np.uint8)).save(files[3])
        elif column == "r":
            geotiff(files[3], np.zeros((2, 15, 16), np.float32))
        else:
            np.save(files[3], np.zeros(6))
        reasons = ["", "empty (0 bytes)", "no such file", "not"]
        faults |= {f"s{first + k}": (files[k].name, reasons[k]) for k in range(4)}
    np.save(root / "a13.npy", np.array([1, np.nan, 3, 4, 5]))
    np.save(root / "a14.npy", np.array([1, np.inf, 3, 4, 5]))
    faults |= {"s13": ("", "NaN"), "s14": ("", "infinity")}
    frame.loc[15, "v1"] = "many"
    frame.loc[16, "v2"] = ""
    faults |= {"s15": ("all.csv", "'many', no number"), "s16": ("all.csv", "missing")}
    (root / "i17.png").unlink()
    os.mkfifo(root / "i17.png")  # a reader would block
    faults["s17"] = ("i17.png", "no such file")
    frame.to_csv(root / "all.csv", index=False)
    inputs = {
        "image": {"type": "image", "column": "i"},
        "raster": {"type": "raster", "column": "r"},
        "array": {"type": "array", "column": "a"},
        "values": {"columns": ["v1", "v2"]},
    }
    return Injected(make(Table, root=root, file="all.csv", inputs=inputs, label="class", id="name"), faults)


def arrays(root: Path, make: Callable, geotiff: Callable) -> Injected:
    """One file for all samples: what is wrong is within it."""
    x, y = RANDOM.normal(size=(N, 5)), RANDOM.normal(size=(N, 2, 4, 4))
    x[3, 2], x[4, 0], y[7, 1, 2, 3], y[8, 0, 0, 0] = np.nan, np.inf, np.nan, 1e300
    np.savez(root / "all.npz", x=x, y=y, label=np.arange(N) % 3)
    data = make(ArrayDataset, root=root, inputs={"x": "all.npz:x", "y": "all.npz:y"}, labels="all.npz:label")
    reasons = {"3": "x holds NaN", "4": "x holds infinity", "7": "y holds NaN", "8": "y holds infinity"}
    return Injected(data, {id: ("", reason) for id, reason in reasons.items()})


def patches(root: Path, make: Callable, geotiff: Callable) -> Injected:
    """Windows of one scene: those over a broken pixel."""
    scene, labels = RANDOM.normal(size=(12, 12, 2)), np.zeros((12, 12), np.int64)
    labels[1:12:3, 1:12:2] = np.arange(24).reshape(4, 6) % 3 + 1
    scene[1, 1, 0] = np.nan
    scene[10, 11, 1] = np.inf
    np.savez(root / "scene.npz", scene=scene, labels=labels)
    data = make(Patches, root=root, inputs={"scene": "scene.npz:scene"}, labels="scene.npz:labels", patch_size=1)
    return Injected(data, {"1_1": ("", ""), "10_11": ("", "infinity")})


FAMILIES = [urfc, table, arrays, patches]


def surveyed(dataset: Any, workers: int = 0, without: tuple[str, ...] = ()) -> tuple[list[str], Survey]:
    index = dataset.index()
    positions = np.array([i for i in np.flatnonzero(index.labelled) if index.ids[i] not in without])
    partition = Partition(positions, positions[:0], positions[:0])
    found = survey(dataset, index, dataset.inputs(), [partition], workers=workers, max_bad=1, timeout=5)
    return list(index.ids), found


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_fault_is_listed_and_no_good_sample_is_lost(
    family: Callable[..., Injected], workers: int, tmp_path: Path, make: Callable, geotiff: Callable
) -> None:
    (tmp_path / "data").mkdir()
    injected = family(tmp_path / "data", make, geotiff)
    ids, found = surveyed(injected.dataset, workers)
    assert {bad.id for bad in found.bad} == injected.faults.keys() | injected.harmless.keys()
    for id, (path, reason) in (injected.faults | injected.harmless).items():
        told = [bad for bad in found.bad if bad.id == id]
        assert any(path in bad.path and reason in bad.reason for bad in told), told
    assert found.absent == (injected.absent or dict.fromkeys(found.absent, 0))
    index = injected.dataset.index()
    expected = {id for id, known in zip(ids, index.labelled, strict=True) if known} - injected.faults.keys()
    assert {ids[i] for i in np.flatnonzero(found.good)} == expected
    _, plain = surveyed(injected.dataset, without=tuple(injected.faults))
    assert found.fingerprint == plain.fingerprint
    for name, statistics in plain.statistics[0].items():  # sums in other chunks
        np.testing.assert_allclose(found.statistics[0][name].mean, statistics.mean, rtol=1e-9, atol=1e-12)


def test_a_run_lists_them_in_its_folder_and_stops_where_they_are_too_many(
    tmp_path: Path, make: Callable, geotiff: Callable
) -> None:
    (tmp_path / "data").mkdir()
    injected = table(tmp_path / "data", make, geotiff)
    encoder = {"encoder": {"name": "mlp", "width": 8, "depth": 1}}
    recipe = {
        "name": "bad",
        "data": {
            "source": "table", "root": str(tmp_path / "data"), "file": "all.csv", "id": "name", "label": "class",
            "inputs": {"image": {"type": "image", "column": "i"}, "array": {"type": "array", "column": "a"}},
            "split": {"test": 0.25, "val": 0.25}, "max_bad": 0.5,
        },
        "modalities": {"image": encoder, "array": encoder},
        "fusion": "concat",
        "train": {"epochs": 1},
    }  # fmt: skip
    done = run(recipe, runs=tmp_path / "runs")
    with (done.path / "bad_samples.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    faults = {id: fault for id, fault in injected.faults.items() if id not in ("s5", "s6", "s7", "s8", "s15", "s16")}
    assert rows.keys() == faults.keys()
    report = (done.path / "report.html").read_text(encoding="utf-8")
    for number, (id, row) in enumerate(rows.items()):
        path, reason = faults[id]
        assert path in row["path"]
        assert reason in row["reason"]
        assert (id in report and path in report) or number >= MOST_BAD
    assert f"{len(faults) - MOST_BAD} more are in bad_samples.csv" in report
    with pytest.raises(FusionkitError, match=rf"{len(faults)} of {N} samples .* more than data.max_bad \(1.0%\)"):
        run(recipe, overrides=["data.max_bad=0.01"], runs=tmp_path / "runs")
