"""The Chinese characters of a page as a font in the page, for machines that have none."""

from __future__ import annotations

import logging
from base64 import b64encode
from importlib.resources import as_file, files
from io import BytesIO

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont


def font_source(text: str) -> str:
    """A `data:` URI of a WOFF font with the characters of this text that Latin fonts lack; empty where there are none.

    What the font that comes with fusionkit does not have, GB 2312, is left to the fonts of the reader's machine.
    """
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    with as_file(files("fusionkit") / "fonts" / "NotoSansSC-Subset.ttf") as path, TTFont(path) as font:
        wanted = {ord(char) for char in text if ord(char) >= 0x2E80} & font.getBestCmap().keys()
        if not wanted:
            return ""
        subsetter = Subsetter(Options(layout_features=[], notdef_outline=True))
        subsetter.populate(unicodes=wanted)
        subsetter.subset(font)
        font.flavor = "woff"
        file = BytesIO()
        font.save(file)
    return f"data:font/woff;base64,{b64encode(file.getvalue()).decode()}"
