"""Tables of texts and what may stand for them: a line `text<TAB>other<TAB>other` each, UTF-8."""

from __future__ import annotations

from pathlib import Path

from fusionkit.errors import DataError


def read_table(path: Path) -> dict[str, tuple[str, ...]]:
    """What may stand for each text, by the text as `key` writes it; lines of one text add up.

    Raises:
        DataError: the file is missing, empty or no text, or a line has no other text.
    """
    if not path.is_file():
        raise DataError("there is no such file", path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError("is no text in UTF-8", path) from error
    table: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        text, *others = (field.strip() for field in line.split("\t"))
        others = [other for other in others if other and key(other) != key(text)]
        if not text or not others:
            raise DataError(f"line {number} is not a text, a tab and other texts", path)
        table[key(text)] = tuple(dict.fromkeys([*table.get(key(text), ()), *others]))
    if not table:
        raise DataError("holds no line of text", path)
    return table


def key(text: str) -> str:
    """A text in small letters, with single spaces."""
    return " ".join(text.lower().split())
