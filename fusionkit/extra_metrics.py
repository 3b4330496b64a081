"""The metrics that a recipe names beside the headline figures of its task: made, tried, asked, and estimated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fusionkit.contract import Metric
from fusionkit.errors import PluginFault, RequestError
from fusionkit.estimates import Estimate, bootstrap, finite
from fusionkit.flow import Task
from fusionkit.kinds import KINDS
from fusionkit.made_up import made_up

if TYPE_CHECKING:
    from fusionkit.chosen import Chosen
    from fusionkit.recipe import Recipe


@dataclass(frozen=True)
class AboutMetric:
    """What a reader of its figures should know of a metric.

    Args:
        summary: one line.
        higher_is_better: False of an error.
        options: as in the resolved recipe.
    """

    summary: str
    higher_is_better: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def told(self, name: str) -> str:
        """What it is, by the name that a recipe calls it: `top_k (k 5): share of ...`."""
        options = ", ".join(f"{key} {value}" for key, value in self.options.items())
        direction = "" if self.higher_is_better else "; less is better"
        return f"{name}{f' ({options})' if options else ''}: {self.summary or 'a metric of the recipe'}{direction}"


@dataclass(frozen=True)
class ExtraMetric:
    """A metric as a recipe names it, made for its task. What it does wrong is told as a fault of its plugin.

    Args:
        name: what the recipe calls it.
        owner: the distribution that it comes from.
        summary: one line.
        metric: the component.
        options: as in the resolved recipe.
    """

    name: str
    owner: str
    summary: str
    metric: Metric
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def about(self) -> AboutMetric:
        return AboutMetric(self.summary, self.metric.higher_is_better, self.options)

    def __call__(self, target: np.ndarray, answers: np.ndarray) -> float:
        """The figure of these samples, NaN where it is undefined or infinite; see `Metric.compute`.

        Raises:
            PluginFault: the metric fails, or returns something else than a float.
        """
        try:
            value = self.metric.compute(target.copy(), answers.copy())  # its own, to do with as it likes
        except Exception as error:  # a stranger's class may raise anything
            raise _failed(self.name, self.owner, error) from error
        if not isinstance(value, float):
            told = f"returns {shorten(repr(value), 100)}, of the type {type(value).__name__}, and not a float"
            raise PluginFault(f"metric {self.name!r} of {self.owner}", told)
        return float(value) if np.isfinite(value) else np.nan

    def merit(self, value: float) -> float:
        """The more, the better; what is undefined is worse than all else."""
        if np.isnan(value):
            return -np.inf
        return value if self.metric.higher_is_better else -value


def make_metrics(recipe: Recipe, task: Task) -> dict[str, ExtraMetric]:
    """The metrics of a recipe by their names.

    Raises:
        RecipeError: the options of one do not fit the task; its line is named.
    """
    return {chosen.name: _made(recipe, chosen, task) for chosen in recipe.metrics}


def _made(recipe: Recipe, chosen: Chosen, task: Task) -> ExtraMetric:
    try:
        metric: Metric = chosen.build(task)
    except (RequestError, ValueError) as error:
        raise recipe.error(chosen.path, str(error)) from error
    except Exception as error:
        raise _failed(chosen.name, chosen.owner, error) from error
    return ExtraMetric(chosen.name, chosen.owner, chosen.summary, metric, chosen.options.model_dump(mode="json"))


def _failed(name: str, owner: str, error: Exception) -> PluginFault:
    told = shorten(f"{type(error).__name__}: {error}", 300)
    return PluginFault(f"metric {name!r} of {owner}", f"fails with {told}", error)


def try_metrics(recipe: Recipe, task: Task) -> None:
    """Make the metrics of a recipe and ask them of made-up answers, so that no training is lost to a faulty one.

    Raises:
        RecipeError: as for `make_metrics`.
        PluginFault: one fails, or returns something else than a float.
    """
    for metric in make_metrics(recipe, task).values():
        for samples in (32, 1):
            metric(*made_up(task, samples))


def figures(metrics: Mapping[str, ExtraMetric], target: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    """The figure of each metric, NaN where undefined."""
    return {name: metric(target, answers) for name, metric in metrics.items()}


def estimate(
    metrics: Mapping[str, ExtraMetric],
    task: str,
    target: np.ndarray,
    answers: np.ndarray,
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> dict[str, Estimate]:
    """The figure of each metric with its 95 % percentile bootstrap interval over samples or whole groups.

    Of a retrieval there are no intervals: samples are candidates there as well, and a resample with its repeated
    samples is another, easier search.

    Args:
        metrics: by name.
        task: the kind of task.
        target, answers: as for `Kind.estimate`.
        groups: a value a sample.
        seed: of the resampling.
    """
    if not KINDS[task].one_by_one:
        return {name: Estimate(finite(value)) for name, value in figures(metrics, target, answers).items()}
    rows = np.arange(len(target))

    def of_counts(counts: np.ndarray) -> np.ndarray:
        drawn = (np.repeat(rows, times) for times in counts)
        found = [list(figures(metrics, target[here], answers[here]).values()) for here in drawn]
        return np.array(found, np.float64)

    return bootstrap(rows, list(metrics), of_counts, groups=groups, seed=seed) if metrics else {}
