"""Plots: what is read of good files, and what is told of bad ones."""

import csv
import struct
from pathlib import Path

import numpy as np
import pytest
from fusionkit_plot_files.dataset import PlotFiles
from fusionkit_plot_files.plot_file import write_plot

import fusionkit
from fusionkit import BadSample, DataError
from fusionkit.testing import DatasetSuite, PluginSuite

IMAGE = np.arange(3 * 2 * 2).reshape(3, 2, 2)
SPECTRUM = np.array([0.25, 0.5, 0.125, 1.0, 0.0], np.float32)


class TestPlugin(PluginSuite):
    module = "fusionkit_plot_files.plugin"


class TestSuite(DatasetSuite):
    def make(self, folder):
        PlotFiles.make(folder, plots=9)
        return PlotFiles(root=folder)

    def damage(self, folder):
        path = folder / "004.plot"
        path.write_bytes(path.read_bytes()[:-3])


@pytest.fixture
def plots(tmp_path):
    """Three plots: whole, without a spectrum, and without an image or a label."""
    write_plot(tmp_path / "a.plot", IMAGE, SPECTRUM)
    write_plot(tmp_path / "b.plot", IMAGE + 7, None)
    write_plot(tmp_path / "c.plot", None, SPECTRUM)
    (tmp_path / "labels.csv").write_text("file,class,split\na.plot,oats,train\nb.plot,maize,test\nc.plot,,\n")
    return tmp_path


def test_the_format_is_that_of_the_readme(plots):
    header = b"PLOT" + struct.pack("<HHHHH", 1, 3, 2, 2, 5)
    assert (plots / "a.plot").read_bytes() == header + struct.pack("<12H5f", *range(12), *SPECTRUM)


def test_what_is_read(plots):
    dataset = PlotFiles(root=plots)
    assert {name: spec.shape for name, spec in dataset.inputs().items()} == {"image": (3, 2, 2), "spectrum": (5,)}
    index = dataset.index()
    assert index.class_names == ("maize", "oats")
    assert index.targets.tolist() == [1, 0, -1]
    assert index.split.tolist() == ["train", "test", ""]
    whole, imaged, measured = (dataset.read(i) for i in range(3))
    np.testing.assert_array_equal(whole["image"], IMAGE)
    np.testing.assert_array_equal(whole["spectrum"], SPECTRUM)
    assert imaged["spectrum"] is None
    assert measured["image"] is None


BAD = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "missing": (Path.unlink, "cannot be read: No such file"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-3]), "has 55 bytes, and by its header 58"),
    "too long": (lambda path: path.write_bytes(path.read_bytes() + b"more"), "has 62 bytes, and by its header 58"),
    "within the header": (lambda path: path.write_bytes(path.read_bytes()[:9]), "ends within its header, after 9"),
    "another format": (lambda path: path.write_bytes(b"GIF89a" * 10), "is no .plot file"),
    "another version": (lambda path: path.write_bytes(b"PLOT" + b"\7\0" + bytes(8)), "is of version 7 of the format"),
}


@pytest.mark.parametrize(("damage", "told"), BAD.values(), ids=BAD)
def test_a_bad_file_is_a_bad_sample(plots, damage, told):
    damage(plots / "a.plot")
    dataset = PlotFiles(root=plots)
    assert dataset.inputs().keys() == {"image", "spectrum"}  # the other files tell
    dataset.index()
    with pytest.raises(BadSample, match=told) as error:
        dataset.read(0)
    assert error.value.path == str(plots / "a.plot")
    dataset.read(1)


TABLES = {
    "nothing": ("", "lists no plot"),
    "heads alone": ("file,class\n", "lists no plot"),
    "no class": ("file,kind\na.plot,oats\n", "has no column class"),
    "twice": ("file,class\na.plot,oats\na.plot,oats\n", "line 3: a.plot is listed twice"),
    "no file": ("file,class\n,oats\n", "line 2: names no file"),
    "split": ("file,class,split\na.plot,oats,trian\n", "line 2: the split is 'trian'; write train, val, test"),
    "unreadable": (b"file,class\n\xff\xfe,oats\n", "cannot be read: 'utf-8' codec"),
}


@pytest.mark.parametrize(("table", "told"), TABLES.values(), ids=TABLES)
def test_what_is_said_of_a_table(plots, table, told):
    (plots / "labels.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(DataError, match=told) as error:
        PlotFiles(root=plots).index()
    assert error.value.path == plots / "labels.csv"


def test_a_run_goes_on_without_bad_files(tmp_path):
    """Every way in which a file is bad costs that plot, and is listed."""
    PlotFiles.make(tmp_path, plots=60)
    whole = (tmp_path / "000.plot").read_bytes()
    (tmp_path / "000.plot").write_bytes(b"")
    (tmp_path / "001.plot").unlink()
    (tmp_path / "002.plot").write_bytes(whole[:-1])
    (tmp_path / "003.plot").write_bytes(whole[:-4] + struct.pack("<f", float("nan")))
    write_plot(tmp_path / "004.plot", IMAGE, None)
    recipe = Path(__file__).parents[1] / "recipe.yaml"
    overrides = [f"data.root={tmp_path}", "data.max_bad=0.1", "train.epochs=1"]
    run = fusionkit.run(recipe, overrides=overrides, runs=tmp_path / "runs")
    with (run.path / "bad_samples.csv").open(newline="") as file:
        assert {row["id"]: row["reason"] for row in csv.DictReader(file)} == {
            "000.plot": "is empty",
            "001.plot": "cannot be read: No such file or directory",
            "002.plot": f"has {len(whole) - 1} bytes, and by its header {len(whole)}",
            "003.plot": "spectrum holds NaN",
            "004.plot": "image is 3 x 2 x 2, not 3 x 8 x 8",
        }


def test_no_file_and_no_table(plots, tmp_path_factory):
    for plot in plots.glob("*.plot"):
        plot.unlink()
    with pytest.raises(DataError, match=r"names no \.plot file that can be read"):
        PlotFiles(root=plots).inputs()
    with pytest.raises(DataError, match="cannot be read"):
        PlotFiles(root=tmp_path_factory.mktemp("empty")).inputs()
