"""Maps of `rasters`: windows of new files are those of training; what is not as in training is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from fusionkit_datasets.rasters import Rasters
from fusionkit_scenes import Known, shares
from rasterio.features import rasterize
from rasterio.warp import transform, transform_geom

from fusionkit.errors import RequestError
from fusionkit.flow import InputSpec
from fusionkit.mapping import Mapped, map_scene
from fusionkit.progress import Progress

RANDOM = np.random.default_rng(0)
OPTICAL = RANDOM.normal(size=(3, 40, 48)).cumsum(1).cumsum(2).astype(np.float32)  # 10 m
DSM = RANDOM.normal(300, 9, (1, 80, 96)).astype(np.float32)  # 5 m
TRAINED = {"optical": InputSpec((3, 8, 8)), "dsm": InputSpec((1, 16, 16))}
OPTIONS = {"inputs": {"optical": "gone.tif", "dsm": "gone.tif"}, "labels": "gone.geojson", "window": 80}
"""The files of training are not needed any more."""


@pytest.fixture
def root(tmp_path: Path, geotiff) -> Path:
    geotiff(tmp_path / "optical.tif", OPTICAL, tiled=True, blockxsize=16, blockysize=16)
    geotiff(tmp_path / "dsm.tif", DSM, pixel=5)
    return tmp_path


@pytest.fixture
def mapped(root: Path, make) -> Callable[..., Mapped]:
    def mapped(
        files: dict[str, str],
        options: dict[str, Any] | None = None,
        inputs: dict[str, InputSpec] | None = None,
        output: str = "map.tif",
        **more: Any,
    ) -> Mapped:
        dataset = make(Rasters, **(OPTIONS | {"root": root} | (options or {})))
        run = Known.of(dataset, inputs or TRAINED, absences=("optical", "dsm"))
        paths = {name: root / file for name, file in files.items()}
        return map_scene(run, paths, root / output, progress=Progress(quiet=True), **more)

    return mapped


def test_windows_are_those_of_training(root: Path, make) -> None:
    places = [(1083, 1917), (1200, 1800), (1001, 1999), (1290, 1777)]
    rows = "\n".join(f"{x},{y},{i % 2}" for i, (x, y) in enumerate(places))
    (root / "points.csv").write_text(f"x,y,label\n{rows}\n")
    inputs = {
        "optical": {"file": "optical.tif", "fill": -1},
        "dsm": {"file": "dsm.tif", "scale": {"reflectance": 2e-3}},
    }
    labels = {"file": "points.csv", "crs": "EPSG:32617"}
    for grid in ("own", {"resolution": 20, "resampling": "average"}):
        data = make(Rasters, root=root, inputs=inputs, labels=labels, window=80, grid=grid)
        data.index()
        windows = make(Rasters, root=root, inputs=inputs, labels=labels, window=80, grid=grid).windows_of(
            {name: root / f"{name}.tif" for name in inputs}, data.inputs()
        )
        for i, place in enumerate(places):
            trained, now = data.read(i), windows.read(*place)
            assert trained.keys() == now.keys()
            for name in inputs:
                assert type(now[name]) is type(trained[name])
                np.testing.assert_array_equal(now[name], trained[name])


def test_the_map_is_the_blend_of_all_windows(root: Path, mapped) -> None:
    done = mapped({"optical": "optical.tif", "dsm": "dsm.tif"}, probabilities=root / "p.tif")
    total, weight = np.zeros((3, 40, 48)), np.zeros((40, 48))
    fade = np.sin(np.pi * (np.arange(8) + 0.5) / 8) ** 2
    for top in range(0, 33, 4):
        for left in range(0, 41, 4):
            at = slice(top, top + 8), slice(left, left + 8)
            mean = OPTICAL[:, *at].mean(dtype=float)
            total[:, *at] += np.outer(fade, fade) * shares(mean, 3)[:, None, None]
            weight[at] += np.outer(fade, fade)
    with rasterio.open(root / "p.tif") as file:
        np.testing.assert_allclose(file.read(), total / weight, atol=1e-5)
    assert done.windows == 9 * 11
    with rasterio.open(root / "map.tif") as file, rasterio.open(root / "optical.tif") as scene:
        assert (file.crs, file.transform, file.shape) == (scene.crs, scene.transform, scene.shape)


def test_labels_of_pixels_are_answers_of_middles(root: Path, mapped) -> None:
    options = {"inputs": {"optical": {"file": "gone.tif", "fill": 0}}, "labels": "gone.tif"}
    more = {"inputs": {"optical": TRAINED["optical"]}, "probabilities": root / "p.tif"}
    mapped({"optical": "optical.tif"}, options, stride=1, **more)
    around = np.pad(OPTICAL, ((0, 0), (4, 3), (4, 3)))
    means = np.lib.stride_tricks.sliding_window_view(around, (3, 8, 8))[0].mean((2, 3, 4), dtype=float)
    with rasterio.open(root / "p.tif") as file:
        np.testing.assert_allclose(file.read().transpose(1, 2, 0), shares(means, 3), atol=1e-4)


def test_what_no_source_has_measured(root: Path, mapped, geotiff) -> None:
    optical, dsm = OPTICAL.copy(), DSM.copy()
    optical[:, :20], dsm[:, :30] = -9, -9
    optical[0, 30:, :10] = -9  # the other bands are there
    geotiff(root / "optical.tif", optical, nodata=-9)
    geotiff(root / "dsm.tif", dsm, pixel=5, nodata=-9)
    mapped({"optical": "optical.tif", "dsm": "dsm.tif"})
    with rasterio.open(root / "map.tif") as file:
        assert (file.read(1)[:15] == 255).all()
        assert (file.read(1)[15:] < 3).all()


def test_sources_of_other_crs_and_far_finer_pixels(root: Path, mapped, geotiff, monkeypatch) -> None:
    (left,), (top,) = transform("EPSG:32617", "EPSG:32616", [1000], [2000])
    far = np.ones((1, 90, 90), np.float32)
    geotiff(root / "far.tif", far, pixel=10, corner=(left - 100, top + 100), crs="EPSG:32616")
    monkeypatch.setattr("fusionkit_datasets.rasters_mapping._MOST", 64)
    coarse = np.full((3, 40, 48), np.nan, np.float32)
    coarse[:, 0, 0] = 1
    geotiff(root / "optical.tif", coarse)
    holes = DSM.copy()
    holes[0, 41:51, 7:] = np.nan
    geotiff(root / "dsm.tif", holes, pixel=5)
    mapped({"optical": "optical.tif", "dsm": "dsm.tif"})
    with rasterio.open(root / "map.tif") as file:
        # The pixel in the middle of one of 10 m is the lower right one of four.
        expected = np.isnan(holes[0, 1::2, 1::2])
        np.testing.assert_array_equal(file.read(1) == 255, expected)
    options = {"inputs": {"optical": "gone.tif", "far": "gone.tif"}}
    spec = {"optical": TRAINED["optical"], "far": InputSpec((1, 8, 8))}
    mapped({"optical": "optical.tif", "far": "far.tif"}, options, spec, output="far_map.tif")
    with rasterio.open(root / "far_map.tif") as file:
        assert (file.read(1) < 3).all()


def test_a_modality_without_a_file(root: Path, mapped) -> None:
    mapped({"dsm": "dsm.tif"})
    with rasterio.open(root / "map.tif") as file:
        assert file.tags()["FUSIONKIT_ABSENT"] == "optical"
        assert file.transform.a == 5, "the map is on the grid of what is there"
        assert file.shape == (80, 96)


def crowns(path: Path, boxes: list[Any], crs: str) -> None:
    features = []
    for i, box in enumerate(boxes):
        geometry = None
        if box is not None:
            x, y, side = box
            ring = [[x, y], [x + side, y], [x + side, y - side], [x, y - side], [x, y]]
            geometry = transform_geom("EPSG:32617", crs, {"type": "Polygon", "coordinates": [ring]})
        features.append({"type": "Feature", "geometry": geometry, "properties": {"tree": f"t{i}"}})
    named = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": named, "features": features}))


@pytest.mark.parametrize("crs", ["EPSG:32617", "EPSG:4326"])
def test_polygons(root: Path, mapped, crs: str) -> None:
    boxes = [(1100, 1900, 60), (1300, 1900, 100), (1120, 1880, 20), (9000, 9000, 10), None]
    crowns(root / "crowns.geojson", boxes, crs)
    options = {"inputs": {"optical": {"file": "gone.tif", "polygon": True}}, "masks": {"crown": "optical"}}
    spec = {"optical": InputSpec((4, 8, 8)), "crown": InputSpec((1, 8, 8))}
    with pytest.raises(RequestError, match="give --polygons FILE"):
        mapped({"optical": "optical.tif"}, options, spec)
    with pytest.raises(RequestError, match="crown is made of polygons; give them as --polygons"):
        mapped({"optical": "optical.tif", "crown": "optical.tif"}, options, spec, polygons=root / "crowns.geojson")
    done = mapped(
        {"optical": "optical.tif"}, options, spec, polygons=root / "crowns.geojson", probabilities=root / "p.tif"
    )
    assert "2 of 5 polygons have no answer; the table says why" in done.notes
    with (root / "map.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["tree"] for row in rows] == ["t0", "t1", "t2", "t3", "t4"]
    assert [row["note"] for row in rows] == ["", "", "", "lies outside", "has no geometry"]
    answers = []
    for x, y, side in boxes[:3]:
        row, column = (2000 - y + side / 2) / 10, (x - 1000 + side / 2) / 10
        top, left = round(row - 4), round(column - 4)
        inside = rasterize(
            [
                {
                    "type": "Polygon",
                    "coordinates": [[(x, y), (x + side, y), (x + side, y - side), (x, y - side), (x, y)]],
                }
            ],
            out_shape=(8, 8),
            transform=rasterio.Affine(10, 0, 1000 + 10 * left, 0, -10, 2000 - 10 * top),
        )
        cut = np.concatenate([OPTICAL[:, top : top + 8, left : left + 8], inside[None]])
        answers.append(shares(np.float64(cut.mean(dtype=float)), 3))
    told = [[float(row[f"p_{name}"]) for name in ("grass", "trees", "water")] for row in rows[:3]]
    # Where the polygons come from another CRS, their edges may touch one more row of pixels.
    np.testing.assert_allclose(told, answers, atol=1e-5 if crs == "EPSG:32617" else 0.2)
    names = ["grass", "trees", "water"]
    assert [row["prediction"] for row in rows] == [*(names[np.argmax(of)] for of in told), "", ""]
    expected = np.full((40, 48), -1)
    for k, (x, y, side) in enumerate(boxes[:3]):  # the small one lies on top of the first
        row, column, wide = (2000 - y) // 10, (x - 1000) // 10, side // 10
        expected[row : row + wide, column : column + wide] = k
    with rasterio.open(root / "p.tif") as file:
        painted = file.read()
    assert np.isnan(painted[:, expected < 0]).all()
    for k in range(3):
        np.testing.assert_allclose(
            painted[:, expected == k], np.array(told[k])[:, None] + 0 * painted[:, expected == k], atol=1e-6
        )
    features = json.loads((root / "map.geojson").read_text())["features"]
    (x, y), (lon, lat) = (1100, 1900), features[0]["geometry"]["coordinates"][0][0]
    np.testing.assert_allclose([lon, lat], np.ravel(transform("EPSG:32617", "EPSG:4326", [x], [y])), atol=1e-6)
    assert features[2]["properties"]["prediction"] == rows[2]["prediction"]
    assert features[3]["properties"]["p_grass"] is None


def wrong(root: Path, geotiff) -> None:
    """Files that are not as they should be, each named as what is wrong with it."""
    geotiff(root / "bands.tif", OPTICAL[:2])
    geotiff(root / "place.tif", DSM, pixel=5, corner=(9000, 2000))
    geotiff(root / "pixels.tif", DSM, pixel=10)
    geotiff(root / "crs.tif", OPTICAL, crs=None)
    geotiff(root / "small.tif", OPTICAL[:, :6, :20])
    geotiff(root / "loud.tif", np.abs(DSM) * 1000, pixel=5)
    (root / "text.tif").write_text("no raster")
    (root / "empty.tif").touch()
    whole = geotiff(root / "cut.tif", np.tile(OPTICAL, (1, 8, 8)), tiled=True, blockxsize=64, blockysize=64)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"optical": "gone.tif"}, "gone.tif: there is no such file"),
        ({"optical": "empty.tif"}, "empty.tif: the file is empty"),
        ({"optical": "text.tif"}, "text.tif: cannot be read"),
        ({"optical": "cut.tif"}, "cut.tif: cannot be read"),
        ({"optical": "bands.tif"}, "bands.tif: has 2 bands; the run was trained with 3 of optical"),
        ({"optical": "crs.tif"}, "crs.tif: has no CRS"),
        ({"optical": "optical.tif", "dsm": "place.tif"}, "place.tif: lies elsewhere than optical.tif: it covers 9000"),
        (
            {"optical": "optical.tif", "dsm": "pixels.tif"},
            "pixels.tif: a window has 8 x 8 of its pixels; .* 16 x 16 of",
        ),
        ({"optical": "small.tif"}, "6 x 20 pixels .*, smaller than a window of 8 x 8"),
        ({"dsm": "loud.tif"}, "loud.tif: dsm: .* is no reflectance"),
    ],
)
def test_refused(root: Path, mapped, geotiff, files: dict[str, str], message: str) -> None:
    wrong(root, geotiff)
    options = {"inputs": {"optical": "gone.tif", "dsm": {"file": "gone.tif", "scale": {"reflectance": 1e-3}}}}
    with pytest.raises(RequestError, match=message) as error:
        mapped(files, options)
    assert len(str(error.value).splitlines()) == 1
    assert not list(root.glob("*map*"))
