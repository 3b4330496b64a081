"""Captions as Flickr30K has them: a line `image.jpg#0<TAB>caption` for each (`results_20130124.token`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from fusionkit.errors import BadSample, DataError
from fusionkit_datasets.image_text_pairs import Pairs
from fusionkit_datasets.readers.common import reading

_LINE = re.compile(r"(?P<image>[^\t]+)#(?P<number>\d+)\t(?P<caption>.*)", re.DOTALL)


def read_flickr30k(path: Path, splits: Mapping[str, str]) -> Pairs:
    """Read a token file.

    Args:
        path: the file, UTF-8.
        splits: of each image; one that is not among them is in no part.

    Raises:
        DataError: it is missing, empty, no text, or no line of it has this form.
    """
    pairs = Pairs(path, divided=bool(splits))
    with reading(path):
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError("is no text in UTF-8", path) from error
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        if match := _LINE.fullmatch(line.rstrip("\r")):
            image = match["image"].strip()
            pairs.add(image, match["caption"], number=int(match["number"]), split=splits.get(image, ""), line=number)
        else:
            bad = BadSample("the line is not image#number, a tab and a caption", path, line=number)
            pairs.bad.append((f"line {number}", bad))
    if not pairs.good and all(bad.reason.startswith("the line is not") for _, bad in pairs.bad):
        raise DataError("no line is image#number, a tab and a caption; is it of another `format`?", path)
    return pairs
