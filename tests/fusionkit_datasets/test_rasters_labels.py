"""Points and polygons from every format: the same samples from each; joins; what has no label or no place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fusionkit_datasets.rasters import Rasters
from rasterio.crs import CRS
from rasterio.warp import transform

from fusionkit.errors import DataError

SCENE = np.random.default_rng(0).normal(size=(1, 40, 40)).astype(np.float32)
X, Y = [1100.0, 1200.0, 1300.0, 1205.0], [1900.0, 1800.0, 1700.0, 1805.0]
KIND, AGE = ["oak", "pine", "oak", "pine"], [5, 7, 9, 11]


@pytest.fixture
def labelled(tmp_path: Path, geotiff, make):
    geotiff(tmp_path / "scene.tif", SCENE)

    def labelled(labels: object, **options: object) -> Rasters:
        return make(
            Rasters, **({"root": tmp_path, "inputs": {"a": "scene.tif"}, "labels": labels, "window": 50} | options)
        )

    return labelled


def boxes() -> list[dict]:
    half = 15
    return [
        {
            "type": "Polygon",
            "coordinates": [[[x - half, y - 5], [x + half, y - 5], [x + half, y + 5], [x - half, y - 5]]],
        }
        for x, y in zip(X, Y, strict=True)
    ]


def geojson(path: Path, geometries: list, crs: str | None = "EPSG:32617", **columns: list) -> None:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    features = [
        {"type": "Feature", "geometry": geometry, "properties": row}
        for geometry, row in zip(geometries, rows, strict=True)
    ]
    named = {} if crs is None else {"crs": {"type": "name", "properties": {"name": crs}}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features} | named))


def vector(path: Path, geometries: list, crs: str = "EPSG:32617", **columns: list) -> None:
    pyogrio, shapely = pytest.importorskip("pyogrio"), pytest.importorskip("shapely")
    coded = np.array([shapely.to_wkb(shapely.from_geojson(json.dumps(one))) for one in geometries], dtype=object)
    data = [np.array(values, dtype=object if isinstance(values[0], str) else None) for values in columns.values()]
    pyogrio.raw.write(path, coded, data, list(columns), geometry_type=geometries[0]["type"], crs=crs)


@pytest.mark.parametrize("form", ["csv", "tsv", "geojson", "gpkg", "shp", "degrees"])
def test_every_format_gives_the_same_samples(form: str, labelled, tmp_path: Path):
    path = tmp_path / f"trees.{form}"
    labels = {"file": path.name, "column": "kind"}
    if form in ("csv", "tsv"):
        table = pd.DataFrame({"east": X, "north": Y, "kind": KIND, "age": AGE})
        table.to_csv(path, index=False, sep="," if form == "csv" else "\t")
        labels |= {"x": "east", "y": "north", "crs": "EPSG:32617"}
    elif form == "geojson":
        geojson(path, boxes(), "urn:ogc:def:crs:EPSG::32617", kind=KIND, age=AGE)
    elif form == "degrees":  # as RFC 7946 wants it, without a name of the CRS
        labels["file"] = "trees.json"
        places = zip(*transform(CRS.from_epsg(32617), CRS.from_epsg(4326), X, Y), strict=True)
        points = [{"type": "Point", "coordinates": place} for place in places]
        geojson(tmp_path / "trees.json", points, None, kind=KIND, age=AGE)
    else:
        vector(path, boxes(), kind=KIND, age=AGE)
    data = labelled(labels)
    index = data.index()
    assert index.class_names == ("oak", "pine")
    assert index.targets.tolist() == [0, 1, 0, 1]
    assert index.ids == [f"trees_{i}" for i in range(4)]
    assert index.columns["age"].tolist() == AGE
    assert index.columns["kind"].tolist() == KIND
    if form != "degrees":  # which rounds
        assert index.positions.tolist() == [[10, 10], [20, 20], [30, 30], [19, 20]]
    np.testing.assert_array_equal(data.read(3)["a"], SCENE[:, 17:22, 18:23])


def test_layers(labelled, tmp_path: Path):
    pyogrio = pytest.importorskip("pyogrio")
    vector(tmp_path / "t.gpkg", boxes(), label=KIND)
    shapes = pyogrio.raw.read(tmp_path / "t.gpkg")[2]
    fields = [np.array(["x", "y", "x", "y"], dtype=object)]
    pyogrio.raw.write(
        tmp_path / "t.gpkg",
        shapes,
        fields,
        ["label"],
        geometry_type="Polygon",
        crs="EPSG:32617",
        layer="more",
        append=True,
    )
    assert labelled({"file": "t.gpkg", "layer": "more"}).index().class_names == ("x", "y")
    assert labelled("t.gpkg").index().class_names == ("oak", "pine")
    with pytest.raises(DataError, match="no layer 'les'; it has t, more"):
        labelled({"file": "t.gpkg", "layer": "les"}).index()


def test_a_table_beside_several_files(labelled, tmp_path: Path):
    geojson(tmp_path / "t_1.geojson", boxes()[:2], tree=["A", "B"])
    geojson(tmp_path / "t_2.geojson", boxes()[2:], tree=["C", "A"])
    # A tree in two rows that agree, one of no class, and one that stands nowhere.
    rows = {"tree": ["A", "A", "B", "X"], "kind": ["oak", "oak", None, "elm"], "site": ["s", "s", "s", "s"]}
    pd.DataFrame(rows).to_csv(tmp_path / "trees.csv", index=False)
    labels = {"file": "t_*.geojson", "column": "kind", "id": "tree", "table": {"file": "trees.csv", "key": "tree"}}
    index = labelled(labels).index()
    assert index.ids == ["A", "B", "C", "A#2"]
    assert index.targets.tolist() == [0, -1, -1, 0]
    assert index.class_names == ("oak",)
    assert index.columns["site"].tolist() == ["s", "s", "", "s"]
    assert [id for id, bad in index.bad if "has no kind" in bad.reason] == ["B", "C"]
    rows["kind"][1] = "ash"
    pd.DataFrame(rows).to_csv(tmp_path / "trees.csv", index=False)
    with pytest.raises(DataError, match="rows of tree 'A' are of different kind"):
        labelled(labels).index()


def test_features_without_a_place(labelled, tmp_path: Path):
    geometries = [boxes()[0], None, {"type": "Point", "coordinates": []}, {"type": "Point", "coordinates": [9e6, 0]}]
    geojson(tmp_path / "t.geojson", geometries, label=KIND)
    index = labelled("t.geojson").index()
    assert index.ids == ["t_0"]
    listed = {id: bad.reason for id, bad in index.bad}
    assert listed["t_1"] == listed["t_2"] == "has no geometry"
    assert "(9000000, 0) lies in none of the scenes" in listed["t_3"]
    assert {bad.path for _, bad in index.bad} == {str(tmp_path / "t.geojson")}


def test_coordinates_that_are_no_numbers(labelled, tmp_path: Path):
    (tmp_path / "t.csv").write_text("x,y,label\n1100,1900,a\n,1900,b\nhere,1900,a\n1200,1800,b\n")
    index = labelled({"file": "t.csv", "crs": "EPSG:32617"}).index()
    assert index.ids == ["t_0", "t_3"]
    assert [id for id, _ in index.bad] == ["t_1", "t_2"]


def test_rare_classes(labelled, tmp_path: Path):
    geojson(tmp_path / "t.geojson", boxes(), label=["a", "b", "b", "b"])
    index = labelled("t.geojson", min_count=2).index()
    assert index.class_names == ("b",)
    assert index.targets.tolist() == [-1, 0, 0, 0]
    index = labelled("t.geojson", classes=["b"], ignore_labels=["a"], label_names=None).index()
    assert index.targets.tolist() == [-1, 0, 0, 0]


def test_numbers_as_classes(labelled, tmp_path: Path):
    geojson(tmp_path / "t.geojson", boxes(), label=[3, 1, 3, 0])
    index = labelled("t.geojson", ignore_labels=[0]).index()
    assert index.class_names == ("1", "3")
    assert index.targets.tolist() == [1, 0, 1, -1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("nowhere.shp", "no such file"),
        ("t_*.shp", "no file fits"),
        ("empty.geojson", "0 bytes"),
        ("broken.geojson", "cannot be read"),
        ("broken.gpkg", "cannot be read"),
        ("none.geojson", "holds no features"),
        ("list.geojson", "no GeoJSON FeatureCollection"),
        ("t.csv", "does not say its CRS"),
        ({"file": "t.csv", "crs": "EPSG:1"}, "is no CRS"),
        ({"file": "t.csv", "crs": "EPSG:32617", "x": "lon"}, "no column 'lon'"),
        ({"file": "t.geojson", "column": "knid"}, "no column 'knid'; did you mean 'kind'"),
        ({"file": "t.geojson", "column": "kind", "table": {"file": "t.csv", "key": "tree"}}, "no column 'tree'"),
        ({"file": "t.geojson", "column": "kind", "crs": "EPSG:32618"}, "nothing lies in a scene.*EPSG:32618"),
    ],
)
def test_refused(labels: object, message: str, labelled, tmp_path: Path):
    pytest.importorskip("pyogrio")
    (tmp_path / "empty.geojson").write_bytes(b"")
    (tmp_path / "broken.geojson").write_text('{"type": "FeatureCollection", "features": [')
    (tmp_path / "broken.gpkg").write_bytes(b"SQLite format 3\0" + b"x" * 90)
    (tmp_path / "none.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    (tmp_path / "list.geojson").write_text("[]")
    (tmp_path / "t.csv").write_text("x,y,label\n1100,1900,a\n")
    geojson(tmp_path / "t.geojson", boxes(), kind=KIND)
    with pytest.raises(DataError, match=message) as raised:
        labelled(labels).index()
    assert raised.value.option == ("labels",)
