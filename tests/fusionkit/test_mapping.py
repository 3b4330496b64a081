"""Maps: against a blend of the whole scene at once, as GDAL reads them, and requests that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from fusionkit_scenes import GRID, ArrayWindows, Cuts, Known, shares
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.shutil import copy

from fusionkit import mapping_answers
from fusionkit.errors import RequestError
from fusionkit.flow import InputSpec
from fusionkit.mapping import map_scene
from fusionkit.mapping_files import colours
from fusionkit.progress import Progress
from fusionkit.scene import SceneWindows

RANDOM = np.random.default_rng(1)
VALUES = RANDOM.normal(size=(70, 90)).cumsum(0).cumsum(1) / 20


def known(windows: SceneWindows | None, **more) -> Known:
    size = windows.window if windows else (4, 4)
    return Known.of(Cuts(windows), {"image": InputSpec((1, *size))}, **more)


def scene(folder: Path) -> dict[str, Path]:
    (folder / "scene.tif").touch()
    return {"image": folder / "scene.tif"}


def quiet() -> Progress:
    return Progress(quiet=True)


def whole(windows: ArrayWindows, stride: int) -> np.ndarray:
    """The blend of all windows over the whole scene, one after another: `[K, H, W]`."""
    size, values = windows.window[0], windows.values
    total, weight = np.zeros((3, *values.shape)), np.zeros(values.shape)
    places = [sorted({*range(0, length - size + 1, stride), length - size}) for length in values.shape]
    fade = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    for top in places[0]:
        for left in places[1]:
            at = slice(top, top + size), slice(left, left + size)
            total[:, *at] += (
                np.outer(fade, fade) * shares(values[at].astype(np.float32).mean(dtype=float), 3)[:, None, None]
            )
            weight[at] += np.outer(fade, fade)
    return total / weight


@pytest.mark.parametrize("stride", [3, 5, 10, None])
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_tiles_leave_no_seams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int | None, batch: int) -> None:
    monkeypatch.setattr(mapping_answers, "TILE", 32)  # divides neither side
    monkeypatch.setattr(mapping_answers, "_MOST", batch)
    windows = ArrayWindows(VALUES, (10, 10))
    out, shares_of = tmp_path / "map.tif", tmp_path / "shares.tif"
    done = map_scene(known(windows), scene(tmp_path), out, probabilities=shares_of, stride=stride, progress=quiet())
    expected = whole(windows, stride or 5)
    with rasterio.open(shares_of) as file:
        np.testing.assert_allclose(file.read(), expected, atol=1e-6)
    with rasterio.open(out) as file:
        classes = file.read(1)
    clear = np.sort(expected, 0)[-1] - np.sort(expected, 0)[-2] > 1e-5
    np.testing.assert_array_equal(classes[clear], expected.argmax(0)[clear])
    assert done.counts.tolist() == np.bincount(classes.ravel(), minlength=3).tolist()


@pytest.mark.parametrize("stride", [1, 4])
def test_answers_of_middles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int) -> None:
    monkeypatch.setattr(mapping_answers, "TILE", 32)
    windows = ArrayWindows(VALUES, (5, 5), centred=True)
    map_scene(
        known(windows),
        scene(tmp_path),
        tmp_path / "m.tif",
        probabilities=tmp_path / "p.tif",
        stride=stride,
        progress=quiet(),
    )
    around = np.pad(VALUES, 2, mode="edge").astype(np.float32)
    means = np.lib.stride_tricks.sliding_window_view(around, (5, 5)).mean((2, 3), dtype=float)
    with rasterio.open(tmp_path / "p.tif") as file:
        got = file.read().transpose(1, 2, 0)
    np.testing.assert_allclose(got[::stride, ::stride], shares(means, 3)[::stride, ::stride], atol=1e-6)
    if stride == 4:
        np.testing.assert_allclose(got[2, 0], (got[0, 0] + got[4, 0]) / 2, atol=1e-6)


def test_as_gis_programs_see_it(tmp_path: Path) -> None:
    names = ("grass & herbs", "trees <dead>", "水")
    windows = ArrayWindows(VALUES, (10, 10))
    out, shares_of = tmp_path / "map.tif", tmp_path / "shares.tif"
    map_scene(known(windows, names=names), scene(tmp_path), out, probabilities=shares_of, progress=quiet())
    with rasterio.open(out) as file:
        assert (file.crs.to_epsg(), file.transform, file.shape) == (32617, GRID, VALUES.shape)
        assert (file.dtypes, file.nodata, file.count) == (("uint8",), 255, 1)
        assert file.profile["tiled"]
        assert file.compression.name == "deflate"
        assert file.block_shapes == [(256, 256)]
        assert file.colorinterp == (ColorInterp.palette,)
        table = file.colormap(1)
        assert [table[k][:3] for k in range(3)] == colours(3)
        assert table[255][3] == 0
        assert file.tags(1)["CLASS_2"] == "水"
        assert file.tags()["FUSIONKIT_RUN"] == "fake-run"
    copy(out, tmp_path / "seen.vrt", driver="VRT")  # GDAL writes down what it has read beside the GeoTIFF
    seen = (tmp_path / "seen.vrt").read_text(encoding="utf-8")
    assert "<Category>grass &amp; herbs</Category>" in seen
    assert "<Category>trees &lt;dead&gt;</Category>" in seen
    assert "<Category>水</Category>" in seen
    assert seen.count("<Row index=") == 3
    with rasterio.open(shares_of) as file:
        assert file.descriptions == names
        assert file.dtypes == ("float32",) * 3
        assert np.isnan(file.nodata)
        np.testing.assert_allclose(file.read().sum(0), 1, atol=1e-6)
    with Image.open(tmp_path / "map.png") as picture:
        assert min(picture.size) > 300


def test_pixels_that_nothing_has_measured_are_nodata(tmp_path: Path) -> None:
    values = VALUES.copy()
    values[:, :30] = np.nan
    windows = ArrayWindows(values, (10, 10))
    map_scene(known(windows), scene(tmp_path), tmp_path / "m.tif", stride=10, progress=quiet())
    done = map_scene(known(windows), scene(tmp_path), tmp_path / "n.tif", stride=4, progress=quiet())
    for name in ("m.tif", "n.tif"):
        with rasterio.open(tmp_path / name) as file:
            assert (file.read(1)[:, :30] == 255).all()
            assert (file.read(1)[:, 36:] < 3).all()
    assert any("have no measurement" in note for note in done.notes)
    assert any("a part is missing" in note for note in done.notes), "windows that training would have refused are told"


def test_quantities_are_bands(tmp_path: Path) -> None:
    windows = ArrayWindows(VALUES, (10, 10))
    run = known(windows, names=("moisture", "height"), kind="regression")
    done = map_scene(run, scene(tmp_path), tmp_path / "m.tif", progress=quiet())
    assert [path.name for path in done.files] == ["m.tif"]
    with rasterio.open(tmp_path / "m.tif") as file:
        assert file.descriptions == ("moisture", "height")
        assert file.dtypes == ("float32", "float32")
    with pytest.raises(RequestError, match="--probabilities is for runs that predict classes"):
        map_scene(run, scene(tmp_path), tmp_path / "m.tif", probabilities=tmp_path / "p.tif", progress=quiet())


def test_a_map_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = ArrayWindows(VALUES, (10, 10))
    files = scene(tmp_path)
    (tmp_path / "m.tif").write_bytes(b"former")

    class Fails(Known):
        def answers(self, batch):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_scene(
            Fails.of(Cuts(windows), {"image": InputSpec((1, 10, 10))}), files, tmp_path / "m.tif", progress=quiet()
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.tif", "scene.tif"]
    assert (tmp_path / "m.tif").read_bytes() == b"former"


def test_an_absent_modality_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    windows = ArrayWindows(VALUES, (10, 10))
    inputs = {"image": InputSpec((1, 10, 10)), "lidar": InputSpec((1, 10, 10))}
    run = Known.of(Cuts(windows), inputs, absences=("lidar",))
    map_scene(run, scene(tmp_path), tmp_path / "m.tif")
    assert "without lidar: left out in training" in capsys.readouterr().err
    with rasterio.open(tmp_path / "m.tif") as file:
        assert file.tags()["FUSIONKIT_ABSENT"] == "lidar"
    with pytest.raises(RequestError, match="never seen samples without lidar"):
        map_scene(Known.of(Cuts(windows), inputs), scene(tmp_path), tmp_path / "m.tif", progress=quiet())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": {"imag": "scene.tif"}}, "no modality 'imag'; did you mean 'image'"),
        ({"files": {}}, "at least one modality: --image"),
        ({"output": "gone/m.tif"}, "there is no folder .*gone; make it first"),
        ({"output": "scene.tif"}, "is an input, or written twice"),
        ({"output": "scene.png", "files": {"image": "scene.png"}}, "is an input"),
        ({"output": "."}, "is a folder"),
        ({"probabilities": "m.tif"}, "written twice"),
        ({"stride": 0}, "1 pixel or more, not 0"),
        ({"stride": 11}, "leaves gaps between windows of 10 x 10"),
    ],
)
def test_refused(tmp_path: Path, changes: dict, message: str) -> None:
    scene(tmp_path)
    given = {"files": {"image": "scene.tif"}, "output": "m.tif"} | changes
    files = {name: tmp_path / file for name, file in given.pop("files").items()}
    options = {k: v if k == "stride" else tmp_path / v for k, v in given.items()}
    with pytest.raises(RequestError, match=message) as error:
        map_scene(known(ArrayWindows(VALUES, (10, 10))), files, **options, progress=quiet())
    assert len(str(error.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_a_scene_smaller_than_a_window(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"70 x 90 pixels .*, smaller than a window of 80 x 80"):
        map_scene(known(ArrayWindows(VALUES, (80, 80))), scene(tmp_path), tmp_path / "m.tif", progress=quiet())


def test_a_dataset_without_windows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="the dataset fake cuts no windows"):
        map_scene(known(None), scene(tmp_path), tmp_path / "m.tif", progress=quiet())


def test_retrieval_is_refused(tmp_path: Path) -> None:
    run = known(ArrayWindows(VALUES, (10, 10)), kind="retrieval")
    with pytest.raises(RequestError, match="there is no map"):
        map_scene(run, scene(tmp_path), tmp_path / "m.tif", progress=quiet())


def test_many_classes(tmp_path: Path) -> None:
    assert len(set(colours(36))) == 36
    names = tuple(f"class {k}" for k in range(300))
    windows = ArrayWindows(VALUES, (10, 10))
    map_scene(known(windows, names=names), scene(tmp_path), tmp_path / "m.tif", progress=quiet())
    with rasterio.open(tmp_path / "m.tif") as file:
        assert (file.dtypes, file.nodata) == (("uint16",), 65535)
        assert file.colormap(1)[65535][3] == 0
