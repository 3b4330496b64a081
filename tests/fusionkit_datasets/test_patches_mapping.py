"""Maps of `patches`: windows read block by block are those of the whole scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from fusionkit_datasets import patches_mapping
from fusionkit_datasets.patches import Patches
from fusionkit_scenes import Known, shares

from fusionkit.errors import BadSample, DataError, RequestError
from fusionkit.flow import InputSpec
from fusionkit.mapping import map_scene
from fusionkit.progress import Progress

RANDOM = np.random.default_rng(0)
SCENE = RANDOM.normal(size=(4, 33, 41)).cumsum(1).cumsum(2).astype(np.float32)
LIDAR = RANDOM.integers(0, 200, (1, 33, 41)).astype(np.uint8)


@pytest.fixture
def root(tmp_path: Path, geotiff) -> Path:
    geotiff(tmp_path / "hsi.tif", SCENE, tiled=True, blockxsize=16, blockysize=16)
    geotiff(tmp_path / "lidar.tif", LIDAR, nodata=255)
    geotiff(tmp_path / "labels.tif", np.ones((1, 33, 41), np.uint8))
    return tmp_path


@pytest.mark.parametrize("size", [1, 4, 7, 33])
@pytest.mark.parametrize("block", [5, 16, 256])
def test_windows_are_those_of_training(
    root: Path, make, monkeypatch: pytest.MonkeyPatch, size: int, block: int
) -> None:
    monkeypatch.setattr(patches_mapping, "_BLOCK", block)
    options: dict[str, Any] = {"inputs": {"hsi": {"file": "hsi.tif", "bands": [3, 1]}, "lidar": "lidar.tif"}}
    data = make(Patches, root=root, labels="labels.tif", patch_size=size, **options)
    data.index()
    untrained = make(Patches, root=root, labels="gone.tif", patch_size=size, **options)
    windows = untrained.windows_of({name: root / f"{name}.tif" for name in data.inputs()}, data.inputs())
    for i, (row, column) in enumerate(np.ndindex(33, 41)):
        if i % 7 and 0 < row < 32 and 0 < column < 40:
            continue
        trained, now = data.read(i), windows.read(1000 + 10 * (column + 0.5), 2000 - 10 * (row + 0.5))
        for name in trained:
            np.testing.assert_array_equal(now[name], trained[name])
            assert now[name].dtype == trained[name].dtype


def test_a_map_has_an_answer_for_every_pixel(root: Path, make, geotiff) -> None:
    holes = SCENE.copy()
    holes[:, 3, :9] = -1
    holes[0, 20, 20] = -1  # the other bands are there
    geotiff(root / "hsi.tif", holes, nodata=-1)
    dataset = make(Patches, root=root, labels="gone.tif", inputs={"hsi": {"file": "gone.mat", "fill": 0}}, patch_size=5)
    run = Known.of(dataset, {"hsi": InputSpec((4, 5, 5))})
    done = map_scene(
        run,
        {"hsi": root / "hsi.tif"},
        root / "map.tif",
        probabilities=root / "p.tif",
        progress=Progress(quiet=True),
    )
    assert done.windows == 33 * 41
    filled = np.where(holes == -1, 0, holes)
    around = np.pad(filled, ((0, 0), (2, 2), (2, 2)), mode="reflect")
    means = np.lib.stride_tricks.sliding_window_view(around, (4, 5, 5))[0].mean((2, 3, 4), dtype=float)
    expected = shares(means, 3)
    expected[3, :9] = np.nan
    with rasterio.open(root / "p.tif") as file:
        np.testing.assert_allclose(file.read().transpose(1, 2, 0), expected, atol=1e-4)
    with rasterio.open(root / "map.tif") as file:
        assert ((file.read(1) == 255) == np.isnan(expected[..., 0])).all()


def test_a_window_that_training_would_refuse(root: Path, make, geotiff) -> None:
    holes = SCENE.copy()
    holes[:, 10, 10] = np.nan
    geotiff(root / "hsi.tif", holes)
    dataset = make(Patches, root=root, labels="gone.tif", inputs={"hsi": "gone.tif"}, patch_size=3)
    windows = dataset.windows_of({"hsi": root / "hsi.tif"}, {"hsi": InputSpec((4, 3, 3))})
    with pytest.raises(BadSample, match="no `fill`"):
        windows.read(1095, 1895)
    run = Known.of(dataset, {"hsi": InputSpec((4, 3, 3))})
    done = map_scene(run, {"hsi": root / "hsi.tif"}, root / "map.tif", progress=Progress(quiet=True))
    assert any(note.startswith("9 windows have no answer") for note in done.notes)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.tif", "there is no such file"),
        ("scene.mat", "is no raster"),
        ("nowhere.tif", "does not say where it lies"),
        ("two.tif", "has 2 bands; the run was trained with 4 of hsi"),
        ("shifted.tif", "coordinates are not the same"),
        ("small.tif", "smaller than a window|must be the same"),
        ("cut.tif", "cannot be read"),
    ],
)
def test_refused(root: Path, make, geotiff, name: str, message: str) -> None:
    (root / "scene.mat").write_bytes(b"MATLAB")
    geotiff(root / "nowhere.tif", SCENE, crs=None)
    geotiff(root / "two.tif", SCENE[:2])
    geotiff(root / "shifted.tif", SCENE, corner=(5000, 2000))
    geotiff(root / "small.tif", SCENE[:, :3])
    cut = geotiff(root / "cut.tif", np.tile(SCENE, (1, 9, 9)))
    cut.write_bytes(cut.read_bytes()[:90_000])
    inputs = {"lidar": "gone.tif", "hsi": "gone.tif"}
    dataset = make(Patches, root=root, labels="gone.tif", inputs=inputs, patch_size=5)
    files = {"lidar": root / "lidar.tif", "hsi": root / name}
    if name == "cut.tif":
        files.pop("lidar")
    run = Known.of(dataset, {"lidar": InputSpec((1, 5, 5)), "hsi": InputSpec((4, 5, 5))}, absences=("lidar",))
    with pytest.raises((RequestError, DataError), match=message):
        map_scene(run, files, root / "map.tif", progress=Progress(quiet=True))
    assert not list(root.glob("*map*"))
