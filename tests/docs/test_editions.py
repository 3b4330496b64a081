"""The README and its Chinese edition are in step: section by section, what is not prose is the same in both."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
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
        blocks: fenced code with its language, and marks, in order.
        items: entries of lists.
        tables: of each, the number of cells in each row.
        spans: code within sentences. Their order, and that of links and numbers, is the language's.
        links: where they lead.
        numbers: in digits.
    """

    line: int = 1
    level: int = 0
    blocks: list[str] = field(default_factory=list)
    items: int = 0
    tables: list[list[int]] = field(default_factory=list)
    spans: Counter[str] = field(default_factory=Counter)
    links: Counter[str] = field(default_factory=Counter)
    numbers: Counter[str] = field(default_factory=Counter)

    def add(self, token: Token) -> None:
        """Note a block of the section, or a piece of one of its sentences."""
        match token.type:
            case "fence":
                self.blocks.append(f"```{token.info}\n{token.content}")
            case "html_block":
                self.blocks.append(token.content.rstrip("\n"))
            case "list_item_open":
                self.items += 1
            case "table_open":
                self.tables.append([])
            case "tr_open":
                self.tables[-1].append(0)
            case "th_open" | "td_open":
                self.tables[-1][-1] += 1
            case "code_inline":
                self.spans[token.content] += 1
            case "link_open":
                self.links[str(token.attrs["href"])] += 1
            case "text":
                self.numbers.update(re.findall(r"\d+(?:[.,]\d+)*", token.content))


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
    """Where the Chinese edition is not that of the English text: one line each, in terms of both files."""
    ours, theirs = [list(sections(text))[1:] for text in (english, chinese)]
    if [section.level for section in ours] != [section.level for section in theirs]:
        return [f"{ENGLISH} has {len(ours)} sections, {CHINESE} {len(theirs)}, or their levels differ"]
    return [
        f"{ENGLISH}:{one.line} and {CHINESE}:{other.line} differ in {name}: {getattr(one, name)} and {found}"
        for one, other in zip(ours, theirs, strict=True)
        for name, found in vars(other).items()
        if name != "line" and found != getattr(one, name)
    ]


def test_the_editions_are_in_step():
    english, chinese = [(ROOT / file).read_text(encoding="utf-8") for file in (ENGLISH, CHINESE)]
    assert differences(english, chinese) == []


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
        ("## Table", "## Table\n\n## Another", "zh-CN.md 3,"),
        ("a: 1  # one", "a: 1  # 一", "blocks"),
        ("```yaml", "```text", "blocks"),
        ("file: a.yaml", "file: b.yaml", "blocks"),
        ("`these`", "`those`", "spans"),
        ("docs/a.md", "docs/b.md", "links"),
        ("3.5", "3.6", "numbers"),
        ("| c | d |", "| c | d |\n| e | f |", "tables"),
        ("- item", "- item\n- item", "items"),
    ],
)
def test_what_was_changed_in_one_edition_alone_is_told(old, new, told):
    assert differences(PAGE, PAGE.replace("Title", "标题").replace("Two of", "两个").replace("ways", "方式")) == []
    [line] = differences(PAGE, PAGE.replace(old, new))
    assert told in line
