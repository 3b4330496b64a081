"""Fits of a small model to toy data, and what kills them."""

from __future__ import annotations

from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fusionkit_fakes import Cat, Conv, Entropy, Jitter, Linear, Toy
from lightning.fabric import Fabric
from rich.console import Console

from fusionkit.flow import Task
from fusionkit.loading import Samples
from fusionkit.model import Blueprint, FusionModel
from fusionkit.progress import Progress
from fusionkit.sections import Train
from fusionkit.trainer import PRECISION, Fit, fit

TASK = Task("classification", ("a", "b", "c"), (1, 1, 1))


class Watched(Toy):
    """Remembers what was read."""

    def __init__(self) -> None:
        super().__init__(samples=60)
        self.seen: set[int] = set()

    def read(self, i: int) -> Any:
        self.seen.add(i)
        return super().read(i)


def a_fit(folder: Path, *, losses: dict | None = None, dropout: float = 0.2, norm: bool = False, **options: Any) -> Fit:
    """A fit of a small model to toy data; options are keys of `train` but for seed, workers and augment."""
    seed, workers, augment = (
        options.pop(key, other) for key, other in [("seed", 0), ("workers", 0), ("augment", True)]
    )
    toy = Watched()
    inputs = {name: spec for name, spec in toy.inputs().items() if name != "steps"}
    encoders = {"image": partial(Conv, norm=norm), "vector": partial(Linear, dropout=dropout)}
    index = toy.index()
    assert index.split is not None
    return Fit(
        name="toy",
        model=Blueprint(inputs, encoders, Cat, Cat, TASK, seed=seed).build({}),
        losses=losses or {"entropy": (Entropy(TASK), 1.0)},
        samples=Samples(toy, index.targets, inputs, [Jitter(inputs, drop=0.2)] if augment else [], seed),
        train=np.flatnonzero(index.split == "train"),
        val=np.flatnonzero(index.split == "val"),
        ids=index.ids,
        settings=Train(**{"epochs": 3, "lr": 0.01} | options),
        batch_size=8,
        workers=workers,
        seed=seed,
        folder=folder,
    )


def trained(job: Fit, *callbacks: Any, said: StringIO | None = None) -> Fit:
    fabric = Fabric(accelerator="cpu", devices=1, precision=PRECISION[job.settings.precision])
    progress = Progress(Console(file=said or StringIO(), width=200))
    fit(job, fabric, progress, callbacks)
    return job


def weights(model: FusionModel) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def figures(job: Fit) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in job.history]


def assert_same(one: Fit, other: Fit) -> None:
    assert figures(one) == figures(other)
    assert (one.best_epoch, one.step, one.seen) == (other.best_epoch, other.step, other.seen)
    for name, value in weights(one.model).items():
        assert torch.equal(value, weights(other.model)[name]), name


class Killed(Exception):  # noqa: N818
    pass


class Kill:
    """Raises at the end of an epoch, or of a step."""

    def __init__(self, *, epoch: int = 0, step: int = 0):
        self.epoch, self.step = epoch, step

    def on_step_end(self, job: Fit, terms: dict[str, float]) -> None:
        if job.step == self.step:
            raise Killed

    def on_epoch_end(self, job: Fit) -> None:
        if job.epoch == self.epoch:
            raise Killed
