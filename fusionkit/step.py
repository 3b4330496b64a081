"""One step of the optimiser: gradients of the whole batch, however it is cut, then balance, clipping and the update."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

import torch

from fusionkit.balance import GradientBalance
from fusionkit.errors import FusionkitError
from fusionkit.evaluation import Means
from fusionkit.flow import Batch
from fusionkit.optimization import Rates
from fusionkit.progress import Progress
from fusionkit.randomness import seed_torch

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from fusionkit.trainer import Fit


@dataclass
class Step:
    """Called with a batch, takes one step.

    Args:
        job: the model and how far it has come.
        fabric: brings devices, processes and precision.
        wrapped, optimizer: the objective and its optimiser as Fabric has set them up.
        progress: is told where memory is full.
        balance: modulates the gradients; None where the recipe asks for no balance.
        rates: of the optimiser.
    """

    job: Fit
    fabric: Fabric
    wrapped: Any
    optimizer: Any
    progress: Progress
    balance: GradientBalance | None
    rates: Rates

    def __call__(self, batch: Batch) -> Means:
        """Take a step; the means of the loss terms over this process's share of the batch.

        Where memory is full the batch is cut into more parts, whose gradients add up to the same.

        Raises:
            FusionkitError: a loss term, or the gradient, is NaN or infinite.
        """
        job, means = self.job, None
        while means is None:
            try:
                means = self._gradients(batch)
            except torch.OutOfMemoryError:
                if job.parts >= len(batch) // 2 or self.fabric.world_size > 1 or self._is_whole():
                    raise
            if means is None:  # and no longer in `except`, whose traceback holds on to the tensors
                job.parts *= 2
                self.optimizer.zero_grad(set_to_none=True)
                torch.cuda.empty_cache()
                told = f"{job.name}: memory is full; from here on each batch is computed in {job.parts} parts"
                self.progress.line(told)
        self.rates.drop()
        if self.balance is not None:
            self.balance.modulate(job.step)
        if job.settings.grad_clip is not None:
            self._clip(job.settings.grad_clip, means, batch)
        self.optimizer.step()
        for loss in self.wrapped.module.losses.values():
            loss.after_step()
        return means

    def _gradients(self, batch: Batch) -> Means:
        """Gradients of the objective's mean over the batch in all processes, of which this one has `batch`."""
        job, fabric, wrapped = self.job, self.fabric, self.wrapped
        self.optimizer.zero_grad(set_to_none=True)
        if self.balance is not None:
            self.balance.clear()
        parts = cut(batch, job.parts)
        counts = [wrapped.module.counts(part) for part in parts]
        sizes = [sum(count[name] for count in counts) for name in job.losses]
        here = torch.tensor([*sizes, float(len(batch))], device=fabric.device)
        *everywhere, size = cast(torch.Tensor, fabric.all_reduce(here, reduce_op="sum")).tolist()
        whole = dict(zip(job.losses, everywhere, strict=True))
        weighting, means = wrapped.module.weighting, Means()
        for number, (part, count) in enumerate(zip(parts, counts, strict=True)):
            seed_torch(job.seed, "step", job.step, number, fabric.global_rank)
            with fabric.no_backward_sync(wrapped, enabled=number < len(parts) - 1):
                with self.balance.watched(part) if self.balance is not None else nullcontext():
                    _, terms = wrapped(part)
                if not all(torch.isfinite(term) for term in terms.values()):
                    told = {name: float(term.detach()) for name, term in terms.items()}
                    raise FusionkitError(_not_finite(job, "the loss", told, part))
                shares = {name: term * (count[name] / (whole[name] or 1.0)) for name, term in terms.items()}
                # Processes average their gradients, which are to be added.
                fabric.backward(weighting.objective(shares, len(part) / size) * fabric.world_size)
            means.add(terms, count, weighting.now())
        return means

    def _is_whole(self) -> bool:
        """Whether a term compares the samples of a batch, which then cannot be cut."""
        return any(loss.compares_samples for loss in self.wrapped.module.losses.values())

    def _clip(self, norm: float, means: Means, batch: Batch) -> None:
        # With 16-bit floats an overflow is the scaler's to handle; elsewhere it is an error.
        strict = self.job.settings.precision != "16"
        try:
            self.fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=norm, error_if_nonfinite=strict)
        except RuntimeError as error:
            if "non-finite" not in str(error):
                raise
            raise FusionkitError(_not_finite(self.job, "the gradient", means.terms(), batch)) from error


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
