"""From raw labels (numbers in any base, words, one-hot rows) to class indices and names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from fusionkit.errors import DataError, suggestion
from fusionkit_datasets.readers import format_of, load_facts
from fusionkit_datasets.readers.common import blamed_on, listed
from fusionkit_datasets.references import FileRef

UNLABELLED = -1


def encode(
    raw: np.ndarray, *, classes: Sequence[int | str] | None, ignore: Sequence[int | str], names: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class index of each sample, -1 where it has none, and the class names.

    Classes are numbered by their raw values in order, or as `classes` lists them. NaN and empty words are no label.

    Args:
        raw: `[n]` whole numbers or words, or one-hot rows `[n, K]`.
        classes: the raw values, in the order of the class indices.
        ignore: raw values that are no class.
        names: of the classes; default: their raw values.

    Raises:
        DataError: labels that are no classes, values that `classes` lacks, or as many names as there are not classes.
    """
    values, number, missing = _distinct(raw)
    ignored = {str(value) for value in ignore}
    found = [value for value in values if str(value) not in ignored]
    if not found:
        raise DataError("no sample has a label")
    order = found if classes is None else list(classes)
    position = {str(value): i for i, value in enumerate(order)}
    if len(position) < len(order):
        twice = next(value for value, count in Counter(map(str, order)).items() if count > 1)
        raise DataError(f"{twice!r} is listed twice", option=("classes",))
    if unknown := [value for value in found if str(value) not in position]:
        raise DataError(
            f"the labels hold {listed(unknown)} beside these; add to `classes` or to `ignore_labels`",
            option=("classes",),
        )
    if names is not None and len(names) != len(order):
        values_are = f"the labels hold {len(order)} values ({listed(order)})"
        hint = "" if classes is not None else "; list in `classes` the value of each name"
        raise DataError(f"{len(names)} names, but {values_are}{hint}", option=("label_names",))
    lookup = np.array([position.get(str(value), UNLABELLED) for value in values], dtype=np.int64)
    targets = np.where(missing, UNLABELLED, lookup[number])
    return targets, tuple(map(str, order if names is None else names))


def encode_several(raw: np.ndarray, names: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Several labels a sample: 1 where it has the label, 0 where not, -1 in the whole row where nothing is known.

    Args:
        raw: `[n, K]` of 0 and 1; rows of NaN are of samples without any knowledge.
        names: of the labels; default: their numbers.

    Raises:
        DataError: other values, rows known in part, or as many names as there are not labels.
    """
    if raw.ndim != 2 or raw.dtype.kind not in "biuf":
        raise DataError("several labels are numbers in rows, 0 or 1 for each label")
    rows = raw.astype(np.float64)
    missing = np.all(np.isnan(rows), axis=1)
    if missing.all():
        raise DataError("no sample has labels")
    broken = np.flatnonzero(~missing & np.any((rows != 0) & (rows != 1), axis=1))
    if len(broken):
        raise DataError(f"row {broken[0]} of the labels holds something other than 0 and 1")
    if names is not None and len(names) != raw.shape[1]:
        raise DataError(f"{len(names)} names for {raw.shape[1]} labels", option=("label_names",))
    targets = np.where(missing[:, None], UNLABELLED, np.nan_to_num(rows)).astype(np.int64)
    return targets, tuple(map(str, names or range(raw.shape[1])))


def encode_quantities(columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Quantities `[n, K]` and their names; NaN where unknown.

    Raises:
        DataError: a column holds no numbers, an infinite one, or nothing that is known.
    """
    known = {name: _numbers(name, column) for name, column in columns.items()}
    for name, column in known.items():
        if np.isinf(column).any():
            raise DataError(f"{name} is infinite in sample {int(np.flatnonzero(np.isinf(column))[0])}")
    targets = np.stack(list(known.values()), 1)
    if np.isnan(targets).any(1).all():
        raise DataError(f"no sample has {' and '.join(columns)}")
    return targets, tuple(columns)


def _numbers(name: str, column: np.ndarray) -> np.ndarray:
    """A column as float64; of words, as in a text file that lacks some, NaN where there is nothing."""
    if column.dtype.kind != "U":
        return column.astype(np.float64)
    from fusionkit_datasets.readers.text import number

    values = np.empty(len(column))
    for i, word in enumerate(column.tolist()):
        try:
            values[i] = number(word)
        except ValueError:
            raise DataError(f"{name} holds {word!r} in sample {i}, which is no number") from None
    return values


def hold_for_classes(**options: object) -> None:
    """Refuse options that say something of classes, where targets are several labels or quantities.

    Raises:
        DataError: one of them is given.
    """
    for name, given in options.items():
        if given:
            raise DataError(f"`{name}` is for one class a sample; leave it out here", option=(name,))


def units_of(names: Sequence[str], units: Mapping[str, str] | None) -> tuple[str, ...]:
    """The unit of each quantity, empty where none is given.

    Raises:
        DataError: there is no such quantity.
    """
    for name in units or {}:
        if name not in names:
            raise DataError(f"there is no quantity {name!r}{suggestion(name, names)}", option=("units",))
    return tuple((units or {}).get(name, "") for name in names)


def _distinct(raw: np.ndarray) -> tuple[list[int] | list[str], np.ndarray, np.ndarray]:
    """The values that occur, in order; the number of each sample's value; which samples have none."""
    if raw.ndim == 2:
        return _one_hot(raw)
    if raw.dtype.kind == "b":
        raw = raw.astype(np.int64)
    missing = np.zeros(len(raw), bool)
    if raw.dtype.kind in "fU":
        missing = np.isnan(raw) if raw.dtype.kind == "f" else raw == ""
    known = raw[~missing]
    if raw.dtype.kind == "f":
        if len(broken := known[known != np.round(known)]):
            raise DataError(f"the labels are no classes: they hold {broken[0]}")
        known = known.astype(np.int64)
    values, inverse = np.unique(known, return_inverse=True)
    number = np.zeros(len(raw), np.int64)
    number[~missing] = inverse
    return values.tolist(), number, missing


def _one_hot(raw: np.ndarray) -> tuple[list[int], np.ndarray, np.ndarray]:
    rows = np.asarray(raw, dtype=np.float64) if raw.dtype.kind in "biuf" else np.full(raw.shape, np.nan)
    good = ((rows == 0) | (rows == 1)).all(1) & (rows.sum(1) == 1)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        shape = " x ".join(map(str, raw.shape))
        hint = "; for several labels a sample set several_labels: true"
        raise DataError(f"the labels are {shape}, so one-hot, but row {row} has not exactly one 1{hint}")
    return list(range(raw.shape[1])), rows.argmax(1), np.zeros(len(raw), bool)


def unique(names: Iterable[object]) -> list[str]:
    """The names as text, where a repeated one is numbered: `a`, `a#2`."""
    seen: Counter[str] = Counter()
    ids = []
    for name in map(str, names):
        seen[name] += 1
        ids.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return ids


def read_names(root: Path, ref: FileRef) -> list[str]:
    """Class names: an array of words, a column, or the lines of a text file.

    Raises:
        DataError: they cannot be read.
    """
    with blamed_on("label_names"):
        if format_of(ref) == "text" and ref.key is None and ref.column is None and ref.columns is None:
            from fusionkit_datasets.readers.text import read_lines

            return read_lines(root / ref.file)
        return [str(name) for name in load_facts(root, ref, words=True).ravel().tolist()]
