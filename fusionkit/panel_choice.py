"""Which test samples a page of panels shows: drawn by the seed from each group of those that fared alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fusionkit import grounding, retrieval
from fusionkit.predictions import Predictions
from fusionkit.randomness import generator

RULE = (
    "Within each group the samples are drawn at random by the seed of the run, {number} of each at most; nobody has "
    "picked them."
)


def right(predictions: Predictions) -> np.ndarray:
    """Whether each answer is right, `[n]`: the class; every label; a box by an IoU of 0.5; quantities nearer than the
    median of the errors."""
    target, answers = predictions.target, predictions.answers
    if predictions.task == "grounding":
        return np.greater_equal(grounding.iou(target, answers), grounding.THRESHOLD)
    if predictions.task == "regression":
        error = np.linalg.norm((answers - target) / target.std(0).clip(min=np.finfo(float).tiny), axis=1)
        return np.less_equal(error, np.median(error))
    found = np.equal(predictions.prediction, target).reshape(len(predictions), -1)
    return np.logical_and.reduce(found, axis=1)


def groups(ours: Predictions, baseline: Predictions | None) -> list[tuple[str, np.ndarray]]:
    """Titles and members, as positions among the predictions; without those of which there is none.

    Args:
        ours: of the fused model.
        baseline: of the best one, in the same order.
    """
    if ours.task == "retrieval":
        return [(title, rows) for title, rows in _by_rank(ours) if len(rows)]
    called = "small error" if ours.task == "regression" else "right"
    other = "great error" if ours.task == "regression" else "wrong"
    mine = right(ours)
    if baseline is None:
        parts = [(called.capitalize(), mine), (other.capitalize(), ~mine)]
    else:
        theirs = right(baseline)
        parts = [
            (f"Fusion gains: ours {called}, the baseline {other}", mine & ~theirs),
            (f"Fusion loses: ours {other}, the baseline {called}", ~mine & theirs),
            (f"Both {called}", mine & theirs),
            (f"Both {other}", ~mine & ~theirs),
        ]
    return [(title, np.flatnonzero(held)) for title, held in parts if held.any()]


def _by_rank(ours: Predictions) -> Sequence[tuple[str, np.ndarray]]:
    """Samples of a retrieval by the rank at which their description finds the thing."""
    _, backward = retrieval.rank(ours.target, ours.answers)
    first, last = backward.rank == 1, backward.rank > 10
    return [
        ("Found first", backward.rows[first]),
        ("Found among the first ten", backward.rows[~first & ~last]),
        ("Not found among the first ten", backward.rows[last]),
    ]


def drawn(rows: np.ndarray, number: int, seed: int, title: str) -> list[int]:
    """So many of the rows at most, in their own order."""
    return np.sort(generator(seed, "panels", title).permutation(rows)[:number]).tolist()  # type: ignore[no-any-return]
