"""What every format of image-text pairs is read into."""

from __future__ import annotations

import codecs
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, TypeVar

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from fusionkit.errors import BadSample, DataError
from fusionkit.options import DataPath
from fusionkit_datasets.readers.common import reading

Part: TypeAlias = Literal["train", "val", "test"]
PerPart: TypeAlias = Annotated[dict[Part, DataPath], Field(min_length=1)]
"""A path for each part of the official split."""
Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the image."""

SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test", "": ""}
"""How files call the parts: what COCO's official validation left over is trained on, as is usual."""

J = TypeVar("J", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and one of its captions.

    Args:
        image: its file, relative to the folder of the images.
        number: of the caption among those of the image, from 0.
        caption: some text, without white space around it.
        split: train, val, test, or empty for none of them.
        box: of what the caption names, where that is known.
        size: height and width of the image, where they are known.
        path: of the image, once its folder is known.
    """

    image: str
    number: int
    caption: str
    split: str = ""
    box: Box | None = None
    size: tuple[int, int] | None = None
    path: str = ""

    @property
    def id(self) -> str:
        return f"{self.image}#{self.number}"


@dataclass
class Pairs:
    """The pairs of a file.

    Args:
        path: the file.
        good: what can be used, as far as can be told without the images.
        bad: what cannot.
        divided: whether the file says who is train, val and test.
        facts: what else it says of each good pair.
    """

    path: Path
    good: list[Pair] = field(default_factory=list)
    bad: list[tuple[str, BadSample]] = field(default_factory=list)
    divided: bool = False
    facts: dict[str, np.ndarray] = field(default_factory=dict)
    _seen: Counter[str] = field(default_factory=Counter)
    _named: set[str] = field(default_factory=set)

    def add(
        self,
        image: str,
        caption: object,
        *,
        number: int | None = None,
        split: str = "",
        box: Box | None = None,
        size: tuple[int, int] | None = None,
        line: int | None = None,
    ) -> bool:
        """Take a pair up where its caption is text; it is bad elsewhere.

        Args:
            image, caption, split, box, size: see `Pair`; the caption as the file has it.
            number: of the caption; default: how many the image had before.
            line: where it stands in a text file.

        Returns:
            Whether it is good.
        """
        if number is None:
            number = self._seen[image]
            self._seen[image] += 1
        text = text_of(caption)
        pair = Pair(image, number, text, split, box, size)
        reason = None
        if not image:
            reason = "the pair names no image"
        elif not text:
            reason = "the caption is empty" if isinstance(caption, str) else "there is no caption"
        elif pair.id in self._named:
            reason = "the image has another caption of this number"
        if reason:
            self.bad.append((pair.id, BadSample(reason, self.path, line=line)))
            return False
        self._named.add(pair.id)
        self.good.append(pair)
        return True

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all good pairs but these."""
        self.good = [self.good[row] for row in rows]
        self.facts = {name: fact[np.array(rows, dtype=int)] for name, fact in self.facts.items()}

    def place(self, folder: Path, *, part: str = "", prefix: str = "") -> None:
        """Say where the images lie.

        Args:
            folder: of the images.
            part: to which all belong, unless the file says it.
            prefix: before the names of the images, where other folders have images of the same names.
        """
        self.good = [
            replace(
                pair,
                image=f"{prefix}{pair.image}",
                split=pair.split if self.divided else part,
                path=os.path.join(folder, pair.image),  # pathlib would take most of the time of a listing
            )
            for pair in self.good
        ]
        self.divided = self.divided or bool(part)

    def part(self, word: str, where: str) -> str:
        """The part of which a file speaks with this word.

        Raises:
            DataError: it is none of those that are usual.
        """
        if word not in SPLITS:
            known = ", ".join(name for name in SPLITS if name)
            raise DataError(f"{where} is of the split {word!r}; known are {known}", self.path)
        return SPLITS[word]


def text_of(value: object) -> str:
    """Text without white space around it; empty for what is no text."""
    # NumPy takes NUL characters at the end of a text for padding.
    return value.replace("\0", "").strip() if isinstance(value, str) else ""


def load_json(path: Path, form: type[J]) -> J:
    """A JSON file in UTF-8, with or without a byte-order mark, whose parts of interest have this form.

    Raises:
        DataError: it is missing, damaged, or of another form.
    """
    with reading(path):
        text = path.read_bytes().removeprefix(codecs.BOM_UTF8)
        try:
            return form.model_validate_json(text)
        except ValidationError as error:
            raise DataError(_first(error), path) from error


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where + ': ' if where else ''}{first['msg']}"


def together(parts: Iterable[Pairs]) -> Pairs:
    """The pairs of several files; of the further facts, those that all of them have."""
    first, *others = parts
    for other in others:
        first.facts = {
            name: np.concatenate([values, other.facts[name]])
            for name, values in first.facts.items()
            if name in other.facts
        }
        first.good += other.good
        first.bad += other.bad
        first.divided = first.divided and other.divided
    return first
