"""`table`: equal to pandas, Pillow and rasterio on the same rows; every bad cell or file is a finding of its sample."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import rasterio
import scipy.io
from fusionkit_datasets.table import Table
from PIL import Image

from fusionkit.errors import BadSample, DataError

RANDOM = np.random.default_rng(0)
N = 6
IMAGES = RANDOM.integers(0, 256, (N, 8, 10, 3)).astype(np.uint8)
SAR = RANDOM.normal(size=(N, 2, 5, 5)).astype(np.float32)
SERIES = RANDOM.normal(size=(N, 7, 3))
BANDS = RANDOM.normal(size=(N, 3))


def raster(path: Path, values: np.ndarray, **profile: Any) -> None:
    count, height, width = values.shape
    profile |= {"count": count, "height": height, "width": width, "dtype": values.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", driver="GTiff", **profile) as file:
            file.write(values)


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    """The manifest, whose files are written."""
    for i in range(N):
        Image.fromarray(IMAGES[i]).save(tmp_path / f"tile{i}.png")
        raster(tmp_path / f"sar{i}.tif", SAR[i], nodata=-99)
        np.save(tmp_path / f"series{i}.npy", SERIES[i])
    frame = pd.DataFrame(BANDS, columns=["band_1", "band_2", "band_3"])
    for name, file in {"tile": "tile{}.png", "tif": "sar{}.tif", "series": "series{}.npy"}.items():
        frame[name] = [file.format(i) for i in range(N)]
    frame["class"] = ["park", "school", "park", "port", "", "port"]
    frame["name"] = [f"place {i % 5}" for i in range(N)]
    frame["fold"] = [0, 1, 2, 0, 1, 2]
    return frame


@pytest.fixture
def table(tmp_path: Path, make):
    """Write a manifest and open it."""

    def build(frame: pd.DataFrame, file: str = "a.csv", **options: Any) -> Table:
        if file.endswith(".parquet"):
            pa.parquet.write_table(pa.Table.from_pandas(frame, preserve_index=False), tmp_path / file)
        else:
            frame.to_csv(tmp_path / file, index=False)
        return make(Table, **({"root": tmp_path, "file": file, "label": "class"} | options))

    return build


INPUTS = {
    "image": {"type": "image", "column": "tile"},
    "sar": {"type": "raster", "column": "tif"},
    "series": {"type": "array", "column": "series"},
    "spectrum": {"columns": "band_*"},
}


@pytest.mark.parametrize("file", ["a.csv", "a.parquet"])
def test_every_kind_of_column(file: str, frame: pd.DataFrame, table):
    data = table(frame, file, inputs=INPUTS, id="name")
    specs = data.inputs()
    assert {name: spec.shape for name, spec in specs.items()} == {
        "image": (3, 8, 10),
        "sar": (2, 5, 5),
        "series": (7, 3),
        "spectrum": (3,),
    }
    index = data.index()
    assert index.targets.tolist() == [0, 2, 0, 1, -1, 1]
    assert index.class_names == ("park", "port", "school")
    assert list(index.ids) == ["place 0", "place 1", "place 2", "place 3", "place 4", "place 0#2"]
    assert sorted(index.columns) == ["class", "fold", "name"]
    assert index.columns["fold"].tolist() == [0, 1, 2, 0, 1, 2]
    assert index.split is None
    for i in range(N):
        sample = pickle.loads(pickle.dumps(data)).read(i)
        np.testing.assert_array_equal(sample["image"], IMAGES[i].transpose(2, 0, 1))
        np.testing.assert_array_equal(sample["sar"], SAR[i])
        np.testing.assert_array_equal(sample["series"], SERIES[i])
        np.testing.assert_array_equal(sample["spectrum"], BANDS[i])


@pytest.mark.parametrize("file", ["a.csv", "a.parquet"])
def test_several_labels(file: str, frame: pd.DataFrame, table):
    frame["water"], frame["town"] = [1, 0, 1, 0, None, 1], [0, 0, 1, 1, None, 1]
    data = table(frame, file, inputs={"spectrum": INPUTS["spectrum"]}, label=["town", "water"])
    assert data.task == "multilabel"
    index = data.index()
    assert index.task == "multilabel"
    assert index.class_names == data.class_names() == ("town", "water")
    assert index.targets.tolist() == [[0, 1], [0, 0], [1, 1], [1, 0], [-1, -1], [1, 1]]
    assert index.labelled.tolist() == [True, True, True, True, False, True]
    assert index.units == ()


@pytest.mark.parametrize("file", ["a.csv", "a.parquet"])
def test_quantities(file: str, frame: pd.DataFrame, table):
    frame["moisture"], frame["height"] = [91.5, 1e-3, None, -7, 0, 120], [1, 2, 3, 4, 5, 6]
    data = table(
        frame,
        file,
        inputs={"spectrum": INPUTS["spectrum"]},
        label=None,
        quantities=["height", "moisture"],
        units={"moisture": "%"},
    )
    assert data.task == "regression"
    index = data.index()
    assert index.task == "regression"
    assert index.class_names == data.class_names() == ("height", "moisture")
    assert index.units == ("", "%")
    np.testing.assert_array_equal(index.targets, np.stack([np.arange(1.0, 7), [91.5, 1e-3, np.nan, -7, 0, 120]], 1))
    assert index.labelled.tolist() == [True, True, False, True, True, True]


@pytest.mark.parametrize("file", ["a.csv", "a.parquet"])
@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        ({"quantities": ["moist"]}, ("quantities",), "no column 'moist'; did you mean 'moisture'"),
        ({"quantities": ["moisture", "class"]}, ("quantities",), "row 0: column 'class' holds 'park', no number"),
        ({"quantities": ["infinite"]}, ("quantities",), "infinite is infinite in sample 3"),
        ({"quantities": ["nothing"]}, ("quantities",), "no sample has nothing"),
        ({"label": ["wet", "moisture"]}, ("label",), "row 0 of the labels holds something other than 0 and 1"),
        ({"label": ["wet", "half"]}, ("label",), "row 2 of the labels holds something other than 0 and 1"),
        ({"label": ["wet", "nothing"]}, ("label",), "row 0 of the labels"),
        ({"label": ["class"]}, ("label",), "row 0: column 'class' holds 'park', no number"),
        ({"label": ["wet", "dry"]}, ("label",), "no column 'dry'"),
    ],
)
def test_targets_refused(file: str, options: dict, option: tuple, message: str, frame: pd.DataFrame, table):
    frame["moisture"], frame["wet"], frame["half"] = [2.5] * N, [1, 0] * 3, [1, 0, None, 0, 1, 1]
    frame["infinite"], frame["nothing"] = [1.0, 2, 3, np.inf, 5, 6], np.full(N, np.nan)
    data = table(frame, file, inputs={"spectrum": INPUTS["spectrum"]}, **({"label": None} | options))
    with pytest.raises(DataError, match=message) as raised:
        data.index()
    assert raised.value.option == option


@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        ({"quantities": ["fold"]}, (), "give either `label` or `quantities`"),
        ({"units": {"fold": "m"}}, ("units",), "no quantity 'fold'"),
        ({"label": ["fold"], "classes": [1]}, ("classes",), "`classes` is for one class a sample"),
        ({"label": ["fold"], "label_names": "n.txt"}, ("label_names",), "`label_names` is for one class a sample"),
        (
            {"label": None, "quantities": ["fold"], "ignore_labels": [1]},
            ("ignore_labels",),
            "`ignore_labels` is for one class a sample",
        ),
        ({"label": None, "quantities": ["fold"], "units": {"flod": "m"}}, ("units",), "did you mean 'fold'"),
    ],
)
def test_options_that_contradict_each_other(options: dict, option: tuple, message: str, frame: pd.DataFrame, table):
    with pytest.raises(DataError, match=message) as raised:
        table(frame, inputs={"spectrum": INPUTS["spectrum"]}, **options)
    assert raised.value.option == option


def test_empty_cells_are_absent(frame: pd.DataFrame, table):
    frame.loc[2, ["tile", "tif", "series", "band_1", "band_2", "band_3"]] = None
    for file in ("a.csv", "a.parquet"):
        data = table(frame, file, inputs=INPUTS)
        data.index()
        assert data.read(2) == dict.fromkeys(INPUTS)
        assert data.read(1)["image"] is not None


def test_a_partly_empty_vector_is_bad(frame: pd.DataFrame, table):
    frame.loc[2, "band_2"] = None
    for file, line in (("a.csv", 4), ("a.parquet", None)):
        data = table(frame, file, inputs={"spectrum": {"columns": ["band_1", "band_2"]}})
        data.index()
        with pytest.raises(BadSample, match="1 of 2 values are missing, the first of 'band_2'") as raised:
            data.read(2)
        assert raised.value.line == line
        assert raised.value.path == str(data.root / file)


def test_a_cell_that_is_no_number_is_bad(frame: pd.DataFrame, table):
    frame["band_1"] = frame["band_1"].astype(str)
    frame.loc[3, "band_1"] = "1,5"
    for file in ("a.csv", "a.parquet"):
        data = table(frame, file, inputs={"spectrum": {"columns": "band_*"}})
        data.index()
        with pytest.raises(BadSample, match="column 'band_1' holds '1,5', no number"):
            data.read(3)
        np.testing.assert_array_equal(data.read(2)["spectrum"], BANDS[2])


def test_official_split(frame: pd.DataFrame, table):
    frame["split"] = ["train", "train", "val", "test", "", "test"]
    index = table(frame, inputs=INPUTS).index()
    assert index.split is not None
    assert index.split.tolist() == frame["split"].tolist()
    frame["split"] = ["train", "train", "val", "testing", "", "test"]
    index = table(frame, inputs=INPUTS).index()
    assert index.split is None
    assert index.columns["split"][3] == "testing"


def test_bad_files(frame: pd.DataFrame, table, tmp_path: Path):
    tile = (tmp_path / "tile1.png").read_bytes()
    (tmp_path / "tile1.png").write_bytes(tile[: len(tile) // 2])
    (tmp_path / "tile2.png").unlink()
    Image.fromarray(IMAGES[3, :, :5]).save(tmp_path / "tile3.png")
    Image.fromarray(IMAGES[4, ..., 0]).save(tmp_path / "tile4.png")
    data = table(frame, inputs={"image": {"type": "image", "column": "tile"}})
    data.index()
    for i, reason in {1: "cannot be read", 2: "no such file", 3: "is 3 x 8 x 5, not 3 x 8 x 10; `size`"}.items():
        with pytest.raises(BadSample, match=reason) as raised:
            data.read(i)
        assert raised.value.path == str(tmp_path / f"tile{i}.png")
    assert data.read(4)["image"].shape == (3, 8, 10)


def test_bad_rasters_and_arrays(frame: pd.DataFrame, table, tmp_path: Path):
    raster(tmp_path / "sar1.tif", SAR[1, :1])
    (tmp_path / "sar2.tif").write_bytes((tmp_path / "sar2.tif").read_bytes()[:-60])
    (tmp_path / "sar3.tif").write_bytes(b"")
    np.save(tmp_path / "series1.npy", SERIES[1, :5])
    (tmp_path / "series2.npy").write_bytes((tmp_path / "series2.npy").read_bytes()[:-8])
    np.save(tmp_path / "series3.npy", SERIES[3, 0, 0])
    sar = table(frame, inputs={"sar": INPUTS["sar"]})
    series = table(frame, inputs={"series": INPUTS["series"]})
    for data, i, reason in [
        (sar, 1, "is 1 x 5 x 5, not 2 x 5 x 5$"),
        (sar, 2, "cannot be read"),
        (sar, 3, "0 bytes"),
        (series, 1, "is 5 x 3, not 7 x 3$"),
        (series, 2, "truncated"),
        (series, 3, "no usual order"),
    ]:
        data.index()
        with pytest.raises(BadSample, match=reason):
            data.read(i)


def test_size_brings_images_and_rasters_to_one(frame: pd.DataFrame, table, tmp_path: Path):
    Image.fromarray(IMAGES[3, :, :5]).save(tmp_path / "tile3.png")
    raster(tmp_path / "sar3.tif", np.ones((2, 9, 3), np.float32))
    inputs = {name: INPUTS[name] | {"size": [4, 6]} for name in ("image", "sar")}
    data = table(frame, inputs=inputs)
    data.index()
    assert {name: spec.shape for name, spec in data.inputs().items()} == {"image": (3, 4, 6), "sar": (2, 4, 6)}
    for i in range(N):
        assert {name: value.shape for name, value in data.read(i).items()} == {"image": (3, 4, 6), "sar": (2, 4, 6)}
    with Image.open(tmp_path / "tile0.png") as image:
        expected = np.asarray(image.resize((6, 4), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    np.testing.assert_array_equal(data.read(0)["image"], expected)


def test_bands_and_stacked_rasters(frame: pd.DataFrame, table, tmp_path: Path):
    for i in range(N):
        raster(tmp_path / f"b{i}.tif", SAR[i, :1] + 1)
    frame["b"] = [f"b{i}.tif" for i in range(N)]
    inputs = {
        "second": {"type": "raster", "column": "tif", "bands": [2]},
        "both": {"type": "raster", "column": ["tif", "b"]},
    }
    frame.loc[4, ["b", "tif"]] = ""
    frame.loc[5, "b"] = ""
    data = table(frame, inputs=inputs)
    assert data.inputs()["both"].shape == (3, 5, 5)
    data.index()
    np.testing.assert_array_equal(data.read(1)["second"], SAR[1, 1:])
    np.testing.assert_array_equal(data.read(1)["both"], np.concatenate([SAR[1], SAR[1, :1] + 1]))
    assert data.read(4) == {"second": None, "both": None}
    with pytest.raises(BadSample, match="column 'b' is empty, others are not"):
        data.read(5)


def test_nodata(frame: pd.DataFrame, table, tmp_path: Path):
    hole = SAR[1].copy()
    hole[0, 2, 2], hole[1, 0, 0] = -99, np.nan
    raster(tmp_path / "sar1.tif", hole, nodata=-99)
    raster(tmp_path / "sar2.tif", np.full_like(hole, -99), nodata=-99)
    data = table(frame, inputs={"sar": INPUTS["sar"]})
    data.index()
    assert data.read(2) == {"sar": None}
    with pytest.raises(BadSample, match="2 of 50 values are missing"):
        data.read(1)
    data = table(frame, inputs={"sar": INPUTS["sar"] | {"fill": 0}})
    data.index()
    expected = SAR[1].copy()
    expected[0, 2, 2] = expected[1, 0, 0] = 0
    np.testing.assert_array_equal(data.read(1)["sar"], expected)
    assert data.read(1)["sar"].dtype == np.float32


def test_arrays_in_other_files(frame: pd.DataFrame, table, tmp_path: Path):
    for i in range(N):
        scipy.io.savemat(tmp_path / f"m{i}.mat", {"x": SERIES[i], "y": i})
    frame["mat"] = [f"m{i}.mat" for i in range(N)]
    inputs = {"x": {"type": "array", "column": "mat", "key": "x", "axes": "dt", "axis": "t", "index": [0, 1]}}
    data = table(frame, inputs=inputs)
    data.index()
    np.testing.assert_array_equal(data.read(3)["x"], SERIES[3].T[:2])


def test_sequences_of_different_length(frame: pd.DataFrame, table, tmp_path: Path):
    np.save(tmp_path / "series1.npy", SERIES[1, :5])
    np.save(tmp_path / "series2.npy", np.full((4, 3), np.nan))
    data = table(frame, inputs={"series": INPUTS["series"] | {"steps": 9}})
    spec = data.inputs()["series"]
    assert (spec.shape, spec.ragged) == ((9, 3), True)
    data.index()
    np.testing.assert_array_equal(data.read(1)["series"], SERIES[1, :5])
    assert data.read(2)["series"] is None


def test_a_column_of_lists(frame: pd.DataFrame, table, tmp_path: Path):
    frame["embedding"] = [None if i == 2 else [1.0] if i == 3 else BANDS[i].tolist() for i in range(N)]
    data = table(frame, "a.parquet", inputs={"e": {"columns": "embedding"}})
    assert data.inputs()["e"].shape == (3,)
    assert "embedding" not in data.index().columns
    np.testing.assert_array_equal(data.read(1)["e"], BANDS[1])
    assert data.read(2)["e"] is None
    with pytest.raises(BadSample, match="no list of 3 numbers"):
        data.read(3)


def test_tabs_white_space_and_absolute_paths(frame: pd.DataFrame, table, tmp_path: Path):
    frame = frame[["tile", "fold"]].assign(tile=[str(tmp_path / f"tile{i}.png") for i in range(N)])
    frame.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    frame.to_csv(tmp_path / "a.txt", sep=" ", index=False)
    inputs = {"image": INPUTS["image"]}
    for file in ("a.tsv", "a.txt"):
        data = table(frame, inputs=inputs, label="fold")
        data.file = Path(file)
        assert data.index().targets.tolist() == [0, 1, 2, 0, 1, 2]
        np.testing.assert_array_equal(data.read(5)["image"], IMAGES[5].transpose(2, 0, 1))


def test_parquet_types(table):
    frame = pd.DataFrame(
        {
            "x": [1.5, 2.5, 3.5],
            "class": [3, 1, 3],
            "gap": pd.array([1, None, 3], dtype="Int64"),
            "flag": [True, False, True],
            "site": pd.Categorical(["a", "b", "a"]),
            "blob": [b"1", b"2", b"3"],
        }
    )
    index = table(frame, "a.parquet", inputs={"x": {"columns": "x"}}).index()
    assert index.targets.tolist() == [1, 0, 1]
    assert index.columns["gap"].tolist() == ["1", "", "3"]
    assert index.columns["flag"].tolist() == [True, False, True]
    assert index.columns["site"].tolist() == ["a", "b", "a"]
    assert "blob" not in index.columns


@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        ({"file": "b.csv"}, ("file",), "no such file"),
        ({"label": "klass"}, ("label",), "no column 'klass'; did you mean 'class'"),
        ({"id": "nome"}, ("id",), "did you mean 'name'"),
        ({"inputs": {"image": {"type": "image", "column": "title"}}}, ("inputs", "image"), "did you mean 'tile'"),
        ({"inputs": {"image": {"type": "image", "column": "name"}}}, ("inputs", "image"), "no file of column 'name'"),
        ({"inputs": {"v": {"columns": "bnd_*"}}}, ("inputs", "v"), "no column 'bnd_\\*'"),
        ({"inputs": {"v": {"type": "array", "column": "series", "steps": 3, "axes": "d"}}}, ("inputs", "v"), "names 1"),
        ({"counts": ["imag"]}, ("counts",), "did you mean 'image'"),
        ({"label_names": "a.csv:fold"}, ("label_names",), "6 names"),
        ({"classes": ["park"]}, ("classes",), "hold port, school"),
    ],
)
def test_refused(options: dict, option: tuple, message: str, frame: pd.DataFrame, table, make, tmp_path: Path):
    table(frame, inputs=INPUTS)
    data = make(Table, **({"root": tmp_path, "file": "a.csv", "label": "class", "inputs": INPUTS} | options))
    with pytest.raises(DataError, match=message) as raised:
        data.index()
    assert raised.value.option == option


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class,x\n", "no rows"),
        ("class,x\na\n", "line 2 has 1 fields"),
        ("class,x,x\na,1,2\n", "two columns are named 'x'"),
        ("", "0 bytes"),
        ("class,x\na,\nb,\n", None),
    ],
)
def test_broken_manifests(text: str, message: str | None, make, tmp_path: Path):
    (tmp_path / "a.csv").write_text(text)
    data = make(Table, root=tmp_path, file="a.csv", label="class", inputs={"x": {"type": "image", "column": "x"}})
    with pytest.raises(DataError, match=message or "column 'x' is empty"):
        data.inputs()


def test_broken_parquet(frame: pd.DataFrame, table, tmp_path: Path):
    data = table(frame, "a.parquet", inputs=INPUTS)
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        data.inputs()


def test_an_unknown_type_is_told(make):
    with pytest.raises(ValueError, match="`type` is one of image, raster, array, values"):
        make(Table, file="a.csv", label="x", inputs={"a": {"type": "img", "column": "x"}})
