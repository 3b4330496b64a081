"""The README and its Chinese edition are in step: section by section, what is not prose is the same in both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = "README.md", "README.zh-CN.md"


@dataclass
class Section:
    """What two editions of a section have in common.

    Args:
        line: of its heading, counted from 1.
        level: of its heading; 0 before the first.
        layout: lines of code and marks, entries of lists, rows of tables, in their order.
        words: code within sentences, where links lead, numbers in digits; their order is the language's.
    """

    line: int = 1
    level: int = 0
    layout: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def add(self, token: Token) -> None:
        """Note a block of the section, or a piece of one of its sentences."""
        match token.type:
            case "fence":
                self.layout += [f"```{token.info}", *token.content.splitlines(), "```"]
            case "html_block":
                self.layout += token.content.splitlines()
            case "list_item_open":
                self.layout.append("an entry of a list")
            case "tr_open":
                self.layout.append("a row of a table: |")
            case "th_open" | "td_open":
                self.layout[-1] += " |"
            case "code_inline":
                self.words.append(f"`{token.content}`")
            case "link_open":
                self.words.append(f"({token.attrs['href']})")
            case "text":
                self.words += re.findall(r"\d+(?:[.,]\d+)*", token.content)

    def lines(self) -> list[str]:
        """All of it, in an order that both languages have."""
        return [*self.layout, *sorted(self.words)]


def sections(text: str) -> Iterator[Section]:
    """The sections of a page, the lines before its first heading among them."""
    section = Section()
    for token in MarkdownIt().enable("table").parse(text):
        if token.type == "heading_open" and token.map:
            yield section
            section = Section(line=token.map[0] + 1, level=int(token.tag[1:]))
        section.add(token)
        for piece in token.children or ():
            section.add(piece)
    yield section


def differences(english: str, chinese: str) -> list[str]:
    """Where the Chinese edition is not that of the English text: per section, what only one of them has."""
    ours, theirs = [list(sections(text))[1:] for text in (english, chinese)]
    if [section.level for section in ours] != [section.level for section in theirs]:
        return [f"{ENGLISH} has {len(ours)} sections, {CHINESE} {len(theirs)}, or their levels differ"]
    apart = [
        unified_diff(one.lines(), other.lines(), f"{ENGLISH}:{one.line}", f"{CHINESE}:{other.line}", n=0, lineterm="")
        for one, other in zip(ours, theirs, strict=True)
    ]
    return [found for found in map("\n".join, apart) if found]


def test_the_editions_are_in_step():
    english, chinese = [(ROOT / file).read_text(encoding="utf-8") for file in (ENGLISH, CHINESE)]
    assert not (found := differences(english, chinese)), "\n".join(found)


def test_each_edition_leads_to_the_other():
    first = [(ROOT / file).read_text(encoding="utf-8").partition("\n")[0] for file in (ENGLISH, CHINESE)]
    assert first == [f"English | [简体中文]({CHINESE})", f"[English]({ENGLISH}) | 简体中文"]


PAGE = """
# Title

Two of `these`, [here](docs/a.md), in 3.5 ways.

<!-- file: a.yaml -->
```yaml
a: 1  # one
```

## Table

| a | b |
|---|---|
| c | d |

- item
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("## Table", "### Table", "levels"),
        ("## Table", "## Table\n\n## Another", "README.zh-CN.md 3,"),
        ("a: 1  # one", "a: 1  # 一", "\n+a: 1  # 一"),
        ("```yaml", "```text", "\n+```text"),
        ("file: a.yaml", "file: b.yaml", "\n+<!-- file: b.yaml -->"),
        ("`these`", "`those`", "\n+`those`"),
        ("docs/a.md", "docs/b.md", "\n+(docs/b.md)"),
        ("3.5", "3.6", "\n+3.6"),
        ("| c | d |", "| c | d |\n| e | f |", "\n+a row of a table: | | |"),
        ("- item", "- item\n- item", "\n+an entry of a list"),
    ],
)
def test_what_was_changed_in_one_edition_alone_is_told(old, new, told):
    assert differences(PAGE, PAGE.replace("Title", "标题").replace("Two of", "两个").replace("ways", "方式")) == []
    [found] = differences(PAGE, PAGE.replace(old, new))
    assert told in found
