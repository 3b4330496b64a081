"""`patches`: windows equal to `numpy.pad` and a slice; official splits; places that do not fit."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import scipy.io
from fusionkit_datasets.patches import Patches
from rasterio import Affine

from fusionkit.errors import BadSample, DataError

RANDOM = np.random.default_rng(0)
H, W = 9, 12
HSI = RANDOM.normal(size=(H, W, 5))
LIDAR = RANDOM.normal(size=(H, W))
LABELS = RANDOM.integers(0, 4, (H, W)).astype(np.uint8)
SAR = RANDOM.normal(size=(2, H, W)).astype(np.float32)


def raster(path: Path, values: np.ndarray, **profile: Any) -> None:
    count, height, width = values.shape
    profile = {"crs": "EPSG:32617", "transform": Affine(10, 0, 0, 0, -10, 0)} | profile
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(
            path, "w", driver="GTiff", count=count, height=height, width=width, dtype=values.dtype, **profile
        ) as file:
            file.write(values)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    scipy.io.savemat(tmp_path / "a.mat", {"hsi": HSI, "lidar": LIDAR, "labels": LABELS.astype(float)})
    np.save(tmp_path / "first.npy", HSI.transpose(2, 0, 1))
    raster(tmp_path / "sar.tif", SAR)
    raster(tmp_path / "labels.tif", LABELS[None])
    return tmp_path


@pytest.fixture
def patches(root: Path, make):
    def build(**options: Any) -> Patches:
        return make(Patches, **({"root": root, "labels": "a.mat:labels", "patch_size": 5} | options))

    return build


def window(scene: np.ndarray, row: int, column: int, size: int) -> np.ndarray:
    """By padding a scene `[C, H, W]` as a whole; a window's centre is at `size // 2`."""
    padded = np.pad(scene, ((0, 0), (size, size), (size, size)), mode="reflect")
    top, left = row + size - size // 2, column + size - size // 2
    return padded[:, top : top + size, left : left + size]


@pytest.mark.parametrize("size", [1, 4, 5, 9])
def test_windows(size: int, patches):
    inputs = {
        "hsi": "a.mat:hsi",
        "lidar": "a.mat:lidar",
        "sar": "sar.tif",
        "first": {"file": "first.npy", "axes": "chw"},
    }
    data = patches(inputs=inputs, patch_size=size)
    scenes = {"hsi": HSI.transpose(2, 0, 1), "lidar": LIDAR[None], "sar": SAR, "first": HSI.transpose(2, 0, 1)}
    assert {n: s.shape for n, s in data.inputs().items()} == {n: (len(s), size, size) for n, s in scenes.items()}
    index = data.index()
    assert index.window == (size, size)
    assert index.positions is not None
    assert index.positions.tolist() == np.argwhere(LABELS).tolist()
    assert index.targets.tolist() == (LABELS[LABELS > 0] - 1).tolist()
    assert index.class_names == ("1", "2", "3")
    for i, (row, column) in enumerate(np.argwhere(LABELS)):
        assert index.ids[i] == f"{row}_{column}"
        sample = data.read(i)
        for name, scene in scenes.items():
            value = sample[name]
            assert value is not None
            np.testing.assert_array_equal(value, window(scene, row, column, size))


def test_even_windows_reach_further_up_and_left(patches):
    data = patches(inputs={"lidar": "a.mat:lidar"}, patch_size=4)
    index = data.index()
    i = list(index.ids).index(f"{4}_{5}") if LABELS[4, 5] else 0
    row, column = index.positions[i]
    assert data.read(i)["lidar"][0, 2, 2] == LIDAR[row, column]


def test_channels_bands_and_stacks(patches):
    data = patches(
        inputs={
            "some": {"file": "a.mat", "key": "hsi", "axis": "c", "index": [0, 3]},
            "vh": {"file": "sar.tif", "bands": [2]},
            "all": ["sar.tif", "a.mat:lidar"],
        }
    )
    assert [spec.channels for spec in data.inputs().values()] == [2, 1, 3]
    row, column = data.index().positions[7]
    sample = data.read(7)
    np.testing.assert_array_equal(sample["some"], window(HSI.transpose(2, 0, 1)[[0, 3]], row, column, 5))
    np.testing.assert_array_equal(sample["vh"], window(SAR[1:], row, column, 5))
    np.testing.assert_array_equal(sample["all"], window(np.concatenate([SAR, LIDAR[None]]), row, column, 5))


def test_label_maps_of_every_kind(root: Path, patches):
    np.savetxt(root / "labels.csv", LABELS, fmt="%d", delimiter=",")
    for labels in ("labels.tif", {"file": "labels.csv", "header": False}):
        index = patches(inputs={"hsi": "a.mat:hsi"}, labels=labels).index()
        assert index.targets.tolist() == (LABELS[LABELS > 0] - 1).tolist()


def test_nodata_of_a_label_raster_is_unlabelled(root: Path, patches):
    raster(root / "labels.tif", np.where(LABELS == 3, 255, LABELS)[None], nodata=255)
    index = patches(inputs={"hsi": "a.mat:hsi"}, labels="labels.tif", ignore_labels=[]).index()
    assert len(index) == (LABELS != 3).sum()
    assert index.class_names == ("0", "1", "2")


def test_official_split_by_label_maps(root: Path, patches):
    train = np.where(np.arange(W) < 6, LABELS, 0)
    scipy.io.savemat(root / "gt.mat", {"TRLabel": train, "TSLabel": LABELS - train})
    data = patches(inputs={"hsi": "a.mat:hsi"}, labels={"train": "gt.mat:TRLabel", "test": "gt.mat:TSLabel"})
    index = data.index()
    assert index.split is not None
    for part, where in (("train", index.positions[:, 1] < 6), ("test", index.positions[:, 1] >= 6)):
        assert (index.split[where] == part).all()
    assert len(index) == (LABELS > 0).sum()
    assert index.targets.tolist() == [LABELS[row, column] - 1 for row, column in index.positions]


def test_official_split_by_masks(root: Path, patches):
    rows = np.repeat(np.arange(H)[:, None], W, 1)
    np.savez(root / "masks.npz", train=rows < 3, test=rows > 4)
    data = patches(inputs={"hsi": "a.mat:hsi"}, masks={"train": "masks.npz:train", "test": "masks.npz:test"})
    index = data.index()
    expected = np.select([index.positions[:, 0] < 3, index.positions[:, 0] > 4], ["train", "test"], "")
    assert index.split.tolist() == expected.tolist()


def test_columns(root: Path, patches):
    fields = np.arange(H * W).reshape(H, W) // 10
    np.save(root / "fields.npy", fields)
    index = patches(inputs={"hsi": "a.mat:hsi"}, columns={"field": "fields.npy"}).index()
    assert index.columns["field"].tolist() == fields[LABELS > 0].tolist()


def test_nodata(root: Path, patches):
    holes = SAR.copy()
    holes[:, :6, :6] = -99
    raster(root / "holes.tif", holes, nodata=-99)
    optical = HSI.copy()
    optical[:6, :6] = np.nan
    np.save(root / "holes.npy", optical)
    everywhere = np.ones((H, W), np.uint8)
    everywhere[0, 0] = 2
    np.save(root / "labels.npy", everywhere)
    inputs = {"sar": "holes.tif", "optical": "holes.npy"}
    data = patches(inputs=inputs, labels="labels.npy", patch_size=3)
    index = data.index()
    at = {name: i for i, name in enumerate(index.ids)}
    assert data.read(at["2_2"]) == {"sar": None, "optical": None}
    np.testing.assert_array_equal(data.read(at["7_8"])["sar"], SAR[:, 6:9, 7:10])
    with pytest.raises(BadSample, match=r"6 of 18 values are missing .*no `fill`") as raised:
        data.read(at["7_2"] - W)  # row 6 sees row 5
    assert raised.value.path == str(root / "holes.tif")
    filled = patches(
        inputs={"sar": {"file": "holes.tif", "fill": 0}, "optical": {"file": "holes.npy", "fill": -1}},
        labels="labels.npy",
        patch_size=3,
    )
    filled.index()
    np.testing.assert_array_equal(filled.read(at["6_2"])["sar"], np.where(holes == -99, 0, holes)[:, 5:8, 1:4])
    assert (filled.read(at["6_2"])["optical"][:, 0] == -1).all()


def test_nodata_of_an_array(root: Path, patches):
    optical = RANDOM.integers(1, 100, (H, W, 2)).astype(np.uint8)
    optical[:3, :3] = 0
    np.save(root / "o.npy", optical)
    data = patches(inputs={"o": {"file": "o.npy", "nodata": 0, "fill": 0}}, patch_size=3, ignore_labels=[9])
    index = data.index()
    assert data.read(list(index.ids).index("1_1"))["o"] is None
    assert data.read(list(index.ids).index("2_2"))["o"].dtype == np.uint8


def test_a_copy_for_a_worker(patches):
    data = patches(inputs={"hsi": "a.mat:hsi", "sar": "sar.tif"})
    data.index()
    copied = pickle.dumps(data)
    assert len(copied) < 5000
    np.testing.assert_array_equal(pickle.loads(copied).read(3)["hsi"], data.read(3)["hsi"])


@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        (
            {"inputs": {"a": "a.mat:hsi", "b": "first.npy"}},
            ("inputs", "b"),
            r"a.mat:hsi is 9 x 12 .*first.npy is 5 x 9",
        ),
        ({"inputs": {"a": ["a.mat:hsi", "first.npy"]}}, ("inputs", "a"), "`axes`"),
        ({"inputs": {"a": "first.npy"}, "patch_size": 1}, ("labels",), "first.npy is 5 x 9.*a.mat:labels is 9 x 12"),
        ({"inputs": {"a": "a.mat:his"}}, ("inputs", "a"), "did you mean 'hsi'"),
        ({"inputs": {"a": "nowhere.tif"}}, ("inputs", "a"), "no such file"),
        ({"inputs": {"a": "broken.tif"}}, ("inputs", "a"), "cannot be read"),
        ({"inputs": {"a": {"file": "sar.tif", "bands": [3]}}}, ("inputs", "a"), "no band 3"),
        ({"inputs": {"a": {"file": "a.mat", "key": "hsi", "bands": [3]}}}, ("inputs", "a"), "`bands` is for rasters"),
        ({"inputs": {"a": "sar.tif:1"}}, ("inputs", "a"), "no key"),
        ({"inputs": {"a": {"file": "a.mat", "key": "hsi", "axes": "hw"}}}, ("inputs", "a"), "names 2 axes"),
        ({"inputs": {"a": "sar.tif", "b": "moved.tif"}}, ("inputs", "b"), "coordinates are not the same.*gdalwarp"),
        ({"inputs": {"a": "sar.tif"}, "labels": "moved.tif"}, ("labels",), "coordinates"),
        ({"labels": "a.mat:hsi"}, ("labels",), "a map has rows and columns"),
        ({"labels": "nan.npy"}, ("labels",), "no sample has a label"),
        ({"labels": "a.mat:lidar"}, ("labels",), "the labels are no classes"),
        ({"labels": {"file": "a.mat", "key": "labels", "band": 1}}, ("labels",), "`band` is for rasters"),
        (
            {"labels": {"train": "a.mat:labels", "test": "labels.tif"}},
            ("labels",),
            "labelled in more than one of train",
        ),
        ({"masks": {"train": "labels.tif", "test": "a.mat:labels"}}, ("masks", "test"), "in this mask and in another"),
        ({"masks": {"train": "nan.npy"}, "labels": {"train": "labels.tif"}}, ("masks",), "divided already"),
        ({"columns": {"f": "first.npy"}}, ("columns", "f"), "a map has rows and columns"),
        ({"patch_size": 10}, ("patch_size",), "windows of 10 pixels are larger than the scene, 9 x 12"),
        ({"counts": ["b"]}, ("counts",), "no modality 'b'"),
        ({"classes": [1, 2]}, ("classes",), "hold 3"),
    ],
)
def test_refused(options: dict, option: tuple, message: str, root: Path, patches):
    raster(root / "moved.tif", SAR[:1], transform=Affine(10, 0, 20, 0, -10, 0))
    (root / "broken.tif").write_bytes(b"II*\0broken")
    np.save(root / "nan.npy", np.full((H, W), np.nan))
    data = patches(**({"inputs": {"a": "a.mat:hsi"}} | options))
    with pytest.raises(DataError, match=message) as raised:
        data.index()
    assert raised.value.option == option


def test_a_truncated_raster_is_told_before_training(root: Path, patches):
    raster(root / "sar.tif", SAR)
    (root / "sar.tif").write_bytes((root / "sar.tif").read_bytes()[:-200])
    data = patches(inputs={"sar": "sar.tif"})
    with pytest.raises(DataError, match="cannot be read") as raised:
        data.index()
    assert raised.value.option == ("inputs", "sar")
