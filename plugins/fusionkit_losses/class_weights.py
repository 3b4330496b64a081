"""Weights of classes and labels, as recipes give them and as targets are weighed by them."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from fusionkit.errors import RequestError, suggestion
from fusionkit.flow import Task

ClassWeights: TypeAlias = Literal["balanced"] | list[float] | dict[str, float] | None


def weights_from(given: ClassWeights, task: Task) -> Float[Tensor, " K"] | None:
    """One weight a class; None where none are given.

    Raises:
        RequestError: they do not fit the classes.
    """
    if given is None:
        return None
    return torch.tensor(_balanced(task) if given == "balanced" else by_name("class_weights", given, task))


def by_name(option: str, given: list[float] | dict[str, float], task: Task) -> list[float]:
    """One weight a class or label, from a list of them or a mapping, where names left out weigh one.

    Raises:
        RequestError: they do not fit the names.
    """
    names = task.class_names
    one, all_of_them = ("label", "labels") if task.kind == "multilabel" else ("class", "classes")
    if isinstance(given, dict):
        for name in given:
            if name not in names:
                raise RequestError(f"{option}: there is no {one} {name!r}{suggestion(name, names)}")
        given = [given.get(name, 1.0) for name in names]
    if len(given) != len(names):
        raise RequestError(f"{option}: {len(given)} weights for {len(names)} {all_of_them}")
    if not all(math.isfinite(weight) and weight >= 0 for weight in given) or not any(given):
        raise RequestError(f"{option}: weights must not be negative, infinite or all zero")
    return [float(weight) for weight in given]


def weights_of(target: Shaped[Tensor, "B ..."], weight: Float[Tensor, " K"]) -> Float[Tensor, " B"]:
    """What each sample weighs: as its class does; a mixed one as its classes do, by their shares in it."""
    return (target * weight).sum(1) if target.is_floating_point() else weight[target]


def _balanced(task: Task) -> list[float]:
    counts = np.array(task.class_counts, dtype=np.float64)
    seen = counts > 0
    weights = np.zeros_like(counts)
    weights[seen] = counts.sum() / (seen.sum() * counts[seen])
    return weights.tolist()
