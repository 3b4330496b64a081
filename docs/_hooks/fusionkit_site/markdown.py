"""Markdown that code writes: cells of tables, and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from pydantic import BaseModel

from fusionkit.wording import options_in_words


def verbatim(text: str) -> str:
    """A cell that shows this text as it is."""
    return re.sub(r"[\\`*_\[\]{}|]", lambda found: f"&#{ord(found[0])};", escape(text, quote=False))


def code(text: str) -> str:
    """A cell with this as code."""
    return f"<code>{verbatim(text)}</code>"


def kind(text: str) -> str:
    """A cell with the type of an option; no line ends between a sign and its number."""
    return re.sub(r"((?:&[gl]t;)=?) ", "\\1&#160;", verbatim(text))


def cell(markdown: str) -> str:
    """A cell of Markdown: on one line, and no bar outside code ends it."""
    return re.sub(r"(`[^`]*`)|\|", lambda found: found[1] or r"\|", " ".join(markdown.split()))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of such cells."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, ["---"] * len(heads), *rows))


def options_tables(model: type[BaseModel]) -> dict[str, str]:
    """The options of a model, in a table under its own name, which comes first; then those of the models it names."""
    return {
        name: table(
            ("option", "type", "default", "what"),
            [(code(row.name), kind(row.type), code(row.default), cell(row.meaning)) for row in rows],
        )
        if rows
        else ""
        for name, rows in options_in_words(model).items()
    }
