"""The folder that a run leaves: made once, every file written beside its place and renamed into it; and reading it.

`result.json` is written last, so a folder without it is an unfinished run.
"""

from __future__ import annotations

import csv
import io
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pandas as pd
import yaml

from fusionkit.errors import DataError, RequestError
from fusionkit.files import atomic
from fusionkit.predictions import Predictions, read_predictions, write_predictions
from fusionkit.result import Result
from fusionkit.yamlfile import load_yaml

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fusionkit.recipe import Recipe
    from fusionkit.survey import Bad

MOST_CSV_ROWS = 100_000
"""Predictions with more rows are written as Parquet."""
_LONGEST_NAME = 120
LABEL_COUNTS = ("true_negatives", "false_positives", "false_negatives", "true_positives")


class RunFolder:
    """A run folder that is being written.

    Args:
        path: of a folder that is there; `create` makes a new one.
    """

    def __init__(self, path: Path):
        self.path = Path(path)

    @classmethod
    def create(cls, runs: Path, name: str, fusion: str) -> RunFolder:
        """Make `<runs>/<name>-<fusion>-<date>-<time>-<4 hex digits>`, which was not there before.

        Raises:
            RequestError: the name is no file name, or the folder cannot be made.
        """
        start = f"{name}-{fusion}"
        if not re.fullmatch(r"[\w.-]+", start) or len(start.encode()) > _LONGEST_NAME:
            raise RequestError(
                f"{start!r} cannot start the name of a folder; a name has letters, digits and _ . - "
                f"and at most {_LONGEST_NAME} bytes"
            )
        while True:
            path = runs / f"{start}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                if not runs.is_dir():
                    raise RequestError(f"{runs} is no folder, so no run can be kept there") from None
            except OSError as error:
                raise RequestError(f"no run folder can be made in {runs}: {error.strerror}") from None
            else:
                return cls(path)

    def begin(self, recipe: Recipe, provenance: Mapping[str, Any], bad: Iterable[Bad]) -> None:
        """Write what is known before training: the recipe and its bases, all defaults, provenance, bad samples.

        Where a run is resumed, the provenance of its earlier sittings is kept under `earlier`.
        """
        texts = list(recipe.sources.items())
        self.write_text("recipe.yaml", texts[0][1] if texts else to_yaml(recipe.resolved()))
        for number, (name, text) in enumerate(texts[1:], 1):
            self.write_text(f"bases/{number}-{Path(name).name}", text)
        self.write_text("resolved.yaml", to_yaml(recipe.resolved()))
        earlier = []
        if (self.path / "provenance.json").is_file():
            last = _read_json(self.path / "provenance.json")
            earlier = [*last.pop("earlier", []), last]
        self.write_json("provenance.json", {**provenance, **({"earlier": earlier} if earlier else {})})
        rows = ([item.id, item.path, item.line, item.reason, item.split] for item in bad)
        self.write_csv("bad_samples.csv", ["id", "path", "line", "reason", "split"], rows)

    def is_of(self, recipe: Recipe) -> bool:
        """Whether this folder was made by the same recipe; how its data are read may differ."""

        kept = _read_yaml(self.path / "resolved.yaml")
        now = json.loads(json.dumps(recipe.resolved()))  # as a file would hold it: lists, not tuples
        return isinstance(kept.get("data"), dict) and telling(kept) == telling(now)

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """`atomic` for a file of this folder, for example `"confusion.csv"` or `"bases/1-common.yaml"`.

        Raises:
            ValueError: the name leads out of the folder.
        """
        path = self.path / name
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise ValueError(f"{name!r} leads out of the run folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as file:
            yield file

    def write_bytes(self, name: str, content: bytes) -> None:
        with self.open(name) as file:
            file.write(content)

    def write_text(self, name: str, text: str) -> None:
        self.write_bytes(name, text.encode("utf-8"))

    def write_json(self, name: str, content: Any) -> None:
        """Strict JSON.

        Raises:
            ValueError: there is a NaN or infinity in it.
        """
        self.write_text(name, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")

    def write_csv(self, name: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)
        self.write_text(name, text.getvalue())

    def write_figure(self, stem: str, figure: Figure) -> None:
        """Write `<stem>.png` and `<stem>.pdf`."""
        from fusionkit.figures import save

        for kind in ("png", "pdf"):
            with self.open(f"{stem}.{kind}") as file:
                save(figure, file, kind)

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write `metrics.csv`: a row an epoch and model; the columns are all keys in the order of their coming."""
        head = list(dict.fromkeys(key for row in rows for key in row))
        self.write_csv("metrics.csv", head, ([row.get(key, "") for key in head] for row in rows))

    def write_predictions(
        self, predictions: Predictions, class_names: Sequence[str], stem: str = "predictions"
    ) -> None:
        """Write `<stem>.csv`, or `<stem>.parquet` beyond 100,000 rows."""
        suffix = "csv" if len(predictions) <= MOST_CSV_ROWS else "parquet"
        path = self.path / f"{stem}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        write_predictions(path, predictions, class_names)

    def write_confusion(self, counts: np.ndarray, class_names: Sequence[str]) -> None:
        """Write `confusion.csv`: counts `[K, K]`, a row a reference class, a column a predicted one; or of labels,
        `[K, 2, 2]`, a row a label."""
        if counts.ndim == 3:
            rows = ([name, *held.ravel().tolist()] for name, held in zip(class_names, counts, strict=True))
            self.write_csv("confusion.csv", ["label", *LABEL_COUNTS], rows)
            return
        rows = ([name, *row] for name, row in zip(class_names, counts.tolist(), strict=True))
        self.write_csv("confusion.csv", ["reference", *class_names], rows)

    def finish(self, result: Result) -> None:
        """Write `result.json`. Nothing is written after it."""
        self.write_text("result.json", result.to_json())


class Run:
    """A run folder, read when asked.

    Args:
        path: of the folder.
        result: where it is known already, as for report sections, which are made before `result.json` is there.
    """

    def __init__(self, path: str | Path, result: Result | None = None):
        self.path = Path(path)
        self._result = result

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Open the folder of a run, finished or not.

        Raises:
            RequestError: it is no run folder.
        """
        run = cls(path)
        if not (run.path / "resolved.yaml").is_file() and not run.finished:
            raise RequestError(f"{path} is no run folder")
        return run

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def finished(self) -> bool:
        return (self.path / "result.json").is_file()

    @property
    def result(self) -> Result:
        """The final figures.

        Raises:
            RequestError: the run is unfinished, or its `result.json` is broken.
        """
        if self._result is None:
            if not self.finished:
                raise RequestError(f"{self.path} is an unfinished run: it has no result.json; go on with --resume")
            try:
                self._result = Result.from_json((self.path / "result.json").read_text(encoding="utf-8"))
            except (RequestError, UnicodeDecodeError) as error:
                raise RequestError(f"{self.path / 'result.json'}: {error}") from None
        return self._result

    @cached_property
    def predictions(self) -> Predictions:
        """The answers for the test samples."""
        path = self.path / "predictions.csv"
        path = path if path.is_file() else path.with_suffix(".parquet")
        found, _ = read_predictions(path)
        if self.finished and len(found) != self.result.n:
            raise DataError(f"{len(found)} predictions, but the result is of {self.result.n} samples", path)
        return found

    @cached_property
    def confusion(self) -> np.ndarray:
        """Counts `[K, K]`, or of labels `[K, 2, 2]`; rows are the reference."""
        path = self.path / "confusion.csv"
        try:
            table = pd.read_csv(path, index_col=0, encoding="utf-8", keep_default_na=False)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read: {error}", path) from None
        counts = table.to_numpy()
        of_labels = table.index.name == "label" and tuple(table.columns) == LABEL_COUNTS
        if counts.dtype.kind not in "iu" or not (of_labels or counts.shape[0] == counts.shape[1]):
            raise DataError("not a square table of counts", path)
        return counts.reshape(-1, 2, 2) if of_labels else counts

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """A row an epoch and model."""
        try:
            return pd.read_csv(self.path / "metrics.csv", encoding="utf-8")
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read: {error}", self.path / "metrics.csv") from None

    @cached_property
    def provenance(self) -> dict[str, Any]:
        return _read_json(self.path / "provenance.json")

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The recipe with every default filled in."""
        return _read_yaml(self.path / "resolved.yaml")


def telling(resolved: dict[str, Any]) -> dict[str, Any]:
    """Of a resolved recipe, what its results depend on: how its data are read and what it requires are not among it."""
    data = {key: value for key, value in resolved["data"].items() if key not in ("num_workers", "timeout")}
    return {key: value for key, value in resolved.items() if key != "requires"} | {"data": data}


class _Dumper(yaml.SafeDumper):
    """Quotes text that either version of YAML would read as something else, for example `no` and `3e-5`."""


for _tag, _pattern, _first in [
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("int", r"0o[0-7]+", "0"),
]:
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def to_yaml(content: Any) -> str:
    """Plain data as YAML, in its own order, which `fusionkit.yamlfile` reads back as the same."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read: {error}", path) from None
    if not isinstance(told, dict):
        raise DataError("not a mapping", path)
    return told


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        told = load_yaml(path.read_text(encoding="utf-8"), str(path)).data
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", path) from None
    if not isinstance(told, dict):
        raise DataError("not a mapping", path)
    return told
