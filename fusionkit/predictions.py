"""A model's answers for the test samples, and the files that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fusionkit import raters
from fusionkit.errors import DataError
from fusionkit.files import atomic
from fusionkit.flow import TaskKind
from fusionkit.grounding import iou
from fusionkit.multilabel import decide

_PROBABILITY, _TARGET, _PREDICTION = "p_", "target_", "prediction_"
_EMBEDDINGS = ("first_", "second_")
_OVERLAP = "iou"
"""The column that predictions of boxes alone have."""


@dataclass(frozen=True)
class Predictions:
    """A model's answers for the test samples.

    Args:
        ids: one a sample.
        target: class indices `[n]`; 0 or 1 of each label `[n, K]`; quantities `[n, K]`; boxes `[n, 4]`; or, of a
            retrieval, the number of the thing that a sample shows and of its class or -1 `[n, 2]`.
        answers: `[n, K]`, floating point: the probability of each class or label, the quantities, the boxes, or the
            embeddings of two modalities side by side.
        groups: a value a sample, where samples belong together (a plot, a video).
        fold: the fold in which each sample was test, where folds are pooled.
        task: of which kind they are.
        soft: of classes, how far each prediction agrees with several people, `[n]`; see `fusionkit.raters`.

    Raises:
        ValueError: lengths differ, or an answer is no number.
    """

    ids: Sequence[str]
    target: np.ndarray
    answers: np.ndarray
    groups: np.ndarray | None = None
    fold: np.ndarray | None = None
    task: TaskKind = "classification"
    soft: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.ids)
        parts = {"target": self.target, self._called: self.answers, "groups": self.groups, "fold": self.fold}
        parts["soft accuracies"] = self.soft
        for name, part in parts.items():
            if part is not None and len(part) != n:
                raise ValueError(f"{len(part)} {name} for {n} samples")
        if self.answers.ndim != 2:
            raise ValueError(f"{self._called} are [n, K], not {self.answers.shape}")
        if not np.isfinite(self.answers).all():
            bad = ~np.isfinite(self.answers).all(1)
            raise ValueError(
                f"{self._called} of {bad.sum()} samples are no numbers, first {self.ids[int(bad.argmax())]}"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def _called(self) -> str:
        called = {"regression": "quantities", "grounding": "boxes", "retrieval": "embeddings"}
        return called.get(self.task, "probabilities")

    @property
    def prediction(self) -> np.ndarray:
        """The most probable class `[n]`, the first of equals; the labels that are given; quantities, boxes or
        embeddings."""
        if self.task == "classification":
            return self.answers.argmax(1)
        return decide(self.answers) if self.task == "multilabel" else self.answers

    def of(self, ids: Sequence[str]) -> np.ndarray:
        """The answers in the order of these ids.

        Raises:
            ValueError: they are not the same samples.
        """
        return self.answers[self.places(ids)]

    def places(self, ids: Sequence[str]) -> list[int]:
        """The positions of these samples.

        Raises:
            ValueError: they are not the same samples.
        """
        place = {id: position for position, id in enumerate(self.ids)}
        if len(place) != len(ids) or place.keys() != set(ids):
            raise ValueError("these are other samples")
        return [place[id] for id in ids]


def write_predictions(path: Path, predictions: Predictions, class_names: Sequence[str]) -> None:
    """Write predictions as CSV or Parquet, by the suffix of `path`, atomically.

    Columns: id; of classes target and prediction (their names) and `p_<class>` for each class; of labels
    `target_<label>` (0 or 1) and `p_<label>`; of quantities `target_<name>` and `prediction_<name>`; of boxes the same
    of each corner, and `iou`; of a retrieval `thing`, `class` and the embeddings `first_<i>` and `second_<i>`; and fold
    and group where there are some. Of classes also `soft_accuracy` where several people have answered.

    Raises:
        ValueError: the names are not unique, or not one a column of the answers.
    """
    names = [str(name) for name in class_names]
    retrieval = predictions.task == "retrieval"
    if len(set(names)) != len(names) or (not retrieval and len(names) != predictions.answers.shape[1]):
        raise ValueError(f"{predictions.answers.shape[1]} classes need as many different names")
    columns: dict[str, Any] = {"id": [str(id) for id in predictions.ids]}
    told = answer_columns(predictions.task, predictions.answers, names)
    if predictions.task == "classification":
        columns |= {"target": np.array(names, dtype=object)[predictions.target], "prediction": told.pop("prediction")}
    elif retrieval:
        labels = np.array([*names, ""], dtype=object)  # the last is that of no class, -1
        columns |= {"thing": predictions.target[:, 0], "class": labels[predictions.target[:, 1]]}
    else:
        columns |= {_TARGET + name: predictions.target[:, k] for k, name in enumerate(names)}
    if predictions.task == "grounding":
        columns[_OVERLAP] = iou(predictions.target, predictions.answers)
    if predictions.soft is not None:
        columns[raters.NAME] = predictions.soft
    if predictions.fold is not None:
        columns["fold"] = [str(fold) for fold in predictions.fold]
    if predictions.groups is not None:
        columns["group"] = [str(group) for group in predictions.groups]
    write_table(path, pd.DataFrame(columns | told))


def answer_columns(task: TaskKind, answers: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Answers `[n, K]` as columns: of classes `prediction`, the most probable one, and `p_<class>`; of labels
    `p_<label>`; of quantities and corners `prediction_<name>`; of a retrieval the embeddings `first_<i>` and
    `second_<i>`."""
    if task == "retrieval":
        names = [f"{of}{i}" for of in _EMBEDDINGS for i in range(answers.shape[1] // 2)]
        return {name: answers[:, k] for k, name in enumerate(names)}
    prefix = _PREDICTION if task in ("regression", "grounding") else _PROBABILITY
    columns = {prefix + name: answers[:, k] for k, name in enumerate(names)}
    if task == "classification":
        return {"prediction": np.array(names, dtype=object)[answers.argmax(1)], **columns}
    return columns


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV or Parquet, by the suffix of `path`, atomically."""
    with atomic(path) as file:
        if path.suffix == ".parquet":
            table.to_parquet(file, index=False)
        else:
            table.to_csv(file, index=False, encoding="utf-8", lineterminator="\n")


def read_predictions(path: Path) -> tuple[Predictions, tuple[str, ...]]:
    """Read what `write_predictions` wrote: the predictions and the names of classes, labels or quantities.

    Raises:
        DataError: the file is missing or broken.
    """
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"predictions cannot be read: {error}", path) from None
    columns = [str(column) for column in table.columns]
    if "thing" in columns:
        return _read_retrieval(path, table)
    task: TaskKind = "multilabel"
    if any(column.startswith(_PREDICTION) for column in columns):
        task = "grounding" if _OVERLAP in columns else "regression"
    task = "classification" if "target" in columns else task
    prefix = _PREDICTION if task in ("regression", "grounding") else _PROBABILITY
    names = tuple(column.removeprefix(prefix) for column in columns if column.startswith(prefix))
    needed = ["target", "prediction"] if task == "classification" else [_TARGET + name for name in names]
    for column in ("id", *(needed or ["target"])):
        if column not in columns:
            raise DataError(f"there is no column {column!r}, so these are no predictions", path)
    number = {name: k for k, name in enumerate(names)}
    try:
        if task == "classification":
            target = np.array([number[name] for name in table["target"]], dtype=np.int64)
        else:
            target = table[needed].to_numpy(dtype=np.float64)
            if not np.isfinite(target).all():
                raise ValueError("a target is no number")
            if task == "multilabel":
                if not np.isin(target, (0, 1)).all():
                    raise ValueError("a target of labels is 0 or 1")
                target = target.astype(np.int64)
        predictions = Predictions(
            ids=table["id"].tolist(),
            target=target,
            answers=table[[prefix + name for name in names]].to_numpy(dtype=np.float64),
            groups=table["group"].to_numpy(dtype=str) if "group" in columns else None,
            fold=table["fold"].to_numpy(dtype=str) if "fold" in columns else None,
            task=task,
            soft=table[raters.NAME].replace("", np.nan).to_numpy(np.float64) if raters.NAME in columns else None,
        )
        if task == "classification" and len(predictions):
            told = [names[k] for k in predictions.prediction.tolist()]
            if told != table["prediction"].tolist():
                raise ValueError("a prediction is not the most probable class")
    except KeyError as error:
        raise DataError(f"{error} is none of the classes of the columns {_PROBABILITY}*", path) from None
    except (ValueError, TypeError) as error:
        raise DataError(f"predictions are broken: {error}", path) from None
    return predictions, names


def _read_retrieval(path: Path, table: pd.DataFrame) -> tuple[Predictions, tuple[str, ...]]:
    """The same of a retrieval. Classes that none of the samples has are not in the file."""
    columns = [str(column) for column in table.columns]
    embeddings = [column for of in _EMBEDDINGS for column in columns if column.startswith(of)]
    for column in ("id", "class", f"{_EMBEDDINGS[0]}0", f"{_EMBEDDINGS[1]}0"):
        if column not in columns:
            raise DataError(f"there is no column {column!r}, so these are no predictions", path)
    names = tuple(sorted(set(table["class"]) - {""}))
    number = {name: k for k, name in enumerate(names)} | {"": -1}
    try:
        classes = [number[name] for name in table["class"]]
        predictions = Predictions(
            ids=table["id"].tolist(),
            target=np.stack([table["thing"].to_numpy(dtype=np.int64), np.array(classes, np.int64)], axis=1),
            answers=table[embeddings].to_numpy(dtype=np.float64),
            groups=table["group"].to_numpy(dtype=str) if "group" in columns else None,
            fold=table["fold"].to_numpy(dtype=str) if "fold" in columns else None,
            task="retrieval",
        )
    except (ValueError, TypeError) as error:
        raise DataError(f"predictions are broken: {error}", path) from None
    return predictions, names
