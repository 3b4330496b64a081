"""Run folders as a run leaves them, with answers made up, for what reads finished runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.extra_metrics import ExtraMetric
from fusionkit.predictions import Predictions
from fusionkit.result import Baseline, Cost, Result, score
from fusionkit.runs import Run, RunFolder, to_yaml

NAMES = ("field", "forest", "water & wetland", "town")


@dataclass(frozen=True)
class MadeCell:
    """A cell of a grid: variant, levels and seed."""

    name: str
    seed: int
    levels: Mapping[str, str] = field(default_factory=dict)


def probabilities(target: np.ndarray, right: np.ndarray, seed: int, classes: int = len(NAMES)) -> np.ndarray:
    """Answers `[n, K]` that are right where `right` says so, else one class further."""
    chosen = np.where(right, target, (target + 1) % classes)
    answers = np.random.default_rng(seed).uniform(0, 0.4, (len(target), classes))
    answers[np.arange(len(target)), chosen] = 1
    return answers / answers.sum(1, keepdims=True)


def made_run(
    folder: Path,
    target: np.ndarray,
    answers: np.ndarray,
    *,
    baselines: Mapping[str, np.ndarray] = {},
    seed: int = 0,
    task: Any = "classification",
    names: Sequence[str] = NAMES,
    groups: np.ndarray | None = None,
    ids: Sequence[str] | None = None,
    recipe: Mapping[str, Any] = {},
    fingerprint: str = "f00d",
    commit: str = "0123456789abcdef",
    metrics: Mapping[str, ExtraMetric] = {},
) -> Run:
    """Write a finished run. `recipe` changes keys of its resolved recipe, and `metrics` are measured too."""
    folder.mkdir(parents=True)
    made = RunFolder(folder)
    ids = ids or [f"s{k}" for k in range(len(target))]

    def held(given: np.ndarray) -> Predictions:
        return Predictions(ids, target, given, groups=groups, task=task)

    scores = score(held(answers), names, 0, metrics)
    beside = {}
    for name, given in baselines.items():
        made.write_predictions(held(given), names, f"baselines/{name}")
        modalities = ("image", "visits") if name == "early_stack" else (name,)
        beside[name] = Baseline(modalities, score(held(given), names, 0, metrics).metrics, Cost(parameters=1000))
    made.write_predictions(held(answers), names)
    resolved = {
        "name": "tiles",
        "task": task,
        "seed": seed,
        "data": {"source": "urfc", "root": "/data", "batch_size": 32, "num_workers": 0},
        "fusion": {"name": "concat", "dim": 64},
        "train": {"epochs": 3, "lr": 0.001},
    } | recipe
    made.write_text("resolved.yaml", to_yaml(resolved))
    git = {"commit": commit, "changed": False}
    made.write_text("provenance.json", json.dumps({"data_fingerprint": fingerprint, "git": git, "seed": seed}))
    cost = Cost(123_456, 7_000_000, 30.0 + seed, 500.0, 2**28 + seed)
    made.finish(
        Result(
            name=str(resolved["name"]),
            task=task,
            split="test",
            n=len(target),
            seed=seed,
            fusion="concat",
            modalities=("image", "visits"),
            classes=tuple(names),
            metrics=scores.metrics,
            per_class=() if task in ("regression", "retrieval", "grounding") else scores.details,
            interval=scores.interval,
            cost=cost,
            baselines=beside,
            extra_metrics={name: metric.about for name, metric in metrics.items()},
        )
    )
    return Run(folder)


def made_grid(
    folder: Path,
    seeds: Sequence[int] = (0, 1, 2),
    n: int = 240,
    gains: Mapping[str, float] | None = None,
    recipe: Mapping[str, Any] = {},
    **given: Any,
) -> list[tuple[MadeCell, Run]]:
    """Runs of variants whose margins are that much greater than those of the first, with baselines beside each."""
    random = np.random.default_rng(5)
    target = random.integers(0, len(NAMES), n)
    difficulty = random.normal(0.9, 1, n)
    cells = []
    for variant, gain in (gains or {"concat": 0.0, "gmu": 0.05, "late": 1.0, "sum": -1.2}).items():
        for seed in seeds:
            right = difficulty + gain + random.normal(0, 0.4, n) > 0
            answers = probabilities(target, right, seed)
            alone = probabilities(target, difficulty - 0.8 + random.normal(0, 0.4, n) > 0, seed)
            stack = probabilities(target, difficulty + random.normal(0, 0.4, n) > 0, seed)
            run = made_run(
                folder / f"{variant}-{seed}",
                target,
                answers,
                seed=seed,
                baselines={"image": alone, "early_stack": stack},
                recipe={"fusion": {"name": variant, "dim": 64}} | dict(recipe),
                **given,
            )
            cells.append((MadeCell(variant, seed, {"fusion": variant}), run))
    return cells
