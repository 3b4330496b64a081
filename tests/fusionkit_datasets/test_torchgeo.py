"""`torchgeo`: folders in the packages' own formats; every number equal to what rasterio reads of the files."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from fusionkit_datasets.torchgeo import TorchGeo
from typer.testing import CliRunner

from fusionkit.cli import app
from fusionkit.contract import Index
from fusionkit.errors import BadSample, DataError

BANDS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A"]
"""Of EuroSAT's files, in their order."""
INPUTS = {"optical": ["B02", "B03", "B04", "B08"], "swir": ["B11", "B12"]}
SPLIT = {"train": ["Forest_1", "River_1", "River_2"], "val": ["Forest_2", "River_3"], "test": ["Forest_3", "River_4"]}


@pytest.fixture
def eurosat(tmp_path: Path, geotiff) -> Path:
    """Thirteen bands of 8 x 8 pixels, folders of classes, and the lists of the split, whose files end in .jpg."""
    random = np.random.default_rng(0)
    for part, stems in SPLIT.items():
        (tmp_path / f"eurosat-{part}.txt").write_text("".join(f"{stem}.jpg\n" for stem in stems))
        for stem in stems:
            geotiff(image(tmp_path, stem), random.integers(0, 10_000, (13, 8, 8)).astype(np.uint16))
    return tmp_path


def image(root: Path, stem: str) -> Path:
    folder = root / "ds/images/remote_sensing/otherDatasets/sentinel_2/tif"
    return folder / stem.partition("_")[0] / f"{stem}.tif"


def pixels(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


@pytest.fixture
def torchgeo(make) -> Callable[..., TorchGeo]:
    pytest.importorskip("torchgeo.datasets")
    return lambda **options: make(TorchGeo, **options)


@pytest.fixture
def opened(torchgeo) -> Callable[..., tuple[TorchGeo, Index]]:
    def opened(**options: Any) -> tuple[TorchGeo, Index]:
        data = torchgeo(**options)
        return data, data.index()

    return opened


def test_bands_are_grouped_into_modalities(opened, eurosat):
    data, index = opened(dataset="EuroSAT", root=eurosat, inputs=INPUTS)
    assert {name: spec.shape for name, spec in data.inputs().items()} == {"optical": (4, 8, 8), "swir": (2, 8, 8)}
    assert sorted(index.ids) == sorted(f"{s.partition('_')[0]}/{s}.tif" for stems in SPLIT.values() for s in stems)
    for i, name in enumerate(index.ids):
        stem = Path(name).stem
        values, sample = pixels(image(eurosat, stem)), data.read(i)
        for modality, bands in INPUTS.items():
            assert np.array_equal(sample[modality], values[[BANDS.index(band) for band in bands]])
        assert index.class_names[index.targets[i]] == name.partition("/")[0]
        assert stem in SPLIT[index.split[i]]
        assert index.columns["split"][i] == index.split[i]
    assert index.task == "classification"
    assert index.bad == []


def test_a_loader_process_opens_the_files_itself(opened, eurosat):
    data, _ = opened(dataset="EuroSAT", root=eurosat, inputs=INPUTS)
    copy = pickle.loads(pickle.dumps(data))
    assert np.array_equal(copy.read(3)["swir"], data.read(3)["swir"])


def test_bands_by_number_and_the_order_asked_for(opened, eurosat):
    data, index = opened(dataset="EuroSAT", root=eurosat, inputs={"a": ["B8A", 1, "B02"], "all": "image"})
    values = pixels(image(eurosat, Path(index.ids[0]).stem))
    assert np.array_equal(data.read(0)["a"], values[[12, 0, 1]])
    assert np.array_equal(data.read(0)["all"], values)


def test_a_truncated_file_is_bad(opened, eurosat):
    data, index = opened(dataset="EuroSAT", root=eurosat, inputs=INPUTS)
    path = image(eurosat, "River_2")
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(BadSample, match="TorchGeo cannot read sample") as caught:
        data.read(list(index.ids).index("River/River_2.tif"))
    assert caught.value.path == str(path)


@pytest.mark.parametrize("damage", ["empty", "fewer bands"])
def test_other_damage_is_bad_and_the_shapes_are_those_of_another_sample(opened, geotiff, eurosat, damage):
    path = image(eurosat, "Forest_1")  # the very first
    path.unlink()
    if damage == "empty":
        path.touch()
    else:
        geotiff(path, np.ones((11, 8, 8), np.uint16))
    data, index = opened(dataset="EuroSAT", root=eurosat, inputs=INPUTS)
    assert data.inputs()["optical"].shape == (4, 8, 8)
    with pytest.raises(BadSample, match="TorchGeo cannot read sample 0") as caught:
        data.read(list(index.ids).index("Forest/Forest_1.tif"))
    assert caught.value.path == str(path)


def test_a_file_that_the_split_lists_and_that_is_gone_is_told(opened, eurosat):
    image(eurosat, "River_2").unlink()
    _, index = opened(dataset="EuroSAT", root=eurosat, inputs=INPUTS)
    assert len(index) == 6
    [(name, bad)] = index.bad
    assert (name, bad.path, bad.line) == ("River_2.jpg", str(eurosat / "eurosat-train.txt"), 3)


@pytest.mark.parametrize(
    ("changed", "message", "option"),
    [
        ({"dataset": "EuroSat"}, "has no dataset 'EuroSat' with samples; did you mean 'EuroSAT'", ("dataset",)),
        ({"dataset": "os.path"}, "has no dataset 'os.path' with samples", ("dataset",)),
        ({"dataset": "NonGeoDataset"}, "has no dataset 'NonGeoDataset' with samples", ("dataset",)),
        ({"dataset": "CopernicusBench"}, "no dataset 'CopernicusBench' with samples; did you mean", ("dataset",)),
        ({"dataset": "Sentinel2"}, "is a GeoDataset, .* by `source: rasters`", ("dataset",)),
        ({"dataset": "SKIPPD"}, "stored as pickles", ("dataset",)),
        ({"inputs": {"x": ["B02", "B8B"]}}, "there is no band 'B8B'; did you mean 'B8A'", ("inputs", "x")),
        ({"inputs": {"x": [14]}}, "there is no band 14; 'image' has 13", ("inputs", "x")),
        ({"inputs": {"x": "dem"}}, "EuroSAT has no 'dem' in its samples, but image, label", ("inputs", "x")),
        ({"options": {"band": ["B02"]}}, "EuroSAT has no option 'band'; did you mean 'bands'", ("options", "band")),
        ({"options": {"download": True}}, "EuroSAT has no option 'download'", ("options", "download")),
        ({"splits": {"train": "training"}}, "EuroSAT has no part 'training'", ("splits", "train")),
        ({"target": "mask"}, "have no 'mask', but image, label", ("target",)),
        ({"target": "image"}, "'image' is 13 x 8 x 8", ("target",)),
        ({"quantities": ["a", "b"]}, "has 1 of them in 'label', not 2", ("quantities",)),
    ],
)
def test_what_is_asked_wrongly_is_told_in_a_line(opened, eurosat, changed, message, option):
    with pytest.raises(DataError, match=message) as caught:
        opened(**{"dataset": "EuroSAT", "root": eurosat, "inputs": INPUTS} | changed)
    assert caught.value.option == option
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "remedy"), [("EuroSAT", "EuroSAT as D; D.*download=True"), ("So2Sat", "cannot download it")]
)
def test_absent_data_are_not_downloaded_and_it_is_told_how(torchgeo, tmp_path, monkeypatch, name, remedy):
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(DataError, match=f"holds no {name}, train, or not all of it; .*{remedy}") as caught:
        torchgeo(dataset=name, root=tmp_path / "absent", inputs={"x": "image"}).inputs()
    assert caught.value.path == tmp_path / "absent"
    assert not (tmp_path / "absent").exists()


@pytest.fixture
def bigearthnet(tmp_path: Path, geotiff) -> Path:
    """The second version: a file a band, of two sensors and three resolutions, and a table of labels and parts."""
    rows = []
    sizes = {"B01": 20, "B02": 120, "B8A": 60, "B12": 60, "VH": 120, "VV": 120}
    sentinel2 = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
    labels = [["Pastures"], ["Pastures", "Mixed forest"], ["Marine waters"], ["Mixed forest", "Urban fabric"]]
    for i, split in enumerate(["train", "train", "validation", "test"]):
        scene2, scene1 = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP", "S1A_IW_GRDH_1SDV_20170613T165043"
        patch, twin = f"{scene2}_{i}_75", f"{scene1}_33UUP_{i}_75"
        for k, band in enumerate(sentinel2):
            size = sizes.get(band, 60)
            values = np.full((1, size, size), 100 * i + k, np.uint16)
            geotiff(tmp_path / "BigEarthNet-S2" / scene2 / patch / f"{patch}_{band}.tif", values)
        for k, band in enumerate(["VH", "VV"]):
            values = np.full((1, 120, 120), -20 - i - 10 * k, np.float32)
            geotiff(tmp_path / "BigEarthNet-S1" / scene1 / twin / f"{twin}_{band}.tif", values)
        reference = tmp_path / "Reference_Maps" / scene2 / patch / f"{patch}_reference_map.tif"
        geotiff(reference, np.full((1, 120, 120), 231, np.uint16))
        rows.append({"patch_id": patch, "s1_name": twin, "split": split, "labels": labels[i]})
    pd.DataFrame(rows).to_parquet(tmp_path / "metadata.parquet")
    return tmp_path


def test_several_sensors_and_labels(opened, bigearthnet):
    inputs = {"sar": "image_s1", "ten": {"key": "image_s2", "bands": ["B02", "B8A"]}}
    told = []
    data, index = opened(dataset="BigEarthNetV2", root=bigearthnet, several_labels=True, inputs=inputs)
    data.index(lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert index.task == data.task == "multilabel"
    assert index.split.tolist() == ["train", "train", "val", "test"]
    names = [{index.class_names[k] for k in np.flatnonzero(row)} for row in index.targets]
    assert names == [{"Pastures"}, {"Pastures", "Mixed forest"}, {"Marine waters"}, {"Mixed forest", "Urban fabric"}]
    assert data.class_names() == index.class_names
    for i in range(4):
        sample = data.read(i)
        assert sample["sar"].shape == sample["ten"].shape == (2, 120, 120)
        assert [band.mean() for band in sample["sar"]] == [-20 - i, -30 - i]
        assert [band.mean() for band in sample["ten"]] == [100 * i + 1, 100 * i + 8]


def test_a_band_file_that_is_missing_shifts_no_other(opened, bigearthnet):
    inputs = {"x": {"key": "image_s2", "bands": ["B12"]}}
    data, _ = opened(dataset="BigEarthNetV2", root=bigearthnet, several_labels=True, inputs=inputs)
    [path] = bigearthnet.glob("BigEarthNet-S2/*/*_2_75/*_B03.tif")
    path.unlink()
    assert data.read(1)["x"].mean() == 111
    with pytest.raises(BadSample, match="'image_s2' is 11 x 120 x 120, not of 12 bands"):
        data.read(2)


def test_what_cannot_be_read_while_listing_is_listed_as_bad(opened, bigearthnet):
    [path] = bigearthnet.glob("BigEarthNet-S1/*/*_1_75/*_VV.tif")
    os.truncate(path, 300)
    _, index = opened(dataset="BigEarthNetV2", root=bigearthnet, several_labels=True, inputs={"x": "image_s2"})
    assert list(index.ids) == ["train/0", "val/0", "test/0"]
    assert [name for name, _ in index.bad] == ["train/1"]


def test_one_class_a_sample_is_not_several(opened, bigearthnet):
    with pytest.raises(DataError, match="'label' has 19 values a sample; set several_labels"):
        opened(dataset="BigEarthNetV2", root=bigearthnet, inputs={"x": "image_s2"})


@pytest.fixture
def usavars(tmp_path: Path, geotiff) -> Path:
    random = np.random.default_rng(1)
    places = [f"{i},{i + 1}" for i in range(6)]
    for place in places:
        geotiff(tmp_path / "uar" / f"tile_{place}.tif", random.integers(0, 256, (4, 6, 6)).astype(np.uint8))
    for k, name in enumerate(["treecover", "elevation", "population", "housing", "income", "roads", "nightlights"]):
        values = [10.0 * k + i for i in range(6)]
        table = pd.DataFrame({"ID": places, "lat": 40.0, "lon": -100.0, name: values})
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    for part, taken in {"train": places[:3], "val": places[3:5], "test": places[5:]}.items():
        (tmp_path / f"{part}_split.txt").write_text("".join(f"tile_{place}.tif\n" for place in taken))
    return tmp_path


def test_quantities_and_a_modality_of_one_number(opened, usavars):
    data, index = opened(
        dataset="USAVars",
        root=usavars,
        inputs={"rgb": [3, 2, 1], "where": "centroid_lat"},
        target="labels",
        quantities=["elevation", "treecover"],
        units={"elevation": "m"},
        options={"labels": ["elevation", "treecover"]},
    )
    assert index.task == data.task == "regression"
    assert (index.class_names, index.units) == (("elevation", "treecover"), ("m", ""))
    np.testing.assert_allclose(index.targets, [[10 + i, i] for i in range(6)])
    assert index.split.tolist() == ["train"] * 3 + ["val"] * 2 + ["test"]
    assert np.array_equal(data.read(4)["rgb"], pixels(usavars / "uar/tile_4,5.tif")[[2, 1, 0]])
    assert data.read(0)["where"].tolist() == [40]


RECIPE = {
    "name": "scenes",
    "data": {"source": "torchgeo", "dataset": "EuroSAT", "inputs": INPUTS, "batch_size": 4},
    "modalities": {name: {"encoder": "patch_cnn"} for name in INPUTS},
    "fusion": "concat",
    "train": {"epochs": 1},
}


@pytest.fixture
def recipe(eurosat, tmp_path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps(RECIPE | {"data": RECIPE["data"] | {"root": str(eurosat)}}))
    return path


def test_a_recipe_runs_to_its_end(torchgeo, recipe, tmp_path):
    done = CliRunner().invoke(app, ["run", str(recipe), "--runs", str(tmp_path / "runs")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    [answers] = (tmp_path / "runs").rglob("predictions.csv")
    assert set(pd.read_csv(answers)["id"]) == {"Forest/Forest_3.tif", "River/River_4.tif"}
    told = json.loads((answers.parent / "result.json").read_text())
    assert told["findings"] == ["no duplicates, no shared pixels, no bad samples"]


def test_without_the_package_it_is_listed_and_said_what_to_install(recipe, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchgeo", None)
    monkeypatch.setitem(sys.modules, "torchgeo.datasets", None)
    assert "torchgeo" in CliRunner().invoke(app, ["plugins"]).output
    assert "several_labels" in CliRunner().invoke(app, ["plugins", "show", "torchgeo"]).output
    with pytest.raises(DataError, match=r"needs TorchGeo .*pip install 'fusionkit-geo\[torchgeo\]'"):
        TorchGeo(dataset="EuroSAT", inputs={}).inputs()
