"""Captions in a table with a row for each pair of an image and a caption."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from fusionkit.errors import BadSample
from fusionkit_datasets.image_text_pairs import Box, Pairs
from fusionkit_datasets.manifest import Manifest
from fusionkit_datasets.readers.common import blamed_on
from fusionkit_datasets.references import Keys


class Columns(Keys):
    """The names of the columns."""

    image: str = "image"
    """Paths of the images, within `images`."""
    caption: str = "caption"
    """The texts."""
    split: str | None = "split"
    """Where each pair belongs: train, val, test, or nothing; read where there is such a column."""
    box: str | tuple[str, str, str, str] = ("x1", "y1", "x2", "y2")
    """Left, top, right and bottom in pixels of the image, in four columns, or all in one."""


def read_csv(path: Path, columns: Columns, *, label: str | None = None, boxes: bool = False) -> Pairs:
    """Read a table of pairs: CSV or TSV with the names of the columns in line 1, or Parquet.

    Args:
        path: the file.
        columns: how its columns are called.
        label: a further column that has to be there; all others are facts too.
        boxes: whether the boxes are wanted.

    Raises:
        DataError: it is missing or damaged, lacks a column, or has a split that is none.
    """
    table = Manifest(path)
    with blamed_on("columns"):
        images, captions = table.words(columns.image), table.words(columns.caption)
        divided = columns.split in table.names or columns.split not in (None, "split")
        splits = table.words(str(columns.split)) if divided else [""] * len(table)
        found = _boxes(table, columns.box) if boxes else [None] * len(table)
    pairs, good = Pairs(path, divided=divided), []
    for row, (image, caption, split, box) in enumerate(zip(images, captions, splits, found, strict=True)):
        part = pairs.part(split, f"row {row} ({image})")
        if isinstance(box, BadSample):
            pairs.bad.append((f"row {row} ({image})", box))
        elif pairs.add(image, caption, split=part, box=box, line=table.line(row)):
            good.append(row)
    used = {columns.image, columns.caption, *([columns.box] if isinstance(columns.box, str) else columns.box)}
    if label is not None:
        with blamed_on("label"):
            table.matching(label)
    for name in table.names:
        if (name not in used or name == label) and (fact := table.fact(name)) is not None:
            pairs.facts[name] = fact[np.array(good, dtype=int)]
    return pairs


def _boxes(table: Manifest, columns: str | tuple[str, ...]) -> list[Box | BadSample | None]:
    """The box of each row; None where it has none."""
    wanted = [columns] if isinstance(columns, str) else columns
    rows = zip(*(table.words(name) for name in wanted), strict=True)
    return [_box(words, table.path, table.line(row)) for row, words in enumerate(rows)]


def _box(words: tuple[str, ...], path: Path, line: int | None) -> Box | BadSample | None:
    numbers = re.split(r"[\s,;]+", " ".join(words).strip("[]() "))
    if not any(numbers):
        return None
    try:
        left, top, right, bottom = map(float, numbers)
    except ValueError:
        return BadSample(f"{' '.join(words)!r} is no box of four numbers", path, line=line)
    return left, top, right, bottom
