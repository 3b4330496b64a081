"""Sources: which file is of which scene, and how many stay open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fusionkit_datasets import rasters_sources
from fusionkit_datasets.rasters_sources import OpenFiles, Source, files_of, open_raster

from fusionkit.errors import DataError


@pytest.mark.parametrize(
    ("pattern", "scenes"),
    [
        ("a/{scene}_rgb.tif", {"x": "a/x_rgb.tif", "y_2": "a/y_2_rgb.tif"}),
        ("a/*_rgb.tif", {"x": "a/x_rgb.tif", "y_2": "a/y_2_rgb.tif"}),
        ("{scene}/{scene}.tif", {"z": "z/z.tif"}),
        ("{scene}/z*.tif", {"z": "z/z.tif"}),
        ("b[1]", {"p": "b[1]/p.tif", "q": "b[1]/q.vrt"}),
        ("b[1]/{scene}.tif", {"p": "b[1]/p.tif"}),
    ],
)
def test_files_of_scenes(pattern: str, scenes: dict[str, str], tmp_path: Path):
    for name in ("a/x_rgb.tif", "a/y_2_rgb.tif", "a/x_dsm.tif", "z/z.tif", "b[1]/p.tif", "b[1]/q.vrt", "b[1]/p.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert files_of(tmp_path, Path(pattern)) == {scene: tmp_path / name for scene, name in scenes.items()}


def test_one_file_of_all(tmp_path: Path):
    assert files_of(tmp_path, Path("a.tif")) == tmp_path / "a.tif"


def test_two_files_of_one_scene(tmp_path: Path):
    (tmp_path / "a.tif").touch()
    (tmp_path / "a.vrt").touch()
    with pytest.raises(DataError, match=r"a\.tif and a\.vrt are both of scene 'a'"):
        files_of(tmp_path, Path("."))


def test_few_files_stay_open(tmp_path: Path, geotiff, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rasters_sources, "_OPEN_FILES", 2)
    files = OpenFiles()
    source = Source(file=Path("any"))
    paths = [geotiff(tmp_path / f"{n}.tif", np.full((1, 4, 4), n, np.uint8)) for n in range(3)]
    first, second = files.get(paths[0], source), files.get(paths[1], source)
    assert files.get(paths[0], source) is first
    third = files.get(paths[2], source)
    assert [opened.raster.closed for opened in (first, second, third)] == [False, True, False]
    assert files.get(paths[1], source).window(0, 0, 1, 1)[0].tolist() == [[[1]]]


def test_transparency_is_a_mask_and_no_band(tmp_path: Path, geotiff):
    values = np.full((4, 4, 4), 200, np.uint8)
    values[3, 0] = 0
    opened = open_raster(geotiff(tmp_path / "a.tif", values, photometric="RGB", alpha="YES"), Source(file=Path("any")))
    assert opened.bands == [1, 2, 3]
    _, missing = opened.window(0, 0, 4, 4)
    assert missing[:, 0].all()
    assert not missing[:, 1:].any()


@pytest.mark.parametrize("nodata", [-9999, 300, 0.5, float("nan")])
def test_nodata_that_the_type_cannot_hold(nodata: float, tmp_path: Path, geotiff):
    source = Source(file=Path("any"), nodata=nodata) if nodata == nodata else Source(file=Path("any"))
    opened = open_raster(geotiff(tmp_path / "a.tif", np.arange(16, dtype=np.uint8).reshape(1, 4, 4)), source)
    assert not opened.window(0, 0, 4, 4)[1].any()


def test_nodata_of_floats_as_text(tmp_path: Path, geotiff):
    values = np.zeros((1, 4, 4), np.float32)
    values[0, 1, 1] = -3.4e38
    opened = open_raster(geotiff(tmp_path / "a.tif", values, nodata=-3.3999999521443642e38), Source(file=Path("any")))
    assert np.argwhere(opened.window(0, 0, 4, 4)[1]).tolist() == [[0, 1, 1]]
