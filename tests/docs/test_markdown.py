"""Cells and tables, by what a reader of Markdown makes of them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Literal

import markdown
import pytest
from fusionkit_site.markdown import cell, code, kind, options_tables, table, verbatim

from fusionkit.options import Options


def cells(text: str) -> list[list[ElementTree.Element]]:
    """The rows of the one table in this Markdown, without its head."""
    body = ElementTree.fromstring(markdown.markdown(text, extensions=["tables"])).find("tbody")
    assert body is not None
    return [list(row) for row in body]


def shown(element: ElementTree.Element) -> str:
    return "".join(element.itertext())


@pytest.mark.parametrize("make", [verbatim, code, kind])
@pytest.mark.parametrize("text", ["a | b", "number >= 0", "list of (text | [x](y))", "*_`\\", "<b>", "{a, b}"])
def test_cells_show_text_as_it_is(make, text):
    [[first, second]] = cells(table(("one", "two"), [(make(text), "x")]))
    assert shown(first).replace("\xa0", " ") == text
    assert shown(second) == "x"


def test_a_sign_keeps_its_number():
    assert kind("number >= 0, <= 1") == "number &gt;=&#160;0, &lt;=&#160;1"


def test_markdown_in_a_cell_ends_neither_at_a_bar_nor_at_a_line():
    [[first, second]] = cells(table(("one", "two"), [(cell("a | b and `c | d`\n  *on*"), "x")]))
    assert shown(first) == "a | b and c | d on"
    assert [shown(found) for found in first.iter("code")] == ["c | d"]
    assert shown(second) == "x"


class Inner(Options):
    deep: int = 3


class Outer(Options):
    mode: Literal["a", "b"] = "a"
    inner: Inner | None = None


class Empty(Options):
    pass


def test_the_options_of_a_model_and_of_those_it_names():
    tables = options_tables(Outer)
    assert list(tables) == ["Outer", "Inner"]
    assert [[shown(part) for part in row] for row in cells(tables["Outer"])] == [
        ["mode", "a | b", "a", ""],
        ["inner", "Inner | null", "null", ""],
    ]
    assert [[shown(part) for part in row] for row in cells(tables["Inner"])] == [["deep", "whole number", "3", ""]]
    assert options_tables(Empty) == {"Empty": ""}
