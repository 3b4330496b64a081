"""`image_text`: pairs as each format's file has them, by hand; what is bad is told by name and nothing else is lost."""

from __future__ import annotations

import codecs
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fusionkit_datasets.framing import Framing
from fusionkit_datasets.image_text import ImageText
from PIL import Image

from fusionkit.errors import BadSample, DataError
from fusionkit.flow import InputSpec
from fusionkit.testing import DatasetSuite

SIZES = {"one.jpg": (40, 60), "two.jpg": (50, 50), "three.jpg": (60, 40)}
"""Height and width of the images."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed, (name, (height, width)) in enumerate(SIZES.items()):
        colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
        Image.fromarray(colours).resize((width, height)).save(folder / name)
    return folder


@pytest.fixture
def pairs(tmp_path: Path, images: Path, make):
    """Write a file, and open it."""

    def build(name: str, content: Any, **options: Any) -> ImageText:
        write(tmp_path / name, content)
        return make(ImageText, **({"root": tmp_path, "file": name, "images": "images", "size": 16} | options))

    return build


def write(path: Path, content: Any) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def texts(data: ImageText) -> list[str]:
    return [data.read(i)["text"].item() for i in range(len(data._captions))]


TOKEN = """\
one.jpg#0\tA red field .
one.jpg#1\tSome houses beside a field .
two.jpg#0\t一条河穿过城市。
two.jpg#1\t\x20
three.jpg#0\tAn airport with two runways .
no tab here
three.jpg#1
"""
KARPATHY = {
    "dataset": "flickr30k",
    "images": [
        {"filename": "one.jpg", "imgid": 0, "split": "train", "sentids": [0, 1], "sentences": [
            {"tokens": ["a", "red", "field"], "raw": "A red field .", "imgid": 0, "sentid": 0},
            {"tokens": [], "raw": " Some houses. \n", "imgid": 0, "sentid": 1},
        ]},
        {"filename": "two.jpg", "imgid": 1, "split": "test", "sentids": [2], "sentences": [
            {"tokens": [], "raw": "一条河穿过城市。", "imgid": 1, "sentid": 2},
            {"tokens": [], "raw": "", "imgid": 1, "sentid": 3},
            {"tokens": [], "imgid": 1, "sentid": 4},
        ]},
        {"filename": "three.jpg", "imgid": 2, "split": "val", "sentids": [], "sentences": []},
    ],
}  # fmt: skip
COCO_IMAGES = [
    {"id": 391895, "file_name": "one.jpg", "height": 40, "width": 60, "license": 3, "date_captured": "2013-11-14"},
    {"id": 522418, "file_name": "two.jpg", "height": 50, "width": 50, "license": 4},
]
CAPTIONS = {
    "info": {"description": "COCO 2017 Dataset"}, "licenses": [], "images": COCO_IMAGES,
    "annotations": [
        {"image_id": 391895, "id": 770337, "caption": "A man with a red helmet. "},
        {"image_id": 522418, "id": 686, "caption": "A woman cutting a cake."},
        {"image_id": 391895, "id": 771687, "caption": "Man riding a bike\n"},
        {"image_id": 391895, "id": 9, "caption": "   "},
        {"image_id": 77, "id": 10, "caption": "Of no image."},
    ],
}  # fmt: skip
INSTANCES = {
    "images": COCO_IMAGES,
    "annotations": [
        {"id": 1, "image_id": 391895, "category_id": 4, "bbox": [15.0, 10.0, 30.0, 20.0], "iscrowd": 0, "area": 9.0,
         "segmentation": [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]},
        {"id": 2, "image_id": 522418, "category_id": 1, "bbox": [0, 0, 10, 10], "iscrowd": 0},
        {"id": 3, "image_id": 522418, "category_id": 1, "bbox": [20, 0, 10, 10], "iscrowd": 0},
        {"id": 4, "image_id": 522418, "category_id": 4, "bbox": [25, 25, 25, 12.5], "iscrowd": 0},
        {"id": 5, "image_id": 391895, "category_id": 1, "bbox": [0, 0, 60, 40], "iscrowd": 1,
         "segmentation": {"counts": [1, 2], "size": [40, 60]}},
    ],
    "categories": [{"supercategory": "person", "id": 1, "name": "person"}, {"id": 4, "name": "motorcycle"}],
}  # fmt: skip


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_flickr30k(mark: bytes, newline: str, pairs):
    data = pairs("results.token", mark + TOKEN.replace("\n", newline).encode())
    assert data.inputs() == {"image": InputSpec((3, 16, 16)), "text": InputSpec((), text=True)}
    assert data.task == "retrieval"
    index = data.index()
    assert list(index.ids) == ["one.jpg#0", "one.jpg#1", "two.jpg#0", "three.jpg#0"]
    assert index.groups.tolist() == ["one.jpg", "one.jpg", "two.jpg", "three.jpg"]
    assert texts(data) == [
        "A red field .", "Some houses beside a field .", "一条河穿过城市。", "An airport with two runways ."
    ]  # fmt: skip
    assert index.targets.tolist() == [-1] * 4
    assert index.class_names == data.class_names() == ()
    assert index.split is None
    assert [(id, bad.reason, bad.line) for id, bad in index.bad] == [
        ("two.jpg#1", "the caption is empty", 4),
        ("line 6", "the line is not image#number, a tab and a caption", 6),
        ("line 7", "the line is not image#number, a tab and a caption", 7),
    ]


def test_a_sample(pairs, images: Path):
    data = pairs("results.token", TOKEN)
    data.index()
    for dataset in (data, pickle.loads(pickle.dumps(data))):
        for i, name in [(3, "three.jpg"), (0, "one.jpg"), (1, "one.jpg"), (2, "two.jpg")]:
            sample = dataset.read(i)
            expected = Framing.of(16, "crop").read(images / name)
            np.testing.assert_array_equal(sample["image"], expected)
            assert sample["text"].shape == ()
            assert sample["text"].dtype.kind == "U"


def test_flickr30k_divided_by_karpathy(pairs, tmp_path: Path):
    write(tmp_path / "dataset_flickr30k.json", KARPATHY | {"images": KARPATHY["images"][:2]})
    index = pairs("results.token", TOKEN, splits="dataset_flickr30k.json").index()
    assert index.split.tolist() == ["train", "train", "test", ""]
    assert index.columns["split"].tolist() == index.split.tolist()


def test_a_number_twice(pairs):
    index = pairs("a.token", "one.jpg#0\ta\none.jpg#0\tb\n").index()
    assert list(index.ids) == ["one.jpg#0"]
    assert [(id, bad.reason, bad.line) for id, bad in index.bad] == [
        ("one.jpg#0", "the image has another caption of this number", 2)
    ]


@pytest.mark.parametrize("format", [None, "karpathy"])
def test_karpathy(format: str | None, pairs):
    data = pairs("dataset.json", KARPATHY, format=format)
    index = data.index()
    assert list(index.ids) == ["one.jpg#0", "one.jpg#1", "two.jpg#0"]
    assert index.split.tolist() == ["train", "train", "test"]
    assert texts(data) == ["A red field .", "Some houses.", "一条河穿过城市。"]
    assert [(id, bad.reason) for id, bad in index.bad] == [
        ("two.jpg#1", "the caption is empty"),
        ("two.jpg#2", "there is no caption"),
        ("three.jpg#0", "there is no caption"),
    ]


def test_karpathy_of_coco(pairs, images: Path):
    """Its images lie in folders of their own, and what the official validation has left over is trained on."""
    (images / "val2014").mkdir()
    (images / "one.jpg").rename(images / "val2014" / "one.jpg")
    image = KARPATHY["images"][0] | {"filepath": "val2014", "split": "restval", "cocoid": 391895}
    data = pairs("dataset_coco.json", {"images": [image]})
    index = data.index()
    assert list(index.ids) == ["val2014/one.jpg#0", "val2014/one.jpg#1"]
    assert index.split.tolist() == ["train", "train"]
    data.read(1)


def test_an_unknown_split(pairs):
    image = KARPATHY["images"][0] | {"split": "extra"}
    with pytest.raises(DataError, match=r"one\.jpg is of the split 'extra'; known are train, restval, val, test"):
        pairs("dataset.json", {"images": [image]}).index()


@pytest.mark.parametrize("format", [None, "coco"])
def test_coco_captions(format: str | None, pairs):
    data = pairs("captions_val2017.json", codecs.BOM_UTF8 + json.dumps(CAPTIONS).encode(), format=format)
    index = data.index()
    assert list(index.ids) == ["one.jpg#0", "two.jpg#0", "one.jpg#1"]
    assert texts(data) == ["A man with a red helmet.", "A woman cutting a cake.", "Man riding a bike"]
    assert index.split is None
    assert [(id, bad.reason) for id, bad in index.bad] == [
        ("one.jpg#2", "the caption is empty"),
        ("image 77", "an annotation is of an image that the file does not list"),
    ]


def test_coco_in_its_official_parts(pairs, tmp_path: Path, images: Path):
    """Two files and two folders, with images of one name."""
    other = tmp_path / "others"
    other.mkdir()
    Image.new("RGB", (20, 20), "red").save(other / "one.jpg")
    write(tmp_path / "captions_val.json", {"images": COCO_IMAGES[:1], "annotations": CAPTIONS["annotations"][:1]})
    data = pairs(
        "captions_train.json",
        CAPTIONS | {"annotations": CAPTIONS["annotations"][:3]},
        file={"train": "captions_train.json", "val": "captions_val.json"},
        images={"train": "images", "val": "others"},
    )
    index = data.index()
    assert list(index.ids) == ["train/one.jpg#0", "train/two.jpg#0", "train/one.jpg#1", "val/one.jpg#0"]
    assert index.split.tolist() == ["train", "train", "train", "val"]
    assert len(set(index.groups.tolist())) == 3
    assert data.read(3)["image"][0].min() > 250
    assert data.read(2)["image"][0].min() < 250


@pytest.mark.parametrize("key", [{"cocoid": 391895, "filename": "COCO_val2014_000000391895.jpg"}, {}])
def test_coco_divided_by_karpathy(key: dict, pairs, tmp_path: Path):
    """By the number of an image, which outlives its names, or by its file; it goes before the parts of the files."""
    write(tmp_path / "dataset_coco.json", {"images": [KARPATHY["images"][0] | {"split": "test"} | key]})
    index = pairs("c.json", CAPTIONS, file={"val": "c.json"}, splits="dataset_coco.json").index()
    assert index.split.tolist() == ["test", "", "test"]


def test_coco_boxes(pairs):
    """By hand: the motorcycle of `one` has the corners (15, 10) and (45, 30) of 60 x 40."""
    data = pairs("instances.json", INSTANCES, boxes=True, fit="squash")
    assert data.task == "regression"
    index = data.index()
    assert index.task == "regression"
    assert list(index.ids) == ["one.jpg#0", "two.jpg#0"]
    assert texts(data) == ["motorcycle", "motorcycle"]
    assert index.class_names == data.class_names() == ("x1", "y1", "x2", "y2")
    np.testing.assert_allclose(index.targets, [[0.25, 0.25, 0.75, 0.75], [0.5, 0.5, 1, 0.75]])
    assert not index.bad


def test_boxes_are_cropped_with_the_image(pairs):
    """Of 60 x 40, the square crop shows the columns from 10 to 50."""
    index = pairs("instances.json", INSTANCES, boxes=True).index()
    np.testing.assert_allclose(index.targets[0], [0.125, 0.25, 0.875, 0.75])


def test_boxes_drawn_on_an_image_of_another_size(pairs, images: Path):
    data = pairs("instances.json", INSTANCES, boxes=True)
    data.index()
    data.read(0)
    with Image.open(images / "one.jpg") as image:
        image.resize((90, 60)).save(images / "one.jpg")
    data = pairs("instances.json", INSTANCES, boxes=True)
    data.index()
    with pytest.raises(BadSample, match="the image is 60 x 90, and 40 x 60 where its boxes were drawn"):
        data.read(0)


CSV = """\
image,caption,place,split,x1,y1,x2,y2
one.jpg,"A red field, with houses",farm,train,15,10,45,30
one.jpg,Houses,farm,train,0,0,30,20
two.jpg,一座机场,airport,val,,,,
three.jpg,,farm,train,1,1,2,2
three.jpg,A river,,test,0,0,40,30
"""


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_csv(mark: bytes, pairs):
    data = pairs("a.csv", mark + CSV.encode())
    index = data.index()
    assert list(index.ids) == ["one.jpg#0", "one.jpg#1", "two.jpg#0", "three.jpg#1"]
    assert texts(data) == ["A red field, with houses", "Houses", "一座机场", "A river"]
    assert index.split.tolist() == ["train", "train", "val", "test"]
    assert index.targets.tolist() == [-1] * 4
    assert index.columns["place"].tolist() == ["farm", "farm", "airport", ""]
    assert [(id, bad.reason, bad.line) for id, bad in index.bad] == [("three.jpg#0", "the caption is empty", 5)]


def test_csv_with_classes(pairs):
    data = pairs("a.csv", CSV, label="place")
    assert data.task == "classification"
    assert data.class_names() is None
    index = data.index()
    assert index.class_names == ("airport", "farm")
    assert index.targets.tolist() == [1, 1, 0, -1]
    data = pairs("a.csv", CSV, label="place", classes=["farm"], ignore_labels=["airport"])
    assert data.class_names() == ("farm",)
    assert data.index().targets.tolist() == [0, 0, -1, -1]


@pytest.mark.parametrize("one", [False, True])
def test_csv_with_boxes(one: bool, pairs):
    """The images' sizes come from their own headers; a pair without a box has no target."""
    content, columns = CSV, {}
    if one:
        rows = [line.rsplit(",", 4) for line in CSV.splitlines()]
        content = "\n".join([f"{rows[0][0]},box", *(f'{row[0]},"[{", ".join(row[1:])}]"' for row in rows[1:])])
        content, columns = content.replace("[, , , ]", ""), {"columns": {"box": "box"}}
    told = []
    data = pairs("a.csv", content, boxes=True, fit="squash", **columns)
    index = data.index(lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert index.task == "regression"
    expected = [[0.25, 0.25, 0.75, 0.75], [0, 0, 0.5, 0.5], [np.nan] * 4, [0, 0, 1, 0.5]]
    np.testing.assert_allclose(index.targets, expected)
    assert index.labelled.tolist() == [True, True, False, True]
    assert len(texts(data)) == 4


def test_bad_boxes(pairs, images: Path):
    (images / "two.jpg").write_bytes(b"")
    rows = [
        "image,caption,x1,y1,x2,y2", "one.jpg,good,0,0,30,20", "one.jpg,word,a,0,30,20", "one.jpg,short,1,,3,4",
        "one.jpg,turned,30,0,0,20", "one.jpg,beyond,0,0,99,20", "two.jpg,empty,0,0,9,9", "gone.jpg,gone,0,0,9,9",
        "one.jpg,last,0,0,60,40",
    ]  # fmt: skip
    data = pairs("a.csv", "\n".join(rows), boxes=True, fit="squash")
    index = data.index()
    assert texts(data) == ["good", "last"]
    np.testing.assert_allclose(index.targets, [[0, 0, 0.5, 0.5], [0, 0, 1, 1]])
    reasons = {id: bad.reason for id, bad in index.bad}
    assert list(reasons) == [
        "row 1 (one.jpg)", "row 2 (one.jpg)", "one.jpg#1", "one.jpg#2", "two.jpg#0", "gone.jpg#0"
    ]  # fmt: skip
    for reason, part in zip(
        reasons.values(),
        ["no box of four", "no box of four", "is no box", "reaches beyond", "0 bytes", "no such file"],
        strict=True,
    ):
        assert part in reason
    with pytest.raises(DataError, match=r"no box can be used; the first: .*is no box"):
        pairs("a.csv", "\n".join(rows[:1] + rows[4:5]), boxes=True).index()


def test_tsv_and_other_columns(pairs):
    content = "path\tsentence\tset\none.jpg\tA field\ttest\n"
    data = pairs("a.tsv", content, columns={"image": "path", "caption": "sentence", "split": "set"})
    assert data.index().split.tolist() == ["test"]
    data = pairs("a.tsv", content, columns={"image": "path", "caption": "sentence", "split": None})
    assert data.index().split is None
    assert data.index().columns["set"].tolist() == ["test"]


def test_dead_links_and_broken_images_are_samples_that_cannot_be_read(pairs, images: Path):
    """All others are read; nothing raises but a finding."""
    whole = (images / "one.jpg").read_bytes()
    (images / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "void.jpg").write_bytes(b"")
    (images / "link.jpg").symlink_to(images / "nowhere.jpg")
    (images / "folder.jpg").mkdir()
    names = ["one.jpg", "gone.jpg", "cut.jpg", "void.jpg", "link.jpg", "folder.jpg", "two.jpg"]
    data = pairs("a.token", "".join(f"{name}#0\tA field\n" for name in names))
    index = data.index()
    found = {}
    for i, id in enumerate(index.ids):
        try:
            data.read(i)
        except BadSample as bad:
            found[id] = bad
    assert list(found) == [f"{name}#0" for name in names[1:-1]]
    assert [bad.path for bad in found.values()] == [str(images / name) for name in names[1:-1]]
    assert found["link.jpg#0"].reason == "is a link to nowhere"


@pytest.mark.parametrize(
    ("name", "content", "options", "option", "message"),
    [
        ("a.token", "", {}, ("file",), "0 bytes"),
        ("a.token", "no token\n", {}, ("file",), "is it of another `format`"),
        ("a.token", b"\xff\xfe\x00", {}, ("file",), "no text in UTF-8"),
        ("a.token", "one.jpg#0\t \n", {}, ("file",), "no image has a caption"),
        ("a.json", '{"images": [{"filename": "one.jpg", "sentences": [{"raw": "A fi', {}, ("file",), "Invalid JSON"),
        ("a.json", {"images": [{"sentences": []}]}, {}, ("file",), r"images\.0\.filename: Field required"),
        ("a.json", {"images": []}, {}, ("file",), "say its `format`"),
        ("a.json", {"sentences": [], "annotations": []}, {}, ("file",), "say its `format`"),
        ("a.txt", TOKEN, {}, ("file",), "say its `format`: flickr30k, karpathy, coco or csv"),
        ("a.json", INSTANCES, {"format": "coco"}, ("file",), "no annotation has a caption; name captions_"),
        ("a.json", CAPTIONS, {"boxes": True}, ("file",), r"annotations\.0\.category_id: Field required"),
        ("a.json", KARPATHY, {"boxes": True}, ("boxes",), "`boxes` is for the format coco or csv, not karpathy"),
        ("a.json", KARPATHY, {"label": "place"}, ("label",), "`label` is for the format csv"),
        ("a.json", KARPATHY, {"splits": "a.json"}, ("splits",), "for the format flickr30k or coco"),
        ("a.token", TOKEN, {"splits": "gone.json"}, ("splits",), "no such file"),
        ("a.token", TOKEN, {"images": "picture"}, ("images",), "no such folder"),
        ("a.csv", CSV, {"label": "places"}, ("label",), "no column 'places'; did you mean 'place'"),
        ("a.csv", CSV, {"columns": {"caption": "text"}}, ("columns",), "no column 'text'"),
        ("a.csv", CSV, {"columns": {"split": "part"}}, ("columns",), "no column 'part'"),
        ("a.csv", CSV, {"boxes": True, "columns": {"box": "box"}}, ("columns",), "no column 'box'"),
        ("a.csv", CSV.replace("val", "dev"), {}, ("file",), "row 2 .two.jpg. is of the split 'dev'"),
        ("a.csv", CSV + "one.jpg,a,b\n", {}, ("file",), "line 7 has 3 fields, line 1 has 8"),
    ],
)
def test_what_is_refused(name, content, options, option, message, pairs):
    data = pairs(name, content, **options)
    with pytest.raises(DataError, match=message) as caught:
        data.index()
    assert caught.value.option == option


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"boxes": True, "label": "place"}, "a box or a class"),
        ({"classes": ["farm"]}, "`classes` is for one class a sample"),
        ({"images": {"train": "images"}}, "parts are not those of `file`"),
    ],
)
def test_options_that_do_not_go_together(options: dict, message: str, pairs):
    with pytest.raises(DataError, match=message):
        pairs("a.csv", CSV, **options)


class TestTheRules(DatasetSuite):
    def make(self, folder: Path) -> ImageText:
        rows = ["image,caption,split"]
        for i, split in enumerate(["train", "train", "val", "test"]):
            Image.new("RGB", (20, 20), (60 * i, 0, 0)).save(folder / f"{i}.jpg")
            rows += [f"{i}.jpg,A field,{split}", f"{i}.jpg,一片田野,{split}"]
        write(folder / "pairs.csv", "\n".join(rows))
        return ImageText(file=Path("pairs.csv"), root=folder, size=8)

    def damage(self, folder: Path) -> None:
        data = (folder / "2.jpg").read_bytes()
        (folder / "2.jpg").write_bytes(data[: len(data) // 2])
