"""Captions in one JSON with a list of images, each with its sentences and its split: Karpathy's division of Flickr30K
and COCO, and the remote-sensing captions RSICD, UCM and Sydney."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fusionkit_datasets.image_text_pairs import Pairs, load_json


class _Sentence(BaseModel):
    raw: Any = None


class _Image(BaseModel):
    filename: str
    filepath: str = ""
    """Of COCO: the folder."""
    cocoid: int | None = None
    split: str | None = None
    sentences: list[_Sentence] = []


class _File(BaseModel):
    images: list[_Image]


def read_karpathy(path: Path) -> Pairs:
    """Read such a file.

    Raises:
        DataError: it is missing, damaged, of another form, or has a split that is not usual.
    """
    images = load_json(path, _File).images
    pairs = Pairs(path, divided=any(image.split is not None for image in images))
    for image in images:
        name = f"{image.filepath}/{image.filename}" if image.filepath else image.filename
        split = pairs.part(image.split or "", name)
        for sentence in image.sentences or [_Sentence()]:
            pairs.add(name, sentence.raw, split=split)
    return pairs


def read_splits(path: Path) -> dict[str, str]:
    """The part of each image by its file's name, and by its number in COCO where it has one.

    Raises:
        DataError: as for `read_karpathy`.
    """
    pairs, splits = Pairs(path), {}
    for image in load_json(path, _File).images:
        part = pairs.part(image.split or "", image.filename)
        splits[image.filename] = part
        if image.cocoid is not None:
            splits[str(image.cocoid)] = part
    return splits
