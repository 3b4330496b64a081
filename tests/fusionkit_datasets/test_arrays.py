"""`arrays`: equal to slicing the arrays by hand, for every format; and what is wrong with a description."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
from fusionkit_datasets.arrays import ArrayDataset
from fusionkit_datasets.readers import hdf5

from fusionkit.errors import DataError

RANDOM = np.random.default_rng(0)
N = 12
RGB = RANDOM.integers(0, 256, (N, 3, 6, 6)).astype(np.uint8)
MASK = RANDOM.integers(0, 2, (N, 6, 6)).astype(np.uint8)
SERIES = RANDOM.normal(size=(N, 3, 18))
VECTOR = RANDOM.normal(size=(N, 5)).astype(np.float32)
LABEL = RANDOM.permutation(np.repeat([1, 2, 4], 4))
PLOT = np.array([f"plot_{i % 4}" for i in range(N)])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    np.savez(tmp_path / "a.npz", rgb=RGB, mask=MASK, label=LABEL, plot=PLOT, classes=np.array(["ash", "elm", "oak"]))
    np.save(tmp_path / "series.npy", SERIES)
    scipy.io.savemat(tmp_path / "a.mat", {"vector": VECTOR, "label": LABEL.astype(float)[:, None]})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("rgb_last", data=RGB.transpose(0, 2, 3, 1), chunks=(5, 6, 6, 3), compression="gzip")
        file["onehot"] = np.eye(3)[np.searchsorted([1, 2, 4], LABEL)]
    pd.DataFrame(VECTOR, columns=[f"b{i}" for i in range(5)]).assign(label=LABEL).to_csv(tmp_path / "a.csv")
    return tmp_path


@pytest.fixture
def arrays(root: Path, make):
    def build(**options: Any) -> ArrayDataset:
        return make(ArrayDataset, **({"root": root, "labels": "a.npz:label"} | options))

    return build


def check(data: ArrayDataset, **expected: np.ndarray) -> None:
    """Shapes promised and samples read are those of the arrays `expected`, a sample a row."""
    specs = data.inputs()
    index = data.index()
    assert list(specs) == list(expected)
    for name, values in expected.items():
        assert specs[name].shape == values.shape[1:]
        assert len(index) == len(values)
    for i in range(len(index)):
        sample = data.read(i)
        for name, values in expected.items():
            value = sample[name]
            assert value is not None
            np.testing.assert_array_equal(value, values[i])
            assert value.dtype == values.dtype


def test_every_format(arrays):
    data = arrays(
        inputs={
            "rgb": "a.npz:rgb",
            "series": "series.npy",
            "matlab": "a.mat:vector",
            "hdf5": {"file": "a.h5", "key": "rgb_last", "axes": "nhwc"},
            "text": {"file": "a.csv", "columns": "b*"},
        }
    )
    text = pd.read_csv(data.root / "a.csv")[[f"b{i}" for i in range(5)]].to_numpy()
    check(data, rgb=RGB, series=SERIES, matlab=VECTOR, hdf5=RGB, text=text)


def test_slices_of_an_axis_of_one_array(arrays):
    sensors = {"s1": [0, 1], "era5": "13:15", "shuffled": [17, 2, 5]}
    data = arrays(inputs={name: {"file": "series.npy", "axis": 2, "index": i} for name, i in sensors.items()})
    check(data, s1=SERIES[:, :, :2], era5=SERIES[:, :, 13:15], shuffled=SERIES[:, :, [17, 2, 5]])


def test_both_generations_of_matlab(root: Path, arrays, save73):
    save73(root / "new.mat", cube=RGB.astype(float).transpose(2, 3, 1, 0), label=LABEL.astype(float))
    scipy.io.savemat(root / "old.mat", {"cube": RGB.astype(float).transpose(2, 3, 1, 0)})
    inputs = {name: {"file": f"{name}.mat", "key": "cube", "axes": "hwcn"} for name in ("new", "old")}
    data = arrays(inputs=inputs, labels="new.mat:label")
    check(data, new=RGB.astype(float), old=RGB.astype(float))
    assert data.index().targets.tolist() == np.searchsorted([1, 2, 4], LABEL).tolist()


def test_a_list_is_stacked_along_the_channels(arrays):
    data = arrays(inputs={"rgb": ["a.npz:rgb", "a.npz:mask"], "vector": ["a.mat:vector", "a.mat:vector"]})
    check(data, rgb=np.concatenate([RGB, MASK[:, None]], 1), vector=np.concatenate([VECTOR, VECTOR], 1))


def test_a_stack_of_sequences(arrays):
    part = {"file": "series.npy", "axis": "d", "index": "0:4"}
    check(arrays(inputs={"s": ["series.npy", part]}), s=np.concatenate([SERIES, SERIES[:, :, :4]], 2))


def test_a_large_packed_array_is_left_in_its_file(arrays, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hdf5, "IN_MEMORY", 100)
    data = arrays(inputs={"rgb": {"file": "a.h5", "key": "rgb_last", "axes": "nhwc", "axis": 3, "index": [2, 0]}})
    check(data, rgb=RGB[:, [2, 0]])


def test_labels(arrays):
    expected = np.searchsorted([1, 2, 4], LABEL).tolist()
    for labels in ("a.npz:label", "a.mat:label", "a.csv:label", "a.h5:onehot"):
        index = arrays(inputs={"v": "a.mat:vector"}, labels=labels).index()
        assert index.targets.tolist() == expected
    assert index.class_names == ("0", "1", "2")  # one-hot columns have no other name
    data = arrays(inputs={"v": "a.mat:vector"}, ignore_labels=[4])
    assert data.index().targets.tolist() == [-1 if target == 2 else target for target in expected]
    assert data.class_names() is None
    data = arrays(inputs={"v": "a.mat:vector"}, label_names="a.npz:classes")
    assert data.index().class_names == data.class_names() == ("ash", "elm", "oak")
    data = arrays(inputs={"v": "a.mat:vector"}, classes=[4, 2, 1])
    assert data.index().targets.tolist() == [2 - target for target in expected]
    assert data.class_names() == ("4", "2", "1")


SEVERAL = np.stack([LABEL == 1, LABEL == 2, LABEL < 3], 1)


def test_several_labels_of_one_sample_or_one_column_stay_rows(tmp_path: Path, make):
    np.savez(tmp_path / "few.npz", x=np.ones((3, 2)), y=np.array([[1, 0, 1]] * 3), one=np.array([[1], [0], [1]]))
    np.savez(tmp_path / "single.npz", x=np.ones((1, 2)), y=np.array([[0, 1, 1]]))
    inputs, labels = (
        {part: f"{file}.npz:{key}" for part, file in (("train", "few"), ("test", "single"))} for key in "xy"
    )
    data = make(ArrayDataset, root=tmp_path, inputs={"v": inputs}, labels=labels, several_labels=True)
    assert data.index().targets.tolist() == [[1, 0, 1]] * 3 + [[0, 1, 1]]
    few = {"inputs": {"v": "few.npz:x"}, "labels": "few.npz:one"}
    alone = make(ArrayDataset, root=tmp_path, several_labels=True, **few)
    assert alone.index().targets.tolist() == [[1], [0], [1]]


def test_several_labels(root: Path, arrays):
    np.savez(root / "b.npz", bool=SEVERAL, float=np.where(LABEL[:, None] == 4, np.nan, SEVERAL))
    data = arrays(inputs={"v": "a.mat:vector"}, labels="b.npz:bool", several_labels=True)
    index = data.index()
    assert (data.task, index.task) == ("multilabel", "multilabel")
    np.testing.assert_array_equal(index.targets, SEVERAL)
    assert (index.class_names, data.class_names()) == (("0", "1", "2"), None)
    assert index.labelled.all()
    data = arrays(inputs={"v": "a.mat:vector"}, labels="b.npz:float", several_labels=True, label_names="a.npz:classes")
    index = data.index()
    assert index.class_names == data.class_names() == ("ash", "elm", "oak")
    np.testing.assert_array_equal(index.labelled, LABEL != 4)
    np.testing.assert_array_equal(index.targets[LABEL != 4], SEVERAL[LABEL != 4])
    data = arrays(inputs={"v": "a.mat:vector"}, labels="a.h5:onehot", several_labels=True)
    np.testing.assert_array_equal(data.index().targets, np.eye(3)[np.searchsorted([1, 2, 4], LABEL)])


def test_quantities(root: Path, arrays):
    height = np.linspace(-3, 8, N)
    np.savez(root / "b.npz", height=height.astype(np.float32), row=height[None], count=np.arange(N))
    pd.DataFrame({"moisture": [f"{100 + i}.5" if i != 4 else "" for i in range(N)]}).to_csv(root / "m.csv", index=False)
    data = arrays(
        inputs={"v": "a.mat:vector"},
        labels=None,
        quantities={"moisture": "m.csv:moisture", "height": "b.npz:height", "row": "b.npz:row", "n": "b.npz:count"},
        units={"height": "m", "moisture": "%"},
    )
    assert data.class_names() == ("moisture", "height", "row", "n")
    index = data.index()
    assert (data.task, index.task) == ("regression", "regression")
    assert index.class_names == data.class_names()
    assert index.units == ("%", "m", "", "")
    assert index.targets.dtype == np.float64
    moisture = np.where(np.arange(N) == 4, np.nan, np.arange(N) + 100.5)
    expected = np.stack([moisture, height.astype(np.float32), height, np.arange(N)], 1)
    np.testing.assert_array_equal(index.targets, expected)
    np.testing.assert_array_equal(index.labelled, np.arange(N) != 4)


def test_quantities_in_an_official_split(root: Path, arrays):
    np.savez(root / "b.npz", x=VECTOR[:4], y=np.arange(4.0))
    data = arrays(
        inputs={"v": {"train": "a.mat:vector", "test": "b.npz:x"}},
        labels=None,
        quantities={"y": {"train": "a.csv:b0", "test": "b.npz:y"}},
    )
    index = data.index()
    np.testing.assert_allclose(index.targets[:, 0], [*VECTOR[:, 0].astype(float), 0, 1, 2, 3], rtol=1e-6)
    assert index.split is not None
    assert index.split.tolist() == ["train"] * N + ["test"] * 4


def test_columns_and_ids(arrays):
    index = arrays(inputs={"v": "a.mat:vector"}, columns={"plot": "a.npz:plot"}, ids="a.npz:plot").index()
    assert index.columns["plot"].tolist() == PLOT.tolist()
    assert list(index.ids)[:5] == ["plot_0", "plot_1", "plot_2", "plot_3", "plot_0#2"]
    assert index.split is None
    assert list(arrays(inputs={"v": "a.mat:vector"}).index().ids) == list(map(str, range(N)))


def test_official_split_from_files(root: Path, arrays):
    np.savez(root / "b.npz", x=VECTOR[:4], y=np.array(["4", "1", "1", "2"]))
    data = arrays(
        inputs={"v": {"test": "b.npz:x", "train": "a.mat:vector"}},
        labels={"train": "a.csv:label", "test": "b.npz:y"},
        columns={"n": {"train": {"file": "a.csv", "column": 0}, "test": "b.npz:y"}},
    )
    check(data, v=np.concatenate([VECTOR, VECTOR[:4]]))
    index = data.index()
    assert index.split is not None
    assert index.split.tolist() == ["train"] * N + ["test"] * 4
    assert index.ids[0] == "train/0"
    assert index.ids[-1] == "test/3"
    assert index.targets[-4:].tolist() == [2, 0, 0, 1]
    assert index.columns["n"][-1] == "2"


def test_official_split_by_ranges_of_one_array(arrays):
    def part(key: str, index: Any) -> dict:
        return {"file": "a.npz", "key": key, "axis": 0, "index": index}

    data = arrays(
        inputs={"rgb": {"train": part("rgb", "2:"), "test": part("rgb", [1, 0])}},
        labels={"train": part("label", "2:"), "test": part("label", [1, 0])},
    )
    check(data, rgb=RGB[[*range(2, N), 1, 0]])
    assert data.index().targets[-2:].tolist() == np.searchsorted([1, 2, 4], LABEL[[1, 0]]).tolist()


def test_all_nan_is_absent_and_partly_nan_is_left_to_the_core(root: Path, arrays):
    holes = SERIES.copy()
    holes[3] = np.nan
    holes[4, 0, 0] = np.nan
    np.save(root / "holes.npy", holes)
    data = arrays(inputs={"s": "holes.npy", "stack": ["holes.npy", "series.npy"]})
    data.index()
    assert data.read(3) == {"s": None, "stack": None}
    np.testing.assert_array_equal(data.read(4)["s"], holes[4])


def test_counts(arrays):
    data = arrays(inputs={"s": "series.npy", "v": "a.mat:vector"}, counts=["s"])
    assert data.inputs()["s"].counts
    assert not data.inputs()["v"].counts


def test_a_copy_for_a_worker_is_small_and_reads_the_same(arrays):
    data = arrays(inputs={"rgb": "a.npz:rgb", "series": ["series.npy"] * 9})
    data.index()
    copied = pickle.dumps(data)
    assert len(copied) < SERIES.nbytes
    np.testing.assert_array_equal(pickle.loads(copied).read(5)["rgb"], RGB[5])


def test_an_array_of_several_modalities_is_loaded_once(arrays, monkeypatch: pytest.MonkeyPatch):
    from fusionkit_datasets import arrays as module

    read = []
    load = module.load_or_leave
    monkeypatch.setattr(module, "load_or_leave", lambda root, ref: (read.append(str(ref)), load(root, ref))[1])
    arrays(inputs={name: {"file": "series.npy", "axis": 2, "index": [i]} for i, name in enumerate("abc")}).index()
    assert read == ["series.npy"]


@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        ({"inputs": {"v": "b.npy"}}, ("inputs", "v"), "no such file"),
        ({"inputs": {"v": "a.npz:rbg"}}, ("inputs", "v"), "did you mean 'rgb'"),
        ({"inputs": {"v": ["a.npz:rgb", "a.npz:nil"]}}, ("inputs", "v"), "no array 'nil'"),
        ({"inputs": {"v": "a.npz:plot"}}, ("inputs", "v"), "plot holds text"),
        ({"inputs": {"v": {"file": "a.npz", "key": "rgb", "axes": "nhw"}}}, ("inputs", "v"), "names 3 axes"),
        ({"inputs": {"v": {"file": "series.npy", "axis": 2, "index": [18]}}}, ("inputs", "v"), "0 to 17"),
        ({"inputs": {"v": ["a.npz:rgb", "series.npy"]}}, ("inputs", "v"), "3 x 6 x 6 .* and 1 x 3 x 18 .*stacked"),
        ({"inputs": {"v": ["a.mat:vector", "series.npy"]}}, ("inputs", "v"), "cannot be stacked"),
        ({"inputs": {"v": "x.tif"}}, ("inputs", "v"), "a raster is no array"),
        ({"inputs": {"v": "short.npy"}}, ("inputs", "v"), "short.npy has 5 samples.*a.npz:label have 12"),
        ({"inputs": {"v": ["a.mat:vector", "short.npy"]}}, ("inputs", "v"), "a.mat:vector has 12.*short.npy has 5"),
        ({"inputs": {"v": {"train": "a.mat:vector"}}}, ("inputs", "v"), "divided into train, the labels into nothing"),
        ({"labels": "a.npz:lable"}, ("labels",), "did you mean 'label'"),
        ({"labels": "a.npz:mask"}, ("labels",), "12 x 6 x 6; one value"),
        ({"labels": "a.mat:vector"}, ("labels",), "one-hot"),
        ({"labels": "series.npy", "inputs": {"v": "a.mat:vector"}}, ("labels",), "one value a sample"),
        ({"columns": {"p": "short.npy"}}, ("columns", "p"), "one value a sample"),
        ({"columns": {"p": "plots.npy"}}, ("columns", "p"), "plots.npy has 5 samples"),
        ({"ids": "plots.npy"}, ("ids",), "plots.npy has 5 samples"),
        ({"counts": ["w"]}, ("counts",), "no modality 'w'"),
        ({"label_names": "plots.npy"}, ("label_names",), "5 names.*3 values"),
        ({"label_names": "nowhere.txt"}, ("label_names",), "no such file"),
        ({"classes": [1, 2]}, ("classes",), "hold 4"),
        (
            {"labels": {"train": {"file": "a.npz", "key": "label", "axis": 1, "index": 0}}},
            ("labels", "train"),
            "axis 1",
        ),
    ],
)
def test_refused(options: dict, option: tuple, message: str, root: Path, arrays):
    np.save(root / "short.npy", VECTOR[:5])
    np.save(root / "plots.npy", PLOT[:5])
    (root / "x.tif").write_bytes(b"II*")
    data = arrays(**({"inputs": {"v": "a.mat:vector"}} | options))
    with pytest.raises(DataError, match=message) as raised:
        data.index()
    assert raised.value.option == option


@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        ({"quantities": {"y": "q.npz:word"}}, ("quantities",), "y holds 'dry' in sample 1, which is no number"),
        ({"quantities": {"y": "q.npz:infinite"}}, ("quantities",), "y is infinite in sample 2"),
        ({"quantities": {"y": "q.npz:nothing"}}, ("quantities",), "no sample has y"),
        ({"quantities": {"y": "q.npz:mask"}}, ("quantities", "y"), "no array 'mask'"),
        ({"quantities": {"y": "series.npy"}}, ("quantities", "y"), "12 x 3 x 18; one value a sample"),
        ({"quantities": {"y": "a.h5:onehot"}}, ("quantities", "y"), "12 x 3; one value a sample"),
        (
            {"quantities": {"y": "q.npz:good", "z": "q.npz:short"}},
            ("quantities", "z"),
            "q.npz:short has 5 samples, but the quantities q.npz:good have 12",
        ),
        (
            {"quantities": {"y": "q.npz:short"}},
            ("inputs", "v"),
            "a.mat:vector has 12 samples, but the quantities q.npz:short have 5",
        ),
        (
            {"quantities": {"y": "q.npz:good", "z": {"train": "q.npz:good"}}},
            ("quantities", "z"),
            "divided into train, the quantities into nothing",
        ),
        ({"labels": "q.npz:half", "several_labels": True}, ("labels",), "row 3 of the labels holds something other"),
        ({"labels": "a.mat:vector", "several_labels": True}, ("labels",), "row 0 of the labels holds something other"),
        ({"labels": "a.npz:label", "several_labels": True}, ("labels",), "numbers in rows, 0 or 1 for each label"),
        ({"labels": "a.npz:plot", "several_labels": True}, ("labels",), "numbers in rows, 0 or 1 for each label"),
        (
            {"labels": "a.h5:onehot", "several_labels": True, "label_names": "names.txt"},
            ("label_names",),
            "2 names for 3 labels",
        ),
        ({"labels": "q.npz:several"}, ("labels",), "for several labels a sample set several_labels: true"),
    ],
)
def test_targets_refused(options: dict, option: tuple, message: str, root: Path, arrays):
    infinite, word, half = np.arange(12.0), np.full(12, "1.5", "<U3"), SEVERAL.astype(float)
    infinite[2], word[1], half[3, 1] = np.inf, "dry", np.nan
    np.savez(
        root / "q.npz", good=np.arange(12.0), short=np.arange(5.0), infinite=infinite, word=word, half=half,
        nothing=np.full(12, np.nan), several=SEVERAL,
    )  # fmt: skip
    (root / "names.txt").write_text("a\nb\n")
    data = arrays(**({"inputs": {"v": "a.mat:vector"}, "labels": None} | options))
    with pytest.raises(DataError, match=message) as raised:
        data.index()
    assert raised.value.option == option


OF_HEIGHT: dict[str, Any] = {"labels": None, "quantities": {"height": "a.csv:b0"}}


@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        ({"quantities": {"y": "a.csv:b0"}}, (), "give either `labels` or `quantities`"),
        ({"units": {"y": "m"}}, ("units",), "no quantity 'y'"),
        (
            OF_HEIGHT | {"units": {"hight": "m"}},
            ("units",),
            "no quantity 'hight'; did you mean 'height'",
        ),
        ({"several_labels": True, "classes": [1, 2]}, ("classes",), "`classes` is for one class a sample"),
        ({"several_labels": True, "ignore_labels": [1]}, ("ignore_labels",), "`ignore_labels` is for one class"),
        (OF_HEIGHT | {"several_labels": True}, ("several_labels",), "`several_labels` is for one class a sample"),
        (OF_HEIGHT | {"label_names": "names.txt"}, ("label_names",), "`label_names` is for one class a sample"),
        (OF_HEIGHT | {"classes": [1]}, ("classes",), "`classes` is for one class a sample"),
        (OF_HEIGHT | {"ignore_labels": [1]}, ("ignore_labels",), "`ignore_labels` is for one class a sample"),
    ],
)
def test_options_that_contradict_each_other(options: dict, option: tuple, message: str, arrays):
    with pytest.raises(DataError, match=message) as raised:
        arrays(inputs={"v": "a.mat:vector"}, **options)
    assert raised.value.option == option


def test_parts_must_have_one_shape(root: Path, arrays):
    np.save(root / "other.npy", VECTOR[:, :3])
    data = arrays(inputs={"v": {"train": "a.mat:vector", "test": "other.npy"}})
    with pytest.raises(DataError, match="a sample of train is 5, one of test is 3") as raised:
        data.inputs()
    assert raised.value.option == ("inputs", "v", "test")


def test_headers_alone_tell_the_shapes(root: Path, arrays):
    """An archive whose values are damaged still has its headers."""
    large = RANDOM.normal(size=(N, 5000))
    np.savez(root / "large.npz", x=large)
    data = bytearray((root / "large.npz").read_bytes())
    data[data.index(large[-1, -1].tobytes())] ^= 1
    (root / "large.npz").write_bytes(data)
    dataset = arrays(inputs={"x": "large.npz:x"})
    assert dataset.inputs()["x"].shape == (5000,)
    with pytest.raises(DataError, match="cannot be read: Bad CRC") as raised:
        dataset.index()
    assert raised.value.option == ("inputs", "x")


def test_the_constructor_reads_nothing(make):
    make(ArrayDataset, inputs={"x": "nowhere.npy"}, labels="nowhere.npy", root="/nowhere")
