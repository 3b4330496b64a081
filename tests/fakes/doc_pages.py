"""The pages of the documentation, as blocks of code with the marks that say what a test does with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
MARKS = ("file", "over", "printed", "exits", "shown only")
"""A mark is a comment above a block, `<!-- file: tiles.yaml -->`; what each means is told in `doc_reader`."""
_MARK = re.compile(r"<!--\s*([\w ]+?)(?::\s*(.*?))?\s*-->")


class PageError(AssertionError):
    """What is wrong with a page, and where: `docs/losses.md:12: ...`."""

    def __init__(self, page: str, line: int, message: str):
        super().__init__(f"{page}:{line}: {message}")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Args:
        page: the page, relative to the repository.
        line: of the first line of the text, counted from 1.
        language: what the fence says.
        text: what stands between the fences.
        marks: by name, what stands after the colon.
    """

    page: str
    line: int
    language: str
    text: str
    marks: Mapping[str, str]

    def error(self, message: str, line: int | None = None) -> PageError:
        return PageError(self.page, line or self.line, message)


@dataclass(frozen=True)
class Span:
    """Code within a sentence."""

    page: str
    line: int
    text: str


def pages() -> list[str]:
    """All pages, relative to the repository."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path.relative_to(ROOT).as_posix() for path in found]


def blocks(page: str, text: str) -> Iterator[Block]:
    """The fenced blocks of a page, from first to last.

    Raises:
        PageError: a mark is not known, or code is indented in the place of a fence.
    """
    marks: dict[str, str] = {}
    for token in MarkdownIt().parse(text):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "html_block":
            marks |= dict(_MARK.findall(token.content))
            continue
        if token.type == "code_block":
            raise PageError(page, line, "indented code; put it between ``` and say its language")
        if token.type == "fence":
            for mark in marks:
                if mark not in MARKS:
                    raise PageError(page, line, f"no mark is called {mark!r}; there are {', '.join(MARKS)}")
            yield Block(page, line + 1, token.info.strip(), token.content, marks)
        marks = {}


def spans(page: str, text: str) -> Iterator[Span]:
    """All code within sentences and tables."""
    for token in MarkdownIt().enable("table").parse(text):
        for child in token.children or ():
            if child.type == "code_inline":
                yield Span(page, token.map[0] + 1 if token.map else 0, child.content)
