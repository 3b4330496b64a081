"""`vqa`: questions about images, from the official files of VQA 2.0."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, PositiveInt

from fusionkit.contract import Dataset, Index, Sample
from fusionkit.errors import BadSample, DataError
from fusionkit.flow import InputSpec
from fusionkit.options import DataPath
from fusionkit.raters import NO_CLASS, NOBODY
from fusionkit_datasets.framing import Fit, Framing, Size
from fusionkit_datasets.image_text_pairs import Part, PerPart, load_json, text_of
from fusionkit_datasets.readers.common import blamed_on
from fusionkit_datasets.vqa_answers import most_frequent, normalized, of_most

OTHER = "(another answer)"


class _Question(BaseModel):
    question_id: int
    image_id: int
    question: Any = None


class _Questions(BaseModel):
    data_subtype: str
    questions: list[_Question]


class _Answer(BaseModel):
    answer: Any = None


class _Annotation(BaseModel):
    question_id: int
    image_id: int
    answers: list[_Answer]


class _Annotations(BaseModel):
    annotations: list[_Annotation]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question, and what people answered, normalised."""

    id: int
    part: Part
    image: str
    path: str
    text: str
    answers: tuple[str, ...]


class VQA(Dataset):
    """Questions about images (Goyal et al., CVPR 2017), as a classification over the answers given most often.

    Modalities: `image`, RGB of one size; and `text`, the question. The questions about an image are a group. The split
    is that of the files; the official test has no answers, so that a recipe tests on val, for example by
    `split: {column: split, test: val, val: 0.1}`.

    A question's class is what most of those asked have answered, among the answers that are classes. Where none of its
    answers is one, nothing can be learned from it: in train it is without a label. In val and test it counts, under a
    class of its own that training never sees, since no model gets it right. Models are judged by the soft accuracy of
    the official evaluation, of what each of ten people answered.

    Answers are normalised by the rules of the official evaluation.

    Args:
        questions: of each part, the official JSON: v2_OpenEnded_mscoco_train2014_questions.json.
        annotations: of train and other parts, the official JSON: v2_mscoco_train2014_annotations.json.
        images: the folder of COCO's images (COCO_train2014_000000000009.jpg), or that of each part.
        root: folder that all paths are relative to.
        answers: how many of the answers in train are classes: the most frequent ones.
        size: height and width of the images, or the side of a square.
        fit: `crop`: the shorter side is resized and the centre is kept; `squash`: the proportions change.
    """

    def __init__(
        self,
        *,
        questions: PerPart,
        annotations: PerPart,
        images: DataPath | PerPart,
        root: DataPath = Path("."),
        answers: PositiveInt = 3129,
        size: Size = 224,
        fit: Fit = "crop",
    ):
        for option, parts in {"questions": questions, "annotations": annotations}.items():
            if "train" not in parts:
                raise DataError("there is no `train`, whose answers are the classes", option=(option,))
        if extra := set(annotations) - set(questions):
            raise DataError(f"there are no questions for {min(extra)}", option=("annotations", min(extra)))
        if isinstance(images, Mapping) and set(images) != set(questions):
            raise DataError("the parts are not those of `questions`", option=("images",))
        self.questions, self.annotations, self.images, self.root = questions, annotations, images, root
        self.answers, self.framing = answers, Framing.of(size, fit)
        # In Arrow's memory, that workers share; Python's strings would be copied to each when they are counted.
        self._paths, self._texts = pa.array([], pa.string()), pa.array([], pa.string())
        self._last: tuple[str, np.ndarray] | None = None

    def inputs(self) -> dict[str, InputSpec]:
        for part in self.questions:
            if not self._folder(part).is_dir():
                raise DataError("there is no such folder", self._folder(part), option=("images",))
        return {"image": InputSpec(self.framing.shape), "text": InputSpec((), text=True)}

    def index(self, progress: Callable[[int, int], None] | None = None) -> Index:
        self.inputs()
        asked: list[_Asked] = []
        bad: list[tuple[str, BadSample]] = []
        for part in self.questions:
            self._read_part(part, asked, bad)
        given = (_most_common(one.answers) for one in asked if one.part == "train")
        names = most_frequent(given, self.answers)
        if not names:
            raise DataError("no question of train has an answer", option=("annotations", "train"))
        numbers = {name: number for number, name in enumerate(names)}
        people = max(len(one.answers) for one in asked)
        answers = np.full((len(asked), people), NOBODY, np.int32)
        targets = np.full(len(asked), -1)
        for row, one in enumerate(asked):
            answers[row, : len(one.answers)] = [numbers.get(answer, NO_CLASS) for answer in one.answers]
            targets[row] = of_most(answers[row].tolist())
            if one.answers and targets[row] < 0 and one.part != "train":
                targets[row] = len(names)
        self._paths = pa.array([one.path for one in asked], pa.string())
        self._texts = pa.array([one.text for one in asked], pa.string())
        parts, images = np.array([one.part for one in asked]), np.array([one.image for one in asked])
        return Index(
            [str(one.id) for one in asked],
            targets,
            (*names, OTHER),
            columns={"split": parts, "image": images},
            split=parts,
            groups=images,
            bad=bad,
            raters=answers,
        )

    def read(self, i: int) -> Sample:
        path = self._paths[i].as_py()
        if self._last is None or self._last[0] != path:  # its other questions come next where nobody shuffles
            self._last = path, self.framing.read(Path(path))
        return {"image": self._last[1], "text": np.array(self._texts[i].as_py())}

    def _folder(self, part: Part) -> Path:
        return self.root / (self.images[part] if isinstance(self.images, Mapping) else self.images)

    def _read_part(self, part: Part, asked: list[_Asked], bad: list[tuple[str, BadSample]]) -> None:
        """Add the questions of a part, and those that cannot be used."""
        with blamed_on("questions", part):
            path = self.root / self.questions[part]
            file = load_json(path, _Questions)
        annotated: dict[int, _Annotation] | None = None
        if part in self.annotations:
            with blamed_on("annotations", part):
                listed = load_json(self.root / self.annotations[part], _Annotations).annotations
            annotated = {annotation.question_id: annotation for annotation in listed}
        folder, seen = self._folder(part), {one.id for one in asked}
        for question in file.questions:
            annotation = annotated.pop(question.question_id, None) if annotated is not None else None
            text, image = text_of(question.question), f"COCO_{file.data_subtype}_{question.image_id:012d}.jpg"
            answers = tuple(normalized(text_of(answer.answer)) for answer in annotation.answers) if annotation else ()
            reason = None
            if question.question_id in seen:
                reason = "another question has this number"
            elif not text:
                reason = "the question is empty"
            elif annotated is not None and not any(answers):
                reason = "the question has no answers"
            elif annotation and annotation.image_id != question.image_id:
                reason = f"its answers are about the image {annotation.image_id}, not {question.image_id}"
            if reason:
                bad.append((str(question.question_id), BadSample(reason, path)))
                continue
            seen.add(question.question_id)
            asked.append(_Asked(question.question_id, part, image, os.path.join(folder, image), text, answers))
        for number in annotated or ():
            bad.append((str(number), BadSample("its answers are to no question", self.root / self.annotations[part])))


def _most_common(answers: tuple[str, ...]) -> str:
    """Of equals, the one given first."""
    return Counter(answers).most_common(1)[0][0]
