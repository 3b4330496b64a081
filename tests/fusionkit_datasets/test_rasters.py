"""`rasters`: windows equal to slices of the arrays that were written; what is missing; files that are not as said."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from fusionkit_datasets.rasters import Rasters
from rasterio import Affine
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform

from fusionkit.errors import BadSample, DataError
from fusionkit.loading import read_checked

RANDOM = np.random.default_rng(0)
OPTICAL = RANDOM.integers(1, 9000, (3, 40, 40)).astype(np.int16)  # 10 m: 400 x 400 m
SAR = RANDOM.normal(-12, 3, (2, 20, 20)).astype(np.float32)  # 20 m
DSM = RANDOM.normal(300, 9, (1, 80, 80)).astype(np.float32)  # 5 m
CLASSES = RANDOM.integers(0, 4, (1, 20, 20)).astype(np.uint8)  # 20 m
INPUTS = {"optical": "optical.tif", "sar": "sar.tif", "dsm": "dsm.tif"}


@pytest.fixture
def root(tmp_path: Path, geotiff) -> Path:
    geotiff(tmp_path / "optical.tif", OPTICAL, tiled=True, blockxsize=16, blockysize=16)
    geotiff(tmp_path / "sar.tif", SAR, pixel=20)
    geotiff(tmp_path / "dsm.tif", DSM, pixel=5)
    geotiff(tmp_path / "labels.tif", CLASSES, pixel=20)
    return tmp_path


@pytest.fixture
def rasters(root: Path, make):
    def build(**options: Any) -> Rasters:
        return make(Rasters, **({"root": root, "labels": "labels.tif", "ignore_labels": [0], "window": 80} | options))

    return build


def points(path: Path, where: list[tuple[float, float]], labels: list[str], crs: str = "EPSG:32617") -> Path:
    features = [
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": point}, "properties": {"label": label}}
        for point, label in zip(where, labels, strict=True)
    ]
    named = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": named, "features": features}))
    return path


def window(scene: np.ndarray, top: int, left: int, size: int) -> np.ma.MaskedArray:
    """By padding the scene as a whole."""
    around = ((0, 0), (size, size), (size, size))
    values, outside = np.pad(scene, around), np.pad(np.zeros(scene.shape, bool), around, constant_values=True)
    at = slice(None), slice(top + size, top + 2 * size), slice(left + size, left + 2 * size)
    return np.ma.MaskedArray(values[at], outside[at])


def same(value: np.ndarray | None, expected: np.ma.MaskedArray) -> None:
    assert value is not None
    assert isinstance(value, np.ma.MaskedArray) == bool(expected.mask.any())
    np.testing.assert_array_equal(np.ma.getmaskarray(value), expected.mask)
    np.testing.assert_array_equal(np.asarray(value), expected.data)
    assert value.dtype == expected.dtype


def test_each_source_at_its_own_resolution(rasters):
    data = rasters(inputs=INPUTS)
    assert {n: s.shape for n, s in data.inputs().items()} == {
        "optical": (3, 8, 8),
        "sar": (2, 4, 4),
        "dsm": (1, 16, 16),
    }
    index = data.index()
    rows, columns = np.nonzero(CLASSES[0])
    assert index.ids == [f"{row}_{column}" for row, column in zip(rows, columns, strict=True)]
    assert index.targets.tolist() == (CLASSES[CLASSES > 0] - 1).tolist()
    assert index.class_names == ("1", "2", "3")
    assert index.window == (8, 8)
    # The middle of a pixel of 20 m is a corner of pixels of 10 m: row 2 r + 1.
    assert index.positions.tolist() == [[2 * r + 1, 2 * c + 1] for r, c in zip(rows, columns, strict=True)]
    for i, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        sample = data.read(i)
        same(sample["optical"], window(OPTICAL, 2 * row + 1 - 4, 2 * column + 1 - 4, 8))
        same(sample["sar"], window(SAR, row - 2, column - 2, 4))
        same(sample["dsm"], window(DSM, 4 * row + 2 - 8, 4 * column + 2 - 8, 16))


def test_window_in_pixels_of_a_modality(rasters):
    data = rasters(inputs=INPUTS, window={"pixels": 5, "of": "sar"})
    assert {n: s.shape[1:] for n, s in data.inputs().items()} == {"optical": (10, 10), "sar": (5, 5), "dsm": (20, 20)}
    index = data.index()
    assert index.window == (5, 5)
    assert index.positions.tolist() == np.argwhere(CLASSES[0]).tolist()


def test_stride_and_bands(rasters):
    labels = {"file": "labels.tif", "stride": 3}
    data = rasters(inputs={"optical": {"file": "optical.tif", "bands": [3, 1]}}, labels=labels)
    index = data.index()
    expected = [(r, c) for r in range(0, 20, 3) for c in range(0, 20, 3) if CLASSES[0, r, c]]
    assert index.ids == [f"{row}_{column}" for row, column in expected]
    row, column = expected[9]
    same(data.read(9)["optical"], window(OPTICAL[[2, 0]], 2 * row - 3, 2 * column - 3, 8))


def test_missing_pixels(root: Path, rasters, geotiff):
    holes = DSM.copy()
    holes[:, :, :40] = -999
    holes[0, 60, 60] = np.nan
    geotiff(root / "dsm.tif", holes, pixel=5, nodata=-999)
    points(root / "p.geojson", [(1100, 1800), (1200, 1800), (1300, 1700), (1300, 1850)], ["a", "b", "a", "b"])
    options = {"labels": "p.geojson", "window": 40}
    data = rasters(inputs={"optical": "optical.tif", "dsm": "dsm.tif"}, **options)
    index = data.index()
    first, second, third, fourth = (data.read(i)["dsm"] for i in range(4))
    assert first is None, "wholly nodata is absent"
    assert second.mask[0, :, :4].all()
    assert not second.mask[0, :, 4:].any()
    assert (second.data[0, :, :4] == 0).all()
    assert np.argwhere(third.mask).tolist() == [[0, 4, 4]]
    assert not isinstance(fourth, np.ma.MaskedArray)
    assert all(isinstance(read_checked(data, i, data.inputs()), dict) for i in range(len(index)))
    filled = rasters(inputs={"optical": "optical.tif", "dsm": {"file": "dsm.tif", "fill": -1}}, **options)
    filled.index()
    assert filled.read(0)["dsm"] is None
    value = filled.read(1)["dsm"]
    assert type(value) is np.ndarray
    np.testing.assert_array_equal(value[0, :, :4], -1)
    np.testing.assert_array_equal(value[0, :, 4:], second.data[0, :, 4:])
    alone = rasters(inputs={"dsm": "dsm.tif"}, **options)
    alone.index()
    with pytest.raises(BadSample, match="no source has a measurement"):
        alone.read(0)


def test_nodata_of_the_recipe_and_of_a_mask(root: Path, rasters, geotiff):
    zeros = OPTICAL.copy()
    zeros[:, :20] = 0
    geotiff(root / "optical.tif", zeros)
    mask = np.full((20, 20), 255, np.uint8)
    mask[:10] = 0
    with rasterio.open(root / "sar.tif", "r+") as file:
        file.write_mask(mask)
    points(root / "p.geojson", [(1200, 1800), (1200, 1900)], ["a", "b"])
    data = rasters(inputs={"o": {"file": "optical.tif", "nodata": 0}, "s": "sar.tif"}, labels="p.geojson")
    data.index()
    sample = data.read(0)
    assert sample["o"].mask[:, :4].all()
    assert not sample["o"].mask[:, 4:].any()
    assert sample["s"].mask[:, :2].all()
    assert not sample["s"].mask[:, 2:].any()
    with pytest.raises(BadSample):
        data.read(1)


def test_sources_of_another_crs(root: Path, rasters, geotiff):
    (left,), (top,) = transform("EPSG:32617", "EPSG:32616", [1000], [2000])
    far = RANDOM.normal(size=(1, 90, 90)).astype(np.float32)
    geotiff(root / "far.tif", far, pixel=10, corner=(left - 100, top + 100), crs="EPSG:32616")
    points(root / "p.geojson", [(1203, 1797)], ["a"])
    data = rasters(inputs={"optical": "optical.tif", "far": "far.tif"}, labels="p.geojson")
    data.index()
    (x,), (y,) = transform("EPSG:32617", "EPSG:32616", [1203], [1797])
    size = data.inputs()["far"].shape[1]
    row, column = (top + 100 - y) / 10 - size / 2, (x - left + 100) / 10 - size / 2
    same(data.read(0)["far"], window(far, round(row), round(column), size))


def test_a_common_grid(root: Path, rasters, geotiff):
    points(root / "p.geojson", [(1200, 1800), (1020, 1980)], ["a", "b"])
    whole = {"file": "optical.tif", "resampling": "nearest"}
    inputs = {"optical": whole, "sar": "sar.tif", "dsm": {"file": "dsm.tif", "resampling": "average"}}
    data = rasters(inputs=inputs, labels="p.geojson", grid={"resolution": 10, "resampling": "bilinear"})
    assert {s.shape[1:] for s in data.inputs().values()} == {(8, 8)}
    data.index()
    sample = data.read(0)
    same(sample["optical"], window(OPTICAL, 16, 16, 8))
    averaged = DSM.reshape(1, 40, 2, 40, 2).mean((2, 4))
    np.testing.assert_allclose(sample["dsm"], averaged[:, 16:24, 16:24], rtol=1e-5)
    with (
        rasterio.open(root / "sar.tif") as file,
        WarpedVRT(
            file,
            transform=from_origin(1000, 2000, 10, 10),
            width=40,
            height=40,
            resampling=rasterio.enums.Resampling.bilinear,
        ) as warped,
    ):
        np.testing.assert_allclose(sample["sar"], warped.read()[:, 16:24, 16:24])
    corner = data.read(1)
    assert np.ma.getmaskarray(corner["sar"])[0, :, 0].all(), "outside is missing"
    assert not np.ma.getmaskarray(corner["sar"])[0, 2:, 2:].any()


def test_a_rotated_source(root: Path, rasters, geotiff):
    turned = Affine(7, 7, 1000, 7, -7, 2000)
    geotiff(root / "sar.tif", np.ones((1, 60, 60), np.float32), transform=turned)
    points(root / "p.geojson", [(1200, 1800)], ["a"])
    inputs = {"optical": "optical.tif", "sar": "sar.tif"}
    with pytest.raises(DataError, match="rotated") as raised:
        rasters(inputs=inputs, labels="p.geojson").inputs()
    assert raised.value.option == ("inputs", "sar")
    data = rasters(inputs=inputs, labels="p.geojson", grid={"resolution": 10, "resampling": "nearest"})
    data.index()
    assert (np.asarray(data.read(0)["sar"]) == 1).any()


def test_scenes(root: Path, rasters, geotiff):
    others = OPTICAL[:, :30, :30] + 1
    geotiff(root / "rgb" / "one_rgb.tif", OPTICAL)
    geotiff(root / "rgb" / "two_rgb.tif", others, corner=(1350, 2000))  # overlaps the first by 50 m
    geotiff(root / "height" / "one.tif", DSM, pixel=5)
    where = [(1100, 1900), (1380, 1900), (1500, 1900), (1600, 1990)]
    points(root / "p.geojson", where, ["a", "b", "a", "b"])
    inputs = {"rgb": "rgb/{scene}_rgb.tif", "height": "height", "sar": "sar.tif"}
    data = rasters(inputs=inputs, labels="p.geojson")
    index = data.index()
    assert index.columns["scene"].tolist() == ["one", "one", "two", "two"]
    assert index.positions.tolist() == [[10, 10], [10, 38], [10, 50], [1, 60]]
    same(data.read(2)["rgb"], window(others, 6, 11, 8))
    assert data.read(0)["height"] is not None
    assert data.read(2)["height"] is None, "a scene without a file"
    assert data.read(2)["sar"] is None, "a place that the source does not reach"


def test_scenes_of_different_crs_are_apart(root: Path, rasters, geotiff):
    geotiff(root / "s" / "one.tif", OPTICAL)
    geotiff(root / "s" / "two.tif", OPTICAL, crs="EPSG:32618")
    geotiff(root / "l" / "one.tif", CLASSES, pixel=20)
    geotiff(root / "l" / "two.tif", CLASSES, pixel=20, crs="EPSG:32618")
    data = rasters(inputs={"o": "s/*.tif"}, labels="l/{scene}.tif")
    index = data.index()
    assert len(set(index.ids)) == len(index) == 2 * (CLASSES > 0).sum()
    one = index.columns["scene"] == "one"
    assert index.positions[~one, 0].min() - index.positions[one, 0].max() >= 1000 * 8
    np.testing.assert_array_equal(data.read(0)["o"].data, data.read(int(one.sum()))["o"].data)


@pytest.mark.parametrize("damage", ["truncated", "empty", "no crs", "other bands", "other pixels", "text"])
def test_a_bad_file_of_one_scene_is_quarantined(damage: str, root: Path, rasters, geotiff):
    for scene, left in (("a", 1000), ("b", 2000)):
        geotiff(root / "rgb" / f"{scene}.tif", OPTICAL, corner=(left, 2000))
        geotiff(root / "dsm" / f"{scene}.tif", DSM, pixel=5, corner=(left, 2000))
    points(root / "p.geojson", [(1200, 1800), (2200, 1800)], ["a", "b"])
    bad = root / "dsm" / "b.tif"
    if damage == "truncated":
        bad.write_bytes(bad.read_bytes()[: -DSM.nbytes // 2])
    elif damage == "empty":
        bad.write_bytes(b"")
    elif damage == "text":
        bad.write_bytes(b"no raster")
    elif damage == "no crs":
        geotiff(bad, DSM, pixel=5, crs=None, corner=(2000, 2000))
    elif damage == "other bands":
        geotiff(bad, np.concatenate([DSM, DSM]), pixel=5, corner=(2000, 2000))
    else:
        geotiff(bad, DSM, pixel=2.5, corner=(2000, 2000))
    data = rasters(inputs={"rgb": "rgb/{scene}.tif", "dsm": "dsm/{scene}.tif"}, labels="p.geojson")
    index = data.index()
    assert index.columns["scene"].tolist() == ["a", "b"]
    assert data.read(0)["dsm"] is not None
    with pytest.raises(BadSample) as raised:
        data.read(1)
    assert raised.value.path == str(bad)
    expected = {
        "truncated": "cannot be read",
        "empty": "0 bytes",
        "text": "cannot be read",
        "no crs": "no CRS",
        "other bands": "2 bands, not 1",
        "other pixels": "2.5 x 2.5, not 5 x 5",
    }
    assert expected[damage] in raised.value.reason


def test_a_bad_reference_of_one_scene_is_listed(root: Path, rasters, geotiff):
    geotiff(root / "rgb" / "a.tif", OPTICAL)
    (root / "rgb" / "b.tif").write_bytes(b"")
    geotiff(root / "dsm" / "c.tif", DSM, pixel=5)
    geotiff(root / "dsm" / "a.tif", DSM, pixel=5)
    points(root / "p.geojson", [(1200, 1800), (2200, 1800)], ["a", "b"])
    index = rasters(inputs={"rgb": "rgb/{scene}.tif", "dsm": "dsm"}, labels="p.geojson").index()
    listed = {id: bad.reason for id, bad in index.bad}
    assert listed["scene b"] == "the file is empty (0 bytes)"
    assert "no file of rgb, the reference" in listed["scene c"]
    assert "lies in none of the scenes" in listed["p_1"]
    assert list(index.ids) == ["p_0"]


def square(x: float, y: float, half: float) -> list[list[list[float]]]:
    return [
        [[x - half, y - half], [x + half, y - half], [x + half, y + half], [x - half, y + half], [x - half, y - half]]
    ]


def test_the_polygon_as_a_channel_and_as_a_modality(root: Path, rasters):
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": square(1200, 1800, 19)},
            "properties": {"label": "a"},
        },
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": square(1010, 1800, 19)},
            "properties": {"label": "b"},
        },
    ]
    crs = {"properties": {"name": "EPSG:32617"}}
    (root / "p.geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    inputs = {"dsm": "dsm.tif", "sar": {"file": "sar.tif", "polygon": True}}
    data = rasters(inputs=inputs, labels="p.geojson", masks={"crown": "dsm"})
    assert {n: s.shape for n, s in data.inputs().items()} == {
        "dsm": (1, 16, 16),
        "sar": (3, 4, 4),
        "crown": (1, 16, 16),
    }
    data.index()
    sample = data.read(0)
    inside = np.zeros((1, 16, 16), np.uint8)
    inside[:, 4:12, 4:12] = 1
    np.testing.assert_array_equal(sample["crown"], inside)
    np.testing.assert_array_equal(sample["sar"][:2], SAR[:, 8:12, 8:12])
    assert sample["sar"][2].tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    edge = data.read(1)["sar"]
    assert not edge.mask[2].any(), "where the polygon is, is known everywhere"
    assert edge.mask[0].any()


@pytest.mark.parametrize("method", ["pickle", "fork"])
def test_copies_for_workers(method: str, rasters):
    data = rasters(inputs=INPUTS)
    index = data.index()
    expected = [data.read(i)["optical"] for i in range(len(index))]
    if method == "pickle":
        copied = pickle.loads(pickle.dumps(data))
        np.testing.assert_array_equal(copied.read(3)["optical"], expected[3])
        return
    loader = torch.utils.data.DataLoader(
        Optical(data, len(index)), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    for value, wanted in zip(loader, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(value), np.asarray(wanted))


class Optical(torch.utils.data.Dataset):
    def __init__(self, data: Rasters, count: int):
        self.data, self.count = data, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> np.ndarray:
        return np.asarray(self.data.read(i)["optical"])


def test_files_are_opened_once(rasters, monkeypatch: pytest.MonkeyPatch):
    data = rasters(inputs=INPUTS)
    index = data.index()
    data.read(0)
    monkeypatch.setattr(rasterio, "open", lambda *_, **__: pytest.fail("opened again"))
    for i in range(len(index)):
        data.read(i)


@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        ({"inputs": {"a": "nowhere.tif"}}, ("inputs", "a"), "no such file"),
        ({"inputs": {"a": "broken.tif"}}, ("inputs", "a"), "cannot be read"),
        ({"inputs": {"a": "nocrs.tif"}}, ("inputs", "a"), "no CRS"),
        ({"inputs": {"a": "x/{scene}.tif"}}, ("inputs", "a"), "no file fits"),
        ({"inputs": {"a": {"file": "sar.tif", "bands": [3]}}}, ("inputs", "a"), "no band 3; it has 1 to 2"),
        ({"inputs": {"a": {"file": "sar.tif", "resampling": "cubic"}}}, ("inputs", "a", "resampling"), "`grid`"),
        ({"inputs": {"a": {"file": "sar.tif", "polygon": True}}}, ("inputs", "a", "polygon"), "no polygons"),
        ({"masks": {"m": "optical"}}, ("masks", "m"), "no modality 'optical'"),
        ({"masks": {"m": "a"}}, ("masks",), "no polygons"),
        ({"masks": {"m": "a"}, "labels": "p.geojson"}, ("masks",), "Point"),
        ({"window": {"pixels": 4, "of": "b"}}, ("window", "of"), "no modality 'b'"),
        ({"inputs": {"a": "optical.tif", "b": "elsewhere.tif"}}, ("inputs", "b"), "no measurement in any of 32"),
        ({"inputs": {"a": "elsewhere.tif"}}, ("labels",), "no labelled pixel lies in a scene"),
        ({"inputs": {"a": "elsewhere.tif"}, "labels": "p.geojson"}, ("labels",), "nothing lies in a scene"),
        ({"labels": "sar.tif"}, ("labels",), "the labels are no classes"),
        ({"min_count": 1000}, ("labels",), "no sample has a label"),
        (
            {"inputs": {"a": {"file": "optical.tif", "scale": {"reflectance": 1.0}}}},
            ("inputs", "a", "scale"),
            "reflectance: 0.0001",
        ),
    ],
)
def test_refused(options: dict, option: tuple, message: str, root: Path, rasters, geotiff):
    (root / "broken.tif").write_bytes(b"II*\0broken")
    geotiff(root / "nocrs.tif", SAR, crs=None)
    geotiff(root / "elsewhere.tif", SAR, corner=(90_000, 2000))
    points(root / "p.geojson", [(1200, 1800), (1100, 1800)], ["a", "b"])
    data = rasters(**({"inputs": {"a": "optical.tif"}} | options))
    with pytest.raises(DataError, match=message) as raised:
        data.index()
    assert raised.value.option == option
