"""Delimited text: CSV, TSV and columns between white space. Every line must have as many fields as the first."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from fusionkit.errors import DataError, suggestion
from fusionkit_datasets.readers.common import Header, listed, reading
from fusionkit_datasets.references import FileRef

DELIMITERS = {".csv": ",", ".tsv": "\t"}
_MISSING = {"", "NA"}
_CHUNK = 1000
_NUMBERS = ((np.int64, re.compile(r"-?(0|[1-9]\d{0,14})")), (np.float64, re.compile(r"-?(0|[1-9]\d{0,14})(\.\d+)?")))
"""How a number is written; with leading zeros or very many digits it is rather a name."""


class TextFile:
    """A text file of rows and columns. Opening it reads the first line alone.

    Args:
        path: UTF-8 text.
        delimiter: one character; None goes by the suffix: a comma in .csv, a tab in .tsv, white space elsewhere.
        header: whether line 1 names the columns; None goes by the suffix: yes in .csv and .tsv.

    Raises:
        DataError: the file is missing, empty or no text, or it is unclear whether line 1 is a header.
    """

    def __init__(self, path: Path, delimiter: str | None = None, header: bool | None = None):
        self.path = path
        self.delimiter = delimiter or DELIMITERS.get(path.suffix.lower())
        self.header = path.suffix.lower() in DELIMITERS if header is None else header
        with reading(path):
            first = next((fields for _, fields in self._lines()), None)
        if not first:
            raise DataError("line 1 is blank", path)
        if self.header and header is None and all(map(_is_number, first)):
            raise DataError("line 1 is all numbers; say `header: false`, or `header: true` if they are names", path)
        self.width = len(first)
        self.names = [field.strip() for field in first] if self.header else []

    def columns(self, wanted: int | str | Sequence[int | str] | None) -> list[int]:
        """Numbers of the columns with these names, numbers or patterns; all for None.

        Raises:
            DataError: there is no such column.
        """
        if wanted is None:
            return list(range(self.width))
        if isinstance(wanted, int | str):
            wanted = [wanted]
        return [number for one in wanted for number in self._column(one)]

    def _column(self, wanted: int | str) -> list[int]:
        if isinstance(wanted, str) and wanted in self.names:
            if self.names.count(wanted) > 1:
                raise DataError(f"two columns are named {wanted!r}; use the number of the one meant", self.path)
            return [self.names.index(wanted)]
        if isinstance(wanted, int) or wanted.isdecimal():
            if not 0 <= int(wanted) < self.width:
                raise DataError(f"there is no column {wanted}; they are 0 to {self.width - 1}", self.path)
            return [int(wanted)]
        if set("*?") & set(wanted) and (found := [i for i, name in enumerate(self.names) if fnmatchcase(name, wanted)]):
            return found
        known = suggestion(wanted, self.names) if self.names else "; the file has no header, so use numbers from 0"
        raise DataError(f"there is no column {wanted!r}{known}", self.path)

    def numbers(self, columns: Sequence[int]) -> np.ndarray:
        """These columns as float64 `[n, len(columns)]`; an empty field or NA is NaN.

        Raises:
            DataError: a field is no number, or a line has another number of fields than the first.
        """
        chunks, chunk = [], []
        with reading(self.path):
            for line, fields in self.rows():
                try:
                    chunk.append([number(fields[column]) for column in columns])
                except ValueError:
                    raise self._no_number(line, fields, columns) from None
                if len(chunk) == _CHUNK:
                    chunks.append(np.array(chunk))
                    chunk = []
        return np.concatenate([*chunks, np.array(chunk).reshape(len(chunk), len(columns))])

    def words(self, columns: Sequence[int]) -> list[np.ndarray]:
        """These columns as text, as it stands there.

        Raises:
            DataError: a line has another number of fields than the first.
        """
        with reading(self.path):
            rows = [[fields[column] for column in columns] for _, fields in self.rows()]
        return [np.array([row[i] for row in rows], dtype=np.str_) for i in range(len(columns))]

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Number of the line and fields of every row, the header aside."""
        lines = self._lines()
        if self.header:
            next(lines)
        blank = None
        for line, fields in lines:
            if not fields:
                blank = blank or line
                continue
            if blank:
                raise DataError(f"line {blank} is blank, with more lines after it", self.path)
            if len(fields) != self.width:
                raise DataError(f"line {line} has {len(fields)} fields, line 1 has {self.width}", self.path)
            yield line, fields

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            try:
                if self.delimiter is None:
                    yield from ((number, line.split()) for number, line in enumerate(file, 1))
                else:
                    reader = csv.reader(file, delimiter=self.delimiter, strict=True)
                    yield from ((reader.line_num, fields) for fields in reader)
            except UnicodeDecodeError as error:
                raise DataError("is no text in UTF-8; if it is no text at all, say its `format`", self.path) from error
            except csv.Error as error:
                raise DataError(f"line {reader.line_num}: {error}", self.path) from error

    def _no_number(self, line: int, fields: list[str], columns: Sequence[int]) -> DataError:
        column = next(column for column in columns if not _is_number(fields[column]))
        where = repr(self.names[column]) if self.names else column
        hint = "; if it is a header, say `header: true`" if line == 1 else ""
        return DataError(f"line {line}, column {where}: {fields[column]!r} is no number{hint}", self.path)


def number(field: str) -> float:
    """A field as a number; NaN where it is empty.

    Raises:
        ValueError: it is none.
    """
    return float("nan") if field.strip() in _MISSING else float(field)


def _is_number(field: str) -> bool:
    try:
        number(field)
    except ValueError:
        return False
    return True


def typed(words: np.ndarray) -> np.ndarray:
    """Integers or floats where all words are such; with `007` or an empty one among them all stay text."""
    for dtype, pattern in _NUMBERS:
        if len(words) and all(map(pattern.fullmatch, words.tolist())):
            return words.astype(dtype)
    return words


def header(path: Path, ref: FileRef) -> Header:
    return Header((-1, len(_columns(_open(path, ref), ref))), np.dtype(np.float64))


def load(path: Path, ref: FileRef) -> np.ndarray:
    file = _open(path, ref)
    values = file.numbers(_columns(file, ref))
    if len(values) == 0:
        raise DataError("holds no rows", path)
    return values


def load_words(path: Path, ref: FileRef) -> np.ndarray:
    """One column as text `[n]`.

    Raises:
        DataError: none is named although there are several.
    """
    file = _open(path, ref)
    columns = _columns(file, ref)
    if len(columns) != 1:
        which = listed(file.names or range(file.width))
        raise DataError(f"has the columns {which}; say which one: {path.name}:COLUMN", path)
    words = file.words(columns)[0]
    if len(words) == 0:
        raise DataError("holds no rows", path)
    return words


def _open(path: Path, ref: FileRef) -> TextFile:
    wanted = _wanted(ref)
    names = [name for name in (wanted if isinstance(wanted, list) else [wanted]) if isinstance(name, str)]
    named = any(not name.isdecimal() for name in names)
    return TextFile(path, ref.delimiter, True if ref.header is None and named else ref.header)


def _columns(file: TextFile, ref: FileRef) -> list[int]:
    return file.columns(_wanted(ref))


def _wanted(ref: FileRef) -> int | str | list[int | str] | None:
    """The columns meant; what stands after the colon of the short form is a column here."""
    return next((wanted for wanted in (ref.column, ref.columns, ref.key) if wanted is not None), None)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank.

    Raises:
        DataError: it is missing, empty or no text.
    """
    with reading(path):
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError("is no text in UTF-8", path) from error
    if not (lines := [line.strip() for line in text.splitlines() if line.strip()]):
        raise DataError("holds no line of text", path)
    return lines
