"""`vqa`: the official files of VQA 2.0, a few questions long, and the classes that follow from them by hand."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fusionkit_datasets.framing import Framing
from fusionkit_datasets.vqa import OTHER, VQA
from fusionkit_datasets.vqa_answers import most_frequent, normalized, of_most
from PIL import Image

from fusionkit.errors import BadSample, DataError
from fusionkit.flow import InputSpec
from fusionkit.raters import NOBODY


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Yes", "yes"),
        ("No.", "no"),
        ("2.50 dollars.", "2.50 dollars"),
        ("5 p.m.", "5 pm"),
        ("two", "2"),
        ("None", "0"),
        ("a dog", "dog"),
        ("The  Dog and an owl", "dog and owl"),
        ("dont know", "don't know"),
        ("the girl's", "girl's"),
        ("don’t", "don't"),
        ("100,978", "100978"),
        ("red,blue", "red blue"),
        ("black & white", "black white"),
        ("t-shirt", "t shirt"),
        ("2:50 pm", "2:50 pm"),
        ("its well", "its well"),
        ("红色。", "红色"),
        ("", ""),
        ("a", ""),
    ],
)
def test_normalized(answer: str, expected: str):
    assert normalized(answer) == expected
    assert normalized(expected) == expected


def test_the_most_frequent():
    assert most_frequent(["no", "yes", "2", "yes", "", "", "", "2", "cat"], 3) == ["2", "yes", "cat"]
    assert most_frequent(["b", "a"], 10) == ["a", "b"]
    assert of_most([2, -1, 1, 2, 1, -1, -1, -1]) == 1
    assert of_most([-1, -1]) == -1


def questions(part: str, *asked: tuple[int, int, Any]) -> dict:
    keys = ("question_id", "image_id", "question")
    return {
        "info": {"version": "2.0"}, "task_type": "Open-Ended", "data_type": "mscoco", "license": {},
        "data_subtype": f"{part}2014", "questions": [dict(zip(keys, one, strict=True)) for one in asked],
    }  # fmt: skip


def annotations(part: str, *given: tuple[int, int, list[str]]) -> dict:
    return {
        "info": {}, "license": {}, "data_type": "mscoco", "data_subtype": f"{part}2014",
        "annotations": [
            {
                "question_type": "what", "answer_type": "other", "multiple_choice_answer": (answers or [""])[0],
                "question_id": number, "image_id": image,
                "answers": [
                    {"answer": answer, "answer_confidence": "yes", "answer_id": i + 1}
                    for i, answer in enumerate(answers)
                ],
            }
            for number, image, answers in given
        ],
    }  # fmt: skip


NET = ["net"] * 6 + ["netting"] * 3 + ["mesh"]
YES = ["yes"] * 5 + ["no"] * 5
FILES: dict[str, dict] = {
    "q_train.json": questions(
        "train", (10, 1, "What is behind him? "), (11, 1, "Is it day?"), (20, 2, "天在下雨吗？"), (21, 2, "Who?")
    ),
    "a_train.json": annotations(
        "train", (10, 1, NET), (11, 1, YES), (20, 2, ["Yes."] * 10), (21, 2, ["Anna"] * 10)
    ),
    "q_val.json": questions("val", (30, 3, "A net?"), (31, 3, "Colour?"), (32, 3, "What?")),
    "a_val.json": annotations(
        "val", (30, 3, ["no"] * 4 + ["yes", "yes", "a net", "net", "Net", "the net"]), (31, 3, ["teal"] * 10),
        (32, 3, ["hello", *["some thing"] * 8, "yes"]),
    ),
}  # fmt: skip
"""Of each question of train the most frequent answer: net, yes (given before no), yes, anna."""


@pytest.fixture
def vqa(tmp_path: Path, make):
    """Write the files, as they are but for what is given, and open them."""
    for part, image in [("train", 1), ("train", 2), ("val", 3)]:
        (tmp_path / part).mkdir(exist_ok=True)
        colour = Image.new("RGB", (20, 20), (50 * image, 0, 0))
        colour.save(tmp_path / part / f"COCO_{part}2014_{image:012d}.jpg", quality=100)

    def build(changed: dict[str, Any] | None = None, **options: Any) -> VQA:
        for name, content in (FILES | (changed or {})).items():
            (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
        given = {
            "root": tmp_path,
            "questions": {"train": "q_train.json", "val": "q_val.json"},
            "annotations": {"train": "a_train.json", "val": "a_val.json"},
            "images": {"train": "train", "val": "val"},
            "answers": 2,
            "size": 8,
        }
        return make(VQA, **(given | options))

    return build


def test_by_hand(vqa, tmp_path: Path):
    data = vqa()
    assert data.inputs() == {"image": InputSpec((3, 8, 8)), "text": InputSpec((), text=True)}
    index = data.index()
    assert list(index.ids) == ["10", "11", "20", "21", "30", "31", "32"]
    assert index.class_names == ("yes", "anna", OTHER)  # twice, and the first in the alphabet of those given once
    # 10 has no answer that is a class: no label in train. 31 neither: it counts, in val. 32 has been given one `yes`.
    assert index.targets.tolist() == [-1, 0, 0, 1, 0, 2, 0]
    assert index.split.tolist() == ["train"] * 4 + ["val"] * 3
    assert index.columns["split"].tolist() == index.split.tolist()
    assert len(set(index.groups[:2])) == 1
    assert len(set(index.groups.tolist())) == 3
    assert index.raters.shape == (7, 10)
    # The official soft accuracy of saying `yes`, of ten answers each: min(agreeing / 3, 1).
    agreeing = (index.raters == 0).sum(1)
    np.testing.assert_allclose(np.minimum(agreeing / 3, 1), [0, 1, 1, 0, 2 / 3, 0, 1 / 3])
    assert not index.bad
    sample = pickle.loads(pickle.dumps(data)).read(0)
    assert sample["text"].item() == "What is behind him?"
    expected = Framing.of(8, "crop").read(tmp_path / "train" / "COCO_train2014_000000000001.jpg")
    np.testing.assert_array_equal(sample["image"], expected)
    assert data.read(2)["text"].item() == "天在下雨吗？"
    assert data.read(6)["image"][0].mean() > data.read(0)["image"][0].mean()


def test_of_equals_the_more_frequent_class(vqa):
    index = vqa(answers=3).index()
    assert index.class_names == ("yes", "anna", "net", OTHER)
    assert index.targets.tolist() == [2, 0, 0, 1, 2, 3, 0]  # 30: four nets, two yes
    assert index.raters[4].tolist() == [-1] * 4 + [0, 0, 2, 2, 2, 2]


def test_a_part_without_answers(vqa):
    """As the official test: its questions are listed, and belong to nothing."""
    index = vqa(annotations={"train": "a_train.json"}, answers=9).index()
    assert index.targets.tolist()[4:] == [-1] * 3
    assert (index.raters[4:] == NOBODY).all()
    assert not index.bad


def test_bad_questions_are_told_and_others_kept(vqa):
    changed = {
        "q_val.json": questions(
            "val", (30, 3, "A net?"), (31, 3, " "), (32, 3, None), (33, 3, "None given?"), (34, 3, "Elsewhere?"),
            (10, 3, "Again?"), (35, 9, "Of no image?"),
        ),
        "a_val.json": annotations(
            "val", (30, 3, YES), (31, 3, YES), (32, 3, YES), (33, 3, []), (34, 4, YES), (10, 3, YES), (35, 9, YES),
            (99, 3, YES),
        ),
    }  # fmt: skip
    data = vqa(changed)
    index = data.index()
    assert list(index.ids) == ["10", "11", "20", "21", "30", "35"]
    assert [(id, bad.reason) for id, bad in index.bad] == [
        ("31", "the question is empty"),
        ("32", "the question is empty"),
        ("33", "the question has no answers"),
        ("34", "its answers are about the image 4, not 3"),
        ("10", "another question has this number"),
        ("99", "its answers are to no question"),
    ]
    with pytest.raises(BadSample, match="no such file"):
        data.read(5)


@pytest.mark.parametrize(
    ("changed", "options", "option", "message"),
    [
        ({}, {"questions": {"train": "gone.json"}, "annotations": {"train": "a_train.json"}, "images": "train"},
         ("questions", "train"), "no such file"),
        ({"a_val.json": {"annotations": [{"question_id": 1}]}}, {}, ("annotations", "val"), r"0\.image_id: Field"),
        ({"a_train.json": annotations("train")}, {}, ("annotations", "train"), "no question of train has an answer"),
        ({}, {"images": "nowhere"}, ("images",), "no such folder"),
    ],
)  # fmt: skip
def test_files_refused(changed: dict, options: dict, option: tuple, message: str, vqa):
    with pytest.raises(DataError, match=message) as caught:
        vqa(changed, **options).index()
    assert caught.value.option == option


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"questions": {"val": "q_val.json"}}, "there is no `train`"),
        ({"annotations": {"val": "a_val.json"}}, "there is no `train`"),
        ({"questions": {"train": "q_train.json"}}, "no questions for val"),
        ({"images": {"train": "train"}}, "parts are not those of `questions`"),
    ],
)
def test_parts_that_do_not_go_together(options: dict, message: str, vqa):
    with pytest.raises(DataError, match=message):
        vqa(**options)
