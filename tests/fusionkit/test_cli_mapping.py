"""`fusionkit predict` with the files of a scene: from a trained run to the map, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

import fusionkit as fk
from fusionkit.cli_mapping import scene_files
from fusionkit.errors import RequestError

FIELDS = np.kron([[0, 1], [1, 0]], np.ones((40, 40), int))


def raster(path: Path, values: np.ndarray, pixel: float) -> None:
    place = {"crs": "EPSG:32617", "transform": from_origin(1000, 2000, pixel, pixel)}
    shape = {"count": len(values), "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as file:
        file.write(values)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on fields of two classes, which know each other by colour and by height; its data are gone."""
    root = tmp_path_factory.mktemp("data")
    scene(root)
    labels = np.zeros((1, 80, 80), np.uint8)
    labels[0, 4::8, 4::8] = 1 + FIELDS[4::8, 4::8]
    raster(root / "labels.tif", labels, 10)
    data = {
        "source": "rasters",
        "root": str(root),
        "inputs": {"image": "image.tif", "lidar": "lidar.tif"},
        "labels": "labels.tif",
        "ignore_labels": [0],
        "label_names": str(root / "names.txt"),
        "window": 80,
        "split": {"test": 0.2, "val": 0.2},
    }
    (root / "names.txt").write_text("field\nmeadow\n")
    recipe: dict[str, Any] = {
        "name": "fields",
        "data": data,
        "modalities": {name: {"encoder": {"name": "patch_cnn", "width": 4}} for name in data["inputs"]},
        "fusion": "concat",
        "loss": "cross_entropy",
        "augment": [{"name": "modality_dropout", "probability": 0.3}],
        "train": {"epochs": 12, "lr": 0.02},
        "baselines": False,
    }
    run = fk.run(recipe, runs=root / "runs")
    for path in root.glob("*.*"):
        path.unlink()
    return run.path


def scene(folder: Path) -> None:
    random = np.random.default_rng(0)
    image = np.stack([FIELDS * 60 + 20, 90 - FIELDS * 30]) + random.integers(0, 20, (2, 80, 80))
    raster(folder / "image.tif", image.astype(np.uint8), 10)
    height = np.kron(FIELDS, np.ones((2, 2))) * 5 + random.normal(size=(160, 160))
    raster(folder / "lidar.tif", height[None].astype(np.float32), 5)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    scene(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_map_of_a_scene(here: Path, trained: Path, fusionkit: Callable[..., Any]) -> None:
    words = ["--image", "image.tif", "--lidar=lidar.tif", "-o", "map.tif", "--probabilities", "p.tif"]
    answer = fusionkit("predict", trained, *words, "--stride", 2)
    assert answer.code == 0, answer.err
    assert answer.out == "map.tif\n"
    with rasterio.open("map.tif") as file:
        assert (file.read(1) == FIELDS).mean() > 0.95
        assert file.tags(1) == {"CLASS_0": "field", "CLASS_1": "meadow"}
    assert {path.name for path in here.iterdir()} == {
        "image.tif", "lidar.tif", "map.tif", "map.tif.aux.xml", "map.png", "p.tif",
    }  # fmt: skip


@pytest.mark.slow
def test_a_map_without_a_modality(here: Path, trained: Path, fusionkit: Callable[..., Any]) -> None:
    answer = fusionkit("predict", trained, "--lidar", "lidar.tif", "-o", "map.tif", "--stride", 8)
    assert answer.code == 0, answer.err
    assert "without image: left out in training by modality_dropout" in answer.err
    with rasterio.open("map.tif") as file:
        assert file.tags()["FUSIONKIT_ABSENT"] == "image"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lidr", "lidar.tif", "-o", "map.tif"], "the run has no modality 'lidr'; did you mean 'lidar'?"),
        (["--lidar", "-o", "map.tif"], "--lidar needs a file"),
        (["--image", "gone.tif", "-o", "map.tif"], "gone.tif: there is no such file"),
        (["--image", "image.tif", "-o", "map.jpg"], "map.jpg: a map is written as .tif or .tiff"),
        (["--image", ".", "-o", "map.tif"], "--image . is a folder"),
        (["--image", "lidar.tif", "-o", "map.tif"], "lidar.tif: has 1 bands; the run was trained with 2 of image"),
        (["--image", "image.tif", "-o", "gone/map.tif"], "there is no folder gone; make it first"),
        (["--image", "image.tif", "-o", "image.tif"], "image.tif is an input"),
    ],
)
def test_refused_in_one_line(
    here: Path, trained: Path, fusionkit: Callable[..., Any], words: list[str], message: str
) -> None:
    answer = fusionkit("predict", trained, *words)
    assert answer.code == 2
    assert message in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert not list(here.glob("*map*"))


def test_options_named_as_modalities() -> None:
    words = ["--image", "a.tif", "data.root=x", "--lidar=b=c.tif"]
    assert scene_files(words) == ({"image": Path("a.tif"), "lidar": Path("b=c.tif")}, ["data.root=x"])
    with pytest.raises(RequestError, match="--image is given twice"):
        scene_files(["--image", "a.tif", "--image", "b.tif"])
    for words in (["--image"], ["--image", "--lidar", "b.tif"], ["--image="]):
        with pytest.raises(RequestError, match="--image needs a file"):
            scene_files(words)
