"""Lettering of figures: fonts for Latin and Chinese, and names broken into lines."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.resources import as_file, files
from typing import Any

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font

FAMILIES = ("DejaVu Sans", "Noto Sans SC Subset")
"""The second holds the Chinese characters of GB 2312 and comes with fusionkit."""


@contextmanager
def lettering() -> Iterator[None]:
    """Within, figures are drawn and written with these fonts; text in a PDF stays text."""
    _register()
    told_before = r"Glyph \d+ .* missing"  # by `warn_of_missing_glyphs`, with the name concerned
    with mpl.rc_context({"font.family": list(FAMILIES), "pdf.fonttype": 42}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", told_before)
        yield


def bold(text: str) -> dict[str, Any]:
    """Properties of bold text; there is no bold Chinese, and asking for it would fill the log."""
    return {"weight": "bold", "family": FAMILIES[0]} if text.isascii() else {}


def warn_of_missing_glyphs(names: Iterable[str]) -> None:
    """Warn of every name that has a character which neither font has."""
    for name in names:
        if missing := missing_glyphs(name):
            warnings.warn(f"{name!r}: no font has {missing}, which figures show as empty boxes", stacklevel=3)


def missing_glyphs(text: str) -> str:
    """The characters of `text` that would be drawn as empty boxes."""
    return "".join(dict.fromkeys(char for char in printable(text) if ord(char) not in _covered()))


def printable(text: str) -> str:
    """On one line, without control characters."""
    return "".join(char for char in " ".join(text.split()) if unicodedata.category(char) not in ("Cc", "Cf"))


def wrap(text: str, width: float, lines: int) -> str:
    """Break a name into at most `lines` lines of `width` times the type size; what is too long is cut."""
    broken, line = [], ""
    for word in _words(printable(text)):
        if line and _width(line + word.rstrip()) > width:
            broken.append(line.rstrip())
            line = ""
        while _width(word.rstrip()) > width:
            fits = max(k for k in range(1, len(word) + 1) if k == 1 or _width(word[:k]) <= width)
            broken.append(word[:fits])
            word = word[fits:]
        line += word
    broken = [part for part in (*broken, line.rstrip()) if part]
    if len(broken) > lines:
        last = broken[lines - 1]
        while last and _width(last + "…") > width:
            last = last[:-1]
        broken = [*broken[: lines - 1], last.rstrip() + "…"]
    return "\n".join(broken)


def wrap_whole(text: str, width: float, lines: int) -> str | None:
    """As `wrap`; None where a word would be broken or something cut."""
    if any(_width(word.rstrip()) > width for word in _words(printable(text))):
        return None
    wrapped = wrap(text, width, len(text) + 1)
    return wrapped if wrapped.count("\n") < lines else None


def _words(text: str) -> Iterator[str]:
    """Words with the blank after them; every Chinese character is a word."""
    word = ""
    for char in text:
        if unicodedata.east_asian_width(char) in "WF":
            if word:
                yield word
            yield char
            word = ""
        else:
            word += char
            if char in " -/_":
                yield word
                word = ""
    if word:
        yield word


def _width(text: str) -> float:
    """In multiples of the type size: a Chinese character is square, a Latin one about 0.6 wide."""
    return sum(1.0 if unicodedata.east_asian_width(char) in "WF" else 0.6 for char in text)


@lru_cache(maxsize=1)
def _register() -> None:
    with as_file(files("fusionkit") / "fonts" / "NotoSansSC-Subset.ttf") as path:
        fontManager.addfont(str(path))


@lru_cache(maxsize=1)
def _covered() -> frozenset[int]:
    """The characters that the fonts have."""
    _register()
    paths = [findfont(FontProperties(family=[family]), fallback_to_default=False) for family in FAMILIES]
    return frozenset(code for path in paths for code in FT2Font(path).get_charmap())
