"""A table with a row for each sample: CSV, TSV or Parquet, by columns."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from fusionkit.errors import DataError, suggestion
from fusionkit_datasets.readers.common import reading
from fusionkit_datasets.readers.text import TextFile, number, typed

PARQUET = {".parquet", ".pq"}


class Manifest:
    """All columns of a table, those with bytes or structures aside.

    Args:
        path: the file; Parquet by its suffix, otherwise text with the names of the columns in line 1.
        delimiter: of a text file; None goes by the suffix.

    Raises:
        DataError: it is missing, damaged or without rows.
    """

    def __init__(self, path: Path, delimiter: str | None = None):
        self.path = path
        self._lines: list[int] | None = None
        self._table = self._parquet() if path.suffix.lower() in PARQUET else self._text(delimiter)
        if len(self._table) == 0:
            raise DataError("holds no rows", path)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def names(self) -> list[str]:
        return list(self._table.column_names)

    def line(self, row: int) -> int | None:
        """Where a row stands in a text file."""
        return self._lines[row] if self._lines else None

    def matching(self, wanted: str | Sequence[str]) -> list[str]:
        """The columns with these names, or with names that match such patterns (`band_*`).

        Raises:
            DataError: there is none.
        """
        found: list[str] = []
        for one in [wanted] if isinstance(wanted, str) else wanted:
            if one in self.names:
                found.append(one)
            elif matching := [name for name in self.names if set("*?") & set(one) and fnmatchcase(name, one)]:
                found += matching
            else:
                raise DataError(f"there is no column {one!r}{suggestion(one, self.names)}", self.path)
        return found

    def words(self, name: str) -> list[str]:
        """A column as text; empty where there is nothing.

        Raises:
            DataError: there is no such column.
        """
        column = self._column(name)
        return ["" if word is None else str(word).strip() for word in column.to_pylist()]

    def fact(self, name: str) -> np.ndarray | None:
        """A column as numbers where all of it are numbers, else as text; None for a column of lists."""
        column = self._column(name)
        if pa.types.is_nested(column.type):
            return None
        numeric = pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)
        if (numeric and not column.null_count) or pa.types.is_floating(column.type):
            return column.to_numpy()
        return typed(np.array(self.words(name)))

    def numbers(self, names: Sequence[str]) -> tuple[np.ndarray, dict[int, str]]:
        """Columns as float64 `[n, D]`, NaN where there is nothing, and what is wrong with which row.

        One column may hold lists, all of one length.
        """
        bad: dict[int, str] = {}
        if len(names) == 1 and pa.types.is_nested(self._column(names[0]).type):
            return self._lists(names[0], bad), bad
        values = np.full((len(self), len(names)), np.nan)
        for i, name in enumerate(names):
            column = self._column(name)
            if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
                values[:, i] = column.cast(pa.float64(), safe=False).to_numpy()
                continue
            for row, word in enumerate(self.words(name)):
                try:
                    values[row, i] = number(word)
                except ValueError:
                    bad.setdefault(row, f"column {name!r} holds {word!r}, no number")
        return values, bad

    def _lists(self, name: str, bad: dict[int, str]) -> np.ndarray:
        lists = self._column(name).to_pylist()
        width = next((len(values) for values in lists if values), 0)
        if width == 0:
            raise DataError(f"column {name!r} is empty", self.path)
        rows = np.full((len(self), width), np.nan)
        for row, values in enumerate(lists):
            try:
                numbers = rows[row] if values is None else np.asarray(values, dtype=np.float64)
            except (TypeError, ValueError):
                numbers = np.empty(0)
            if numbers.shape == (width,):
                rows[row] = numbers
            else:
                bad[row] = f"column {name!r} holds no list of {width} numbers"
        return rows

    def _column(self, name: str) -> pa.ChunkedArray:
        if name not in self.names:
            raise DataError(f"there is no column {name!r}{suggestion(name, self.names)}", self.path)
        return self._table.column(name)

    def _parquet(self) -> pa.Table:
        with reading(self.path), pa.parquet.ParquetFile(self.path) as file:
            left_out = (pa.types.is_struct, pa.types.is_map, pa.types.is_binary, pa.types.is_large_binary)
            schema = file.schema_arrow
            self._refuse_twins(schema.names)
            return file.read([field.name for field in schema if not any(is_(field.type) for is_ in left_out)])

    def _text(self, delimiter: str | None) -> pa.Table:
        file = TextFile(self.path, delimiter, header=True)
        self._refuse_twins(file.names)
        with reading(self.path):
            rows = list(file.rows())
        self._lines = [line for line, _ in rows]
        columns = zip(*(fields for _, fields in rows), strict=True) if rows else [[] for _ in file.names]
        return pa.table([pa.array(column, pa.string()) for column in columns], names=file.names)

    def _refuse_twins(self, names: list[str]) -> None:
        if twins := {name for name in names if names.count(name) > 1}:
            raise DataError(f"two columns are named {min(twins)!r}", self.path)
