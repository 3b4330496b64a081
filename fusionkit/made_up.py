"""Targets and answers that are made up for a task, to try on them what measures answers."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, softmax

from fusionkit.flow import Task

_WIDTH = 4
"""Of an embedding."""


def made_up(task: Task, samples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random targets and answers, of the shapes and types of the task's `fusionkit.kinds.Kind`.

    Args:
        task: what is predicted.
        samples: how many.
        seed: of the draw.
    """
    random = np.random.default_rng(seed)
    width = len(task.class_names)
    scores = random.normal(size=(samples, width))
    if task.kind == "classification":
        return random.integers(width, size=samples), softmax(scores, axis=1).astype(np.float32)
    if task.kind == "multilabel":
        return random.integers(2, size=(samples, width)), expit(scores).astype(np.float32)
    if task.kind == "regression":
        truth = np.array(task.mean) + np.array(task.std) * random.normal(size=(samples, width))
        return truth, truth + np.array(task.std) * scores
    if task.kind == "grounding":
        return _boxes(random, samples), _boxes(random, samples)
    things = np.arange(samples) // 2
    classes = things % width if width else np.full(samples, -1)
    return np.stack([things, classes], axis=1), random.normal(size=(samples, 2 * _WIDTH)).astype(np.float32)


def _boxes(random: np.random.Generator, samples: int) -> np.ndarray:
    """Left, top, right, bottom, as shares of the image, `[n, 4]`."""
    return np.sort(random.random((samples, 2, 2)), axis=1).reshape(samples, 4)
