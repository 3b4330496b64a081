"""COCO's official annotations: `captions_*.json`, and phrases with boxes from `instances_*.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fusionkit.errors import BadSample, DataError
from fusionkit_datasets.image_text_pairs import Box, Pairs, load_json


class _Image(BaseModel):
    id: int
    file_name: str
    width: int | None = None
    height: int | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        return None if self.width is None or self.height is None else (self.height, self.width)


class _Caption(BaseModel):
    image_id: int
    caption: Any = None


class _Captions(BaseModel):
    images: list[_Image]
    annotations: list[_Caption]


class _Instance(BaseModel):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    """Left, top, width and height."""
    iscrowd: int = 0


class _Category(BaseModel):
    id: int
    name: str


class _Instances(BaseModel):
    images: list[_Image]
    annotations: list[_Instance]
    categories: list[_Category]


def read_coco_captions(path: Path, splits: Mapping[str, str]) -> Pairs:
    """Read the captions of images.

    Args:
        path: `captions_*.json`.
        splits: of each image, by its number or its file's name; one that is not among them is in no part.

    Raises:
        DataError: it is missing, damaged or of another form.
    """
    file = load_json(path, _Captions)
    if file.annotations and all(annotation.caption is None for annotation in file.annotations):
        raise DataError("no annotation has a caption; name captions_*.json here, or ask for `boxes: true`", path)
    images = {image.id: image for image in file.images}
    pairs = Pairs(path, divided=bool(splits))
    for annotation in file.annotations:
        if (image := images.get(annotation.image_id)) is None:
            pairs.bad.append(_lost(annotation.image_id, path))
        else:
            pairs.add(image.file_name, annotation.caption, split=_part(image, splits))
    return pairs


def read_coco_boxes(path: Path, splits: Mapping[str, str]) -> Pairs:
    """Read phrases, the names of categories, and the boxes of what they name.

    A phrase has to mean one thing: of a category that an image shows more than once, or as a crowd, there is no pair.

    Args:
        path: `instances_*.json`.
        splits: as for captions.

    Raises:
        DataError: it is missing, damaged or of another form.
    """
    file = load_json(path, _Instances)
    images = {image.id: image for image in file.images}
    names = {category.id: category.name for category in file.categories}
    shown = Counter((instance.image_id, instance.category_id) for instance in file.annotations)
    pairs = Pairs(path, divided=bool(splits))
    for instance in file.annotations:
        image = images.get(instance.image_id)
        if image is None:
            pairs.bad.append(_lost(instance.image_id, path))
        elif not instance.iscrowd and shown[instance.image_id, instance.category_id] == 1:
            left, top, width, height = instance.bbox
            box: Box = (left, top, left + width, top + height)
            phrase = names.get(instance.category_id)
            pairs.add(image.file_name, phrase, split=_part(image, splits), box=box, size=image.size)
    return pairs


def _part(image: _Image, splits: Mapping[str, str]) -> str:
    return splits.get(str(image.id), splits.get(image.file_name, ""))


def _lost(image: int, path: Path) -> tuple[str, BadSample]:
    return f"image {image}", BadSample("an annotation is of an image that the file does not list", path)
