"""The training loop, from top to bottom.

Over Lightning Fabric, which brings devices, processes and precision; no other loop stands between. Test data never
reach this file: a checkpoint is chosen by validation alone.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from fusionkit import extra_metrics, raters
from fusionkit.balance import GradientBalance
from fusionkit.contract import Encoder, Fusion, Loss, Mixing
from fusionkit.embedding_watch import EmbeddingWatch
from fusionkit.evaluation import Means, Objective, evaluate, gathered, in_order, set_up
from fusionkit.extra_metrics import ExtraMetric
from fusionkit.flow import Batch
from fusionkit.headlines import ERRORS, primary
from fusionkit.kinds import KINDS
from fusionkit.loading import Batches, Samples, plainly
from fusionkit.model import FusionModel
from fusionkit.optimization import Rates, hold_frozen, make_optimizer, rate, renew
from fusionkit.progress import Progress
from fusionkit.randomness import generator
from fusionkit.sections import Train
from fusionkit.step import Step
from fusionkit.weighting import Weight, Weighting, sum_of

if TYPE_CHECKING:
    from lightning.fabric import Fabric

PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed", "64": "64-true"}


@dataclass
class Fit:
    """One model to be trained, and how far it has come; callbacks are given it.

    Args:
        name: for logs and the folder of its checkpoints: `fusion`, `image`, ...
        model: the model.
        losses: the terms of the objective, fitted to the model, each with its weight.
        samples: where batches are read.
        train, val: positions of the samples.
        ids: names of all samples of the index.
        settings: the recipe's `train`.
        batch_size, workers, seed: as in the recipe.
        folder: for `best.ckpt` and `last.ckpt`.
        run_folder: of the whole run, where callbacks may leave files of their own.
        is_first: whether this is the first of the run's processes, the one that writes files.
        fresh_fusion: `Blueprint.fresh_fusion` of the model; needed where `settings` ask for resets.
        mixings: applied to training batches in this order.
        teachers: see `Objective`.
        metrics: by name, beside the headline figures.
        history: a row of figures an epoch.
        best_epoch: the epoch chosen by validation, from 1.
        seconds: spent in training, validation left out.
        seen: training samples seen.
        warnings: what was said of embeddings that collapse.
    """

    name: str
    model: FusionModel
    losses: dict[str, tuple[Loss, Weight]]
    samples: Samples
    train: np.ndarray
    val: np.ndarray
    ids: Sequence[str]
    settings: Train
    batch_size: int
    workers: int
    seed: int
    folder: Path
    run_folder: Path = Path()
    is_first: bool = True
    fresh_fusion: Callable[[int], tuple[Fusion, nn.ModuleDict]] | None = None
    mixings: Sequence[Mixing] = ()
    teachers: Mapping[str, FusionModel] = field(default_factory=dict)
    metrics: Mapping[str, ExtraMetric] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    epoch: int = 0
    step: int = 0
    parts: int = 1
    best_epoch: int = 0
    stale: int = 0
    seconds: float = 0.0
    seen: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def progress_state(self) -> dict[str, Any]:
        """What a resumed run needs to know besides weights; no generator state, because randomness is counted."""
        names = ("history", "epoch", "step", "parts", "best_epoch", "stale", "seconds", "seen", "warnings")
        return {name: getattr(self, name) for name in names}

    def mix(self, batch: Batch, rank: int) -> Batch:
        """The training batch after all mixings; each process mixes its own share."""
        for number, mixing in enumerate(self.mixings):
            batch = mixing(batch, generator(self.seed, "mix", number, self.step, rank))
        return batch


class Callback:
    """What `fusionkit_callbacks` may return; any of the methods may be left out of an object that is no subclass.

    They are called in every process of the run, for every model: that of the recipe and the baselines, fold by fold,
    each with a `Fit` of its own. One that raises ends the run, which can be resumed.
    """

    def on_fit_start(self, fit: Fit) -> None:
        """Before the first step; of a resumed run, `fit.step` and `fit.history` tell how far it has come."""

    def on_step_end(self, fit: Fit, terms: dict[str, float]) -> None:
        """After a step of the optimiser, whose gradients the parameters still hold, clipped where a recipe clips them.

        Args:
            fit: `fit.step` counts this step already.
            terms: the terms of the loss, over this process's share of the batch.
        """

    def on_epoch_end(self, fit: Fit) -> None:
        """After validation, when the checkpoint is written: `fit.history[-1]` are the figures."""

    def on_fit_end(self, fit: Fit) -> None:
        """After the last epoch: `fit.model` has the weights of the best one."""


def fit(job: Fit, fabric: Fabric, progress: Progress, callbacks: Iterable[Any] = ()) -> Any:
    """Train `job.model` in place and leave it with the weights of the best epoch.

    Continues from `last.ckpt` in the job's folder where there is one.

    Returns:
        the objective as Fabric has set it up, for `evaluate`.

    Raises:
        FusionkitError: a loss term became NaN or infinite; the last good checkpoint stays.
    """
    if job.settings.gradient_checkpointing:
        for module in job.model.modules():
            if isinstance(module, Encoder):
                module.checkpoint()
    weighting = Weighting({name: weight for name, (_, weight) in job.losses.items()}, job.settings.epochs)
    teachers = {name: teacher.to(fabric.device) for name, teacher in job.teachers.items()}
    objective = Objective(job.model, {name: loss for name, (loss, _) in job.losses.items()}, weighting, teachers)
    optimizer: Any = make_optimizer(objective, job.settings)
    wrapped, optimizer = fabric.setup(objective, optimizer)
    rates = Rates(optimizer, job.settings, shared=fabric.world_size > 1)
    order = Batches(
        job.train,
        job.batch_size,
        seed=job.seed,
        rank=fabric.global_rank,
        world=fabric.world_size,
        groups=job.samples.groups if _one_per_group(job) else None,
    )
    batches = set_up(job.samples, order, fabric, job.workers)
    held_out = in_order(job.samples, job.val, fabric, job.batch_size, job.workers)
    job.parts = job.settings.accumulate
    last, best = job.folder / "last.ckpt", job.folder / "best.ckpt"
    if last.is_file():
        state = {"objective": wrapped, "optimizer": optimizer, "progress": {}}
        fabric.load(last, state, weights_only=True)
        for name, value in state["progress"].items():
            setattr(job, name, value)
    balance = None
    if job.settings.balance is not None and len(job.model.encoders) > 1:  # a baseline may have a single one
        balance = GradientBalance(job.model, job.settings.balance, fabric, job.seed)
    step = Step(job, fabric, wrapped, optimizer, progress, balance, rates)
    watch = EmbeddingWatch(job)
    steps = len(order) * job.settings.epochs
    warmup = max(job.settings.warmup_steps, round(job.settings.warmup_epochs * len(order)))
    _call(callbacks, "on_fit_start", job)
    while job.epoch < job.settings.epochs and not _given_up(job):
        order.epoch = job.epoch
        if job.epoch + 1 in job.settings.reset_fusion:
            _reset_fusion(job, optimizer)
            progress.line(f"{job.name}: the fusion begins anew with epoch {job.epoch + 1}")
        if balance is not None:
            balance.begin(job.epoch + 1)
        weighting.begin(job.epoch + 1, job.history)
        wrapped.train()
        rates.begin(job.epoch)
        hold_frozen(job.model, *job.settings.scales(rates.stage))
        if job.settings.stages and (job.epoch == 0 or job.settings.stage(job.epoch - 1) < rates.stage):
            progress.line(f"{job.name}: {_told_of(job.settings, rates.stage)} begins with epoch {job.epoch + 1}")
        steps_done, started = [], time.perf_counter()
        shown = progress.track(batches, f"{job.name} epoch {job.epoch + 1}/{job.settings.epochs}", len(order))
        with plainly(batches), watch.attached():
            for batch in shown:
                factor = rate(job.step, steps, warmup, job.settings.schedule)
                rates.set(factor)
                steps_done.append(step(job.mix(batch, fabric.global_rank)))
                job.step += 1
                for warning in watch.warning():
                    job.warnings.append(f"in step {job.step} of epoch {job.epoch + 1} {warning}")
                    progress.line(f"warning: {job.name}: {job.warnings[-1]}")
                _call(callbacks, "on_step_end", job, steps_done[-1].terms())
        elapsed = time.perf_counter() - started
        job.seconds += elapsed
        job.seen += order.count
        means = Means.over(gathered(fabric, Means.over(steps_done)))
        row = {"epoch": job.epoch + 1, "lr": job.settings.lr * factor, "seconds": elapsed}
        if job.settings.stages:
            row["stage"] = rates.stage + 1
        row |= {f"train/{name}": value for name, value in means.terms().items()}
        row |= {f"weighted/{name}": value for name, value in means.weighted_terms().items()}
        row |= {f"weight/{name}": value for name, value in weighting.now().items()}
        row |= {"train/loss": sum(means.weighted_terms().values())}
        row |= _validate(job, fabric, wrapped, held_out)
        row |= {f"fusion/{name}": float(value) for name, value in job.model.fusion.figures().items()}
        for name, loss in job.losses.items():
            row |= {f"loss/{name}/{figure}": float(value) for figure, value in loss[0].figures().items()}
        row |= watch.figures()
        if balance is not None:
            row |= balance.figures()
        job.history.append(row)
        job.epoch += 1
        select = job.settings.select or primary(job.model.task.kind)
        if _is_better(job.history, job.best_epoch, select, job.metrics.get(select)):
            job.best_epoch, job.stale = job.epoch, 0
            _save(fabric, best, {"model": job.model.state_dict()})
        else:
            job.stale += 1
        _save(fabric, last, {"objective": wrapped, "optimizer": optimizer, "progress": job.progress_state})
        chosen = job.best_epoch == job.epoch
        progress.epoch(job.name, row, job.settings.epochs, chosen=chosen, figure=primary(job.model.task.kind))
        _call(callbacks, "on_epoch_end", job)
    for remark in remarks(job.model.fusion, job.history):
        progress.line(f"{job.name}: {remark}")
    fabric.barrier()
    job.model.load_state_dict(torch.load(best, map_location=fabric.device, weights_only=True)["model"])
    _call(callbacks, "on_fit_end", job)
    return wrapped


def remarks(fusion: Fusion | type[Fusion], history: Sequence[Mapping[str, float]]) -> list[str]:
    """What the fusion has to say of a training; it is given plain floats, as its signature says."""
    return fusion.remarks([{name: float(value) for name, value in row.items()} for row in history])


def _told_of(settings: Train, stage: int) -> str:
    """A stage and its factors."""
    scales = settings.stages[stage].lr_scale
    told = [f"{part} {f'learns at {factor:g} x lr' if factor else 'is frozen'}" for part, factor in scales.items()]
    return f"stage {stage + 1} of {len(settings.stages)} ({', '.join(told) or 'all parts at their own lr'})"


def _reset_fusion(job: Fit, optimizer: Any) -> None:
    """Put new initial weights in the fusion, and in what stands in for absent modalities; a best epoch stays best."""
    if job.fresh_fusion is None:
        raise ValueError("Fit.fresh_fusion is needed for settings with reset_fusion")
    fusion, stand_ins = job.fresh_fusion(job.epoch + 1)
    renew(job.model.fusion, fusion, optimizer.optimizer)
    renew(job.model.stand_ins, stand_ins, optimizer.optimizer)


def _validate(job: Fit, fabric: Fabric, wrapped: Any, batches: Iterable[Batch]) -> dict[str, float]:
    """The figures of the validation samples; their loss has the same weights in all epochs, see `Weighting`."""
    found = evaluate(wrapped, batches, fabric, job.samples.targets)
    loss = sum_of(wrapped.module.weighting.reference(), found.terms)
    row = {f"val/{name}": value for name, value in found.terms.items()} | {"val/loss": loss}
    figures = KINDS[job.model.task.kind].figures(found.target, found.answers)
    figures |= extra_metrics.figures(job.metrics, found.target, found.answers)
    if job.samples.raters is not None:
        soft = raters.soft_accuracy(job.samples.raters[found.index], found.answers.argmax(1))
        figures[raters.NAME] = float(np.nanmean(soft)) if np.isfinite(soft).any() else math.nan
    return row | {f"val/{name}": value for name, value in figures.items()}


def _is_better(
    history: list[dict[str, float]], best_epoch: int, select: str, metric: ExtraMetric | None = None
) -> bool:
    """Whether the last epoch beats the best one on validation; equal figures are told apart by the loss.

    `metric` is what `select` names, where that is no headline figure.
    """
    if best_epoch == 0:
        return True

    def merit(row: dict[str, float]) -> tuple[float, float]:
        loss = -math.inf if math.isnan(row["val/loss"]) else -row["val/loss"]
        figure = loss if select == "loss" else row[f"val/{select}"]
        if metric is not None:
            return metric.merit(figure), loss
        if math.isnan(figure):  # kappa has no value where all is of one class, and right
            return math.inf, loss
        return -figure if select in ERRORS else figure, loss

    return merit(history[-1]) > merit(history[best_epoch - 1])


def _one_per_group(job: Fit) -> bool:
    """Whether an epoch has one sample of each group; by default those of a retrieval."""
    asked = job.settings.one_per_group
    return job.model.task.kind == "retrieval" if asked is None else asked


def _given_up(job: Fit) -> bool:
    return job.settings.early_stopping is not None and job.stale >= job.settings.early_stopping


def _save(fabric: Fabric, path: Path, state: dict[str, Any]) -> None:
    """Write beside and rename, so that a killed run leaves the former checkpoint whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    fabric.save(beside, state)
    if fabric.is_global_zero:
        os.replace(beside, path)


def _call(callbacks: Iterable[Any], event: str, *arguments: Any) -> None:
    for callback in callbacks:
        if method := getattr(callback, event, None):
            method(*arguments)
