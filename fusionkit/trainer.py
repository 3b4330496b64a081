"""The training loop, from top to bottom.

Over Lightning Fabric, which brings devices, processes and precision; no other loop stands between. Test data never
reach this file: a checkpoint is chosen by validation alone.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.fabric import Fabric

from fusionkit.contract import Loss
from fusionkit.errors import FusionkitError
from fusionkit.evaluation import Means, Objective, evaluate, gathered, in_order, set_up
from fusionkit.flow import Batch
from fusionkit.loading import Batches, Samples, plainly
from fusionkit.metrics import confusion, headline
from fusionkit.model import FusionModel
from fusionkit.optimization import hold_frozen, make_optimizer, rate
from fusionkit.progress import Progress
from fusionkit.randomness import seed_torch
from fusionkit.sections import Train

PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed", "64": "64-true"}


@dataclass
class Fit:
    """One model to be trained, and how far it has come; callbacks are given it.

    Args:
        name: for logs and the folder of its checkpoints: `fusion`, `image`, ...
        model: the model.
        losses: the terms of the objective, each with its weight.
        samples: where batches are read.
        train, val: positions of the samples.
        ids: names of all samples of the index.
        settings: the recipe's `train`.
        batch_size, workers, seed: as in the recipe.
        folder: for `best.ckpt` and `last.ckpt`.
        history: a row of figures an epoch.
        best_epoch: the epoch chosen by validation, from 1.
        seconds: spent in training, validation left out.
        seen: training samples seen.
    """

    name: str
    model: FusionModel
    losses: dict[str, tuple[Loss, float]]
    samples: Samples
    train: np.ndarray
    val: np.ndarray
    ids: Sequence[str]
    settings: Train
    batch_size: int
    workers: int
    seed: int
    folder: Path
    history: list[dict[str, float]] = field(default_factory=list)
    epoch: int = 0
    step: int = 0
    parts: int = 1
    best_epoch: int = 0
    stale: int = 0
    seconds: float = 0.0
    seen: int = 0

    @property
    def progress_state(self) -> dict[str, Any]:
        """What a resumed run needs to know besides weights; no generator state, because randomness is counted."""
        names = ("history", "epoch", "step", "parts", "best_epoch", "stale", "seconds", "seen")
        return {name: getattr(self, name) for name in names}

    def weighted(self, terms: Mapping[str, Any]) -> Any:
        """The objective: the terms' weighted sum."""
        return sum(self.losses[name][1] * term for name, term in terms.items())


class Callback:
    """What `fusionkit_callbacks` may return; any of the methods may be left out of an object that is no subclass."""

    def on_fit_start(self, fit: Fit) -> None: ...

    def on_step_end(self, fit: Fit, terms: dict[str, float]) -> None: ...

    def on_epoch_end(self, fit: Fit) -> None: ...

    def on_fit_end(self, fit: Fit) -> None: ...


def fit(job: Fit, fabric: Fabric, progress: Progress, callbacks: Iterable[Any] = ()) -> Any:
    """Train `job.model` in place and leave it with the weights of the best epoch.

    Continues from `last.ckpt` in the job's folder where there is one.

    Returns:
        the objective as Fabric has set it up, for `evaluate`.

    Raises:
        FusionkitError: a loss term became NaN or infinite; the last good checkpoint stays.
    """
    objective = Objective(job.model, {name: loss for name, (loss, _) in job.losses.items()})
    optimizer: Any = make_optimizer(objective, job.settings)
    base_rates = [group["lr"] for group in optimizer.param_groups]
    wrapped, optimizer = fabric.setup(objective, optimizer)
    order = Batches(job.train, job.batch_size, seed=job.seed, rank=fabric.global_rank, world=fabric.world_size)
    batches = set_up(job.samples, order, fabric, job.workers)
    held_out = in_order(job.samples, job.val, fabric, job.batch_size, job.workers)
    job.parts = job.settings.accumulate
    last, best = job.folder / "last.ckpt", job.folder / "best.ckpt"
    if last.is_file():
        state = {"objective": wrapped, "optimizer": optimizer, "progress": {}}
        fabric.load(last, state, weights_only=True)
        for name, value in state["progress"].items():
            setattr(job, name, value)
    steps = len(order) * job.settings.epochs
    warmup = max(job.settings.warmup_steps, round(job.settings.warmup_epochs * len(order)))
    _call(callbacks, "on_fit_start", job)
    while job.epoch < job.settings.epochs and not _given_up(job):
        order.epoch = job.epoch
        wrapped.train()
        hold_frozen(job.model, job.settings.lr_scale)
        steps_done, started = [], time.perf_counter()
        shown = progress.track(plainly(batches), f"{job.name} epoch {job.epoch + 1}/{job.settings.epochs}", len(order))
        for batch in shown:
            factor = rate(job.step, steps, warmup, job.settings.schedule)
            for group, base in zip(optimizer.param_groups, base_rates, strict=True):
                group["lr"] = base * factor
            steps_done.append(_step(job, fabric, wrapped, optimizer, batch, progress))
            job.step += 1
            _call(callbacks, "on_step_end", job, steps_done[-1].terms())
        elapsed = time.perf_counter() - started
        job.seconds += elapsed
        job.seen += len(job.train)
        means = Means.over(gathered(fabric, Means.over(steps_done))).terms()
        row = {"epoch": job.epoch + 1, "lr": job.settings.lr * factor, "seconds": elapsed}
        row |= {f"train/{name}": value for name, value in means.items()} | {"train/loss": job.weighted(means)}
        row |= _validate(job, fabric, wrapped, held_out)
        job.history.append(row)
        job.epoch += 1
        if _is_better(job.history, job.best_epoch, job.settings.select):
            job.best_epoch, job.stale = job.epoch, 0
            _save(fabric, best, {"model": job.model.state_dict()})
        else:
            job.stale += 1
        _save(fabric, last, {"objective": wrapped, "optimizer": optimizer, "progress": job.progress_state})
        progress.epoch(job.name, row, job.settings.epochs, chosen=job.best_epoch == job.epoch)
        _call(callbacks, "on_epoch_end", job)
    fabric.barrier()
    job.model.load_state_dict(torch.load(best, map_location=fabric.device, weights_only=True)["model"])
    _call(callbacks, "on_fit_end", job)
    return wrapped


def _step(job: Fit, fabric: Fabric, wrapped: Any, optimizer: Any, batch: Batch, progress: Progress) -> Means:
    """One optimiser step; the means of the loss terms over this process's share of the batch.

    Where memory is full the batch is cut into more parts, whose gradients add up to the same.
    """
    means = None
    while means is None:
        try:
            means = _gradients(job, fabric, wrapped, optimizer, batch)
        except torch.OutOfMemoryError:
            if job.parts >= len(batch) // 2 or fabric.world_size > 1:
                raise
        if means is None:  # and no longer in `except`, whose traceback holds on to the tensors
            job.parts *= 2
            optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            progress.line(f"{job.name}: memory is full; from here on each batch is computed in {job.parts} parts")
    if job.settings.grad_clip is not None:
        # With 16-bit floats an overflow is the scaler's to handle; elsewhere it is an error.
        strict = job.settings.precision != "16"
        try:
            fabric.clip_gradients(wrapped, optimizer, max_norm=job.settings.grad_clip, error_if_nonfinite=strict)
        except RuntimeError as error:
            if "non-finite" not in str(error):
                raise
            raise FusionkitError(_not_finite(job, "the gradient", means.terms(), batch)) from error
    optimizer.step()
    return means


def _gradients(job: Fit, fabric: Fabric, wrapped: Any, optimizer: Any, batch: Batch) -> Means:
    """Gradients of the objective's mean over the batch in all processes, of which this one has `batch`."""
    optimizer.zero_grad(set_to_none=True)
    parts = cut(batch, job.parts)
    counts = [wrapped.module.counts(part) for part in parts]
    here = torch.tensor([sum(count[name] for count in counts) for name in job.losses], device=fabric.device)
    everywhere = cast(torch.Tensor, fabric.all_reduce(here, reduce_op="sum")).tolist()
    whole = dict(zip(job.losses, everywhere, strict=True))
    means = Means()
    for number, (part, count) in enumerate(zip(parts, counts, strict=True)):
        seed_torch(job.seed, "step", job.step, number, fabric.global_rank)
        with fabric.no_backward_sync(wrapped, enabled=number < len(parts) - 1):
            _, terms = wrapped(part)
            if not all(torch.isfinite(term) for term in terms.values()):
                told = {name: float(term.detach()) for name, term in terms.items()}
                raise FusionkitError(_not_finite(job, "the loss", told, part))
            shares = {name: term * (count[name] / (whole[name] or 1.0)) for name, term in terms.items()}
            # Processes average their gradients, which are to be added.
            fabric.backward(job.weighted(shares) * fabric.world_size)
        means.add(terms, count)
    return means


def cut(batch: Batch, parts: int) -> list[Batch]:
    """Cut a batch into parts of nearly equal size, none of fewer than two samples: a batch norm needs two."""
    parts = max(1, min(parts, len(batch) // 2))
    bounds = [number * len(batch) // parts for number in range(parts + 1)]
    return [batch.map(itemgetter(slice(*ends))) for ends in pairwise(bounds)]


def _not_finite(job: Fit, what: str, terms: dict[str, float], batch: Batch) -> str:
    wrong = {name: value for name, value in terms.items() if not math.isfinite(value)} or terms
    listed = ", ".join(f"{name} is {value:g}" for name, value in wrong.items())
    ids = [str(job.ids[position]) for position in batch.index.tolist()]
    last = job.folder / "last.ckpt"
    return (
        f"{job.name}: {what} is no number in epoch {job.epoch + 1}, step {job.step + 1} ({listed}) for the samples "
        f"{', '.join(ids[:8])}{f' and {len(ids) - 8} more' if len(ids) > 8 else ''}; try a lower train.lr, "
        f"train.grad_clip, or precision 32{f'. The last good checkpoint is {last}' if last.is_file() else ''}"
    )


def _validate(job: Fit, fabric: Fabric, wrapped: Any, batches: Iterable[Batch]) -> dict[str, float]:
    found = evaluate(wrapped, batches, fabric, job.samples.targets)
    counts = confusion(found.target, found.probabilities.argmax(1), found.probabilities.shape[1])
    row = {f"val/{name}": value for name, value in found.terms.items()} | {"val/loss": job.weighted(found.terms)}
    return row | {f"val/{name}": float(value) for name, value in headline(counts).items()}


def _is_better(history: list[dict[str, float]], best_epoch: int, select: str) -> bool:
    """Whether the last epoch beats the best one on validation; equal figures are told apart by the loss."""
    if best_epoch == 0:
        return True

    def merit(row: dict[str, float]) -> tuple[float, float]:
        loss = -math.inf if math.isnan(row["val/loss"]) else -row["val/loss"]
        figure = loss if select == "loss" else row[f"val/{select}"]
        return (
            math.inf if math.isnan(figure) else figure,
            loss,
        )  # kappa has no value where all is of one class, and right

    return merit(history[-1]) > merit(history[best_epoch - 1])


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
