"""Published sets, each described by options alone, against what is known of them; skipped where they are missing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scipy.io
from fusionkit_datasets.arrays import ArrayDataset
from fusionkit_datasets.patches import Patches

DATA = Path(os.environ.get("FUSIONKIT_DATA", "./data"))


def folder(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"{name} is not in {DATA} (set FUSIONKIT_DATA)")
    return DATA / name


def test_idtrees2020(make):
    root = folder("idtrees2020")
    data = make(
        ArrayDataset,
        root=root,
        inputs={"hsi": "crowns.npz:hsi", "rgb": ["crowns.npz:rgb", "crowns.npz:mask_rgb"], "chm": "crowns.npz:chm"},
        labels="crowns.npz:label",
        ignore_labels=[-1],
        label_names="crowns.npz:classes",
        columns={"fold": "crowns.npz:fold", "plot": "crowns.npz:plot"},
        ids="crowns.npz:id",
    )
    specs = {name: spec.shape for name, spec in data.inputs().items()}
    assert specs == {"hsi": (123, 8, 8), "rgb": (4, 40, 40), "chm": (1, 8, 8)}
    index = data.index()
    assert (len(index), (index.targets >= 0).sum(), len(index.class_names)) == (1148, 1064, 12)
    assert len(set(index.ids)) == 1148
    assert round(np.bincount(index.targets[index.targets >= 0]).max() / 1064, 3) == 0.308
    for plot in np.unique(index.columns["plot"]):
        assert len(np.unique(index.columns["fold"][index.columns["plot"] == plot])) == 1
    with np.load(root / "crowns.npz") as crowns:
        taxa, rgb, mask = crowns["taxon"], crowns["rgb"], crowns["mask_rgb"]
    labelled = index.targets >= 0
    assert np.array(index.class_names)[index.targets[labelled]].tolist() == taxa[labelled].tolist()
    np.testing.assert_array_equal(data.read(700)["rgb"], np.concatenate([rgb[700], mask[700][None]]))


def test_idtrees2020_rasters_as_one_scene(make, tmp_path: Path):
    """Hyperspectral and canopy height of one plot lie on the same grid; tall and low pixels are the classes."""
    root = folder("idtrees2020") / "raw" / "RemoteSensing"
    with rasterio.open(root / "CHM" / "OSBS_1.tif") as file:
        height = file.read(1)
    with rasterio.open(root / "HSI" / "OSBS_1.tif") as file:
        bands = file.read()
    np.save(tmp_path / "tall.npy", 1 + (height > np.median(height)))
    data = make(
        Patches,
        root=root,
        inputs={"hsi": "HSI/OSBS_1.tif", "chm": "CHM/OSBS_1.tif"},
        labels=str(tmp_path / "tall.npy"),
        patch_size=5,
    )
    index = data.index()
    assert len(index) == height.size
    row, column = index.positions[205]
    np.testing.assert_array_equal(data.read(205)["hsi"], bands[:, row - 2 : row + 3, column - 2 : column + 3])


def test_cmu_mosi(make):
    root = folder("cmu_mosi")

    def parts(name: str) -> dict:
        return {part: f"mosi_utterance.npz:{name}_{part}" for part in ("train", "test")}

    data = make(
        ArrayDataset,
        root=root,
        inputs={name: parts(name) for name in ("text", "audio", "video")},
        labels=parts("y"),
        ids=parts("id"),
    )
    assert {name: spec.shape for name, spec in data.inputs().items()} == {
        "text": (100,),
        "audio": (73,),
        "video": (100,),
    }
    index = data.index()
    assert (index.split == "train").sum() == 1447
    assert (index.split == "test").sum() == 752
    assert round((index.targets[index.split == "test"] == 1).mean(), 3) == 0.621
    with np.load(root / "mosi_utterance.npz") as utterances:
        np.testing.assert_array_equal(data.read(1447 + 30)["audio"], utterances["audio_test"][30])


def test_wikipedia_image_text(make):
    root = folder("wikipedia_image_text")
    data = make(
        ArrayDataset,
        root=root,
        inputs={
            "image": {"train": "raw_features.mat:I_tr", "test": "raw_features.mat:I_te"},
            "text": {"train": "raw_features.mat:T_tr", "test": "raw_features.mat:T_te"},
        },
        labels={"train": "trainset_txt_img_cat.list:2", "test": "testset_txt_img_cat.list:2"},
        label_names="categories.list",
    )
    index = data.index()
    assert (len(index), index.class_names[0], index.class_names[-1]) == (2866, "art", "warfare")
    lines = (root / "testset_txt_img_cat.list").read_text().splitlines()
    assert index.targets[2173:].tolist() == [int(line.split("\t")[2]) - 1 for line in lines]
    expected = scipy.io.loadmat(root / "raw_features.mat")["T_te"]
    np.testing.assert_array_equal(data.read(2173 + 11)["text"], expected[11])


def test_presto_fuel_moisture(make):
    root = folder("presto_fuel_moisture")
    sensors = {"s1": "0:2", "s2": "2:13", "era5": "13:15", "srtm": "15:17", "ndvi": [17]}
    data = make(
        ArrayDataset,
        root=root,
        inputs={name: {"file": "s1_s2_era5_srtm.npy", "axis": 2, "index": index} for name, index in sensors.items()},
        labels={"file": "dynamic_world.npy", "axis": 1, "index": 0},
        columns={"site": "site.npy", "is_test": "is_test.npy"},
    )
    shapes = [spec.shape for spec in data.inputs().values()]
    assert shapes == [(3, 2), (3, 11), (3, 2), (3, 2), (3, 1)]
    index = data.index()
    assert (index.columns["is_test"] == 1).sum() == 735
    assert len(np.unique(index.columns["site"][index.columns["is_test"] == 0])) == 100
    expected = np.load(root / "s1_s2_era5_srtm.npy")
    np.testing.assert_array_equal(data.read(99)["era5"], expected[99, :, 13:15])
