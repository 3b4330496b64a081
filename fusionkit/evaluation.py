"""A model and the terms of its loss, and what they say of samples held out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from fusionkit.contract import Loss
from fusionkit.errors import FusionkitError
from fusionkit.flow import Batch, Output, Task
from fusionkit.kinds import KINDS
from fusionkit.loading import Batches, Loader, Samples, plainly
from fusionkit.model import FusionModel
from fusionkit.weighting import Weighting

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class Objective(nn.Module):
    """A model and the terms of its loss as one module, so that every parameter is seen by optimiser and processes.

    Args:
        model: to be trained.
        losses: the terms.
        weighting: of the terms; it may be learned.
        teachers: frozen models that a term reads, by the name of their run. They are no part of what is trained.
    """

    def __init__(
        self,
        model: FusionModel,
        losses: Mapping[str, Loss],
        weighting: Weighting | None = None,
        teachers: Mapping[str, FusionModel] | None = None,
    ):
        super().__init__()
        self.model = model
        self.losses = nn.ModuleDict(dict(losses))
        self.weighting = weighting
        self.teachers = dict(teachers or {})  # a plain mapping, which hides them from optimiser and checkpoint

    def forward(self, batch: Batch, *, with_terms: bool = True) -> tuple[Output, dict[str, Tensor]]:
        """The prediction, and every term before weighting."""
        output = self.model(batch)
        if not with_terms:
            return output, {}
        if self.teachers:
            with torch.no_grad():
                output.teachers = {name: self._taught(teacher, batch) for name, teacher in self.teachers.items()}
        return output, {name: self._term(cast(Loss, loss), output, batch) for name, loss in self.losses.items()}

    def _taught(self, teacher: FusionModel, batch: Batch) -> Output:
        """What a teacher says, its quantities standardised as the pupil's are."""
        said: Output = teacher(batch)
        return replace(said, logits=teacher.in_scale_of(self.model, said.logits))

    def _term(self, loss: Loss, output: Output, batch: Batch) -> Tensor:
        """A term of the main prediction; of each branch's too, where the fusion hands them no gradient."""
        term = loss(output, batch)
        if self.model.fusion.supervises_branches and loss.reads_logits_alone:
            for logits in output.branch_logits.values():
                term = term + loss(replace(output, logits=logits), batch)
        return term

    def counts(self, batch: Batch) -> dict[str, float]:
        """What the mean of every term is over; see `Loss.count`."""
        return {name: float(cast(Loss, loss).count(batch)) for name, loss in self.losses.items()}


@dataclass
class Means:
    """Means of the loss terms over several batches."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    weighted: dict[str, float] = field(default_factory=dict)

    def add(
        self, terms: Mapping[str, Tensor], counts: Mapping[str, float], weights: Mapping[str, float] | None = None
    ) -> None:
        for name, term in terms.items():
            value = float(term.detach()) * counts[name]
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0.0) + counts[name]
            self.weighted[name] = self.weighted.get(name, 0.0) + (weights or {}).get(name, 1.0) * value

    @classmethod
    def over(cls, several: Iterable[Means]) -> Means:
        total = cls()
        for part in several:
            for name, value in part.sums.items():
                total.sums[name] = total.sums.get(name, 0.0) + value
                total.counts[name] = total.counts.get(name, 0.0) + part.counts[name]
                total.weighted[name] = total.weighted.get(name, 0.0) + part.weighted[name]
        return total

    def terms(self) -> dict[str, float]:
        """The mean of each term before weighting; zero where it was over nothing."""
        return {name: value / (self.counts[name] or 1.0) for name, value in self.sums.items()}

    def weighted_terms(self) -> dict[str, float]:
        """The same after weighting."""
        return {name: value / (self.counts[name] or 1.0) for name, value in self.weighted.items()}


@dataclass
class Evaluation:
    """A model's answers for some samples: positions `[n]`, what `Kind.answer` makes of its logits, `[n, K]`, and the
    loss terms' means."""

    index: np.ndarray
    target: np.ndarray
    answers: np.ndarray
    terms: dict[str, float]


@torch.no_grad()
def evaluate(
    wrapped: Any, batches: Iterable[Batch], fabric: Fabric, targets: np.ndarray, *, with_terms: bool = True
) -> Evaluation:
    """Run an objective set up by Fabric over the batches of `in_order`.

    Args:
        wrapped: the objective; it is left in evaluation mode.
        batches, fabric: every process takes its share, and every process is given the whole answer.
        targets: of the whole index.
        with_terms: whether the terms of the loss are wanted, which may need what a prediction does not.

    Raises:
        FusionkitError: a prediction is NaN or infinite.
    """
    wrapped.eval()
    task: Task = wrapped.module.model.task
    index, answers, means = [], [], Means()
    with plainly(batches):
        for batch in batches:
            output, terms = wrapped(batch, with_terms=with_terms)
            answer = KINDS[task.kind].answer(task, output.logits)
            if wrong := int((~torch.isfinite(answer)).any(1).sum()):
                raise FusionkitError(
                    f"the prediction is no number for {wrong} of {len(batch)} samples held out, though the loss was "
                    "one in training; try a lower train.lr, train.grad_clip, or precision 32"
                )
            index.append(batch.index.cpu().numpy())
            answers.append(answer.cpu().numpy())
            means.add(terms, wrapped.module.counts(batch) if with_terms else {})
    everyone = gathered(fabric, (np.concatenate(index), np.concatenate(answers), means))
    unique, first = np.unique(np.concatenate([part[0] for part in everyone]), return_index=True)
    held = np.concatenate([part[1] for part in everyone])[first]
    return Evaluation(unique, targets[unique], held, Means.over(part[2] for part in everyone).terms())


def in_order(samples: Samples, positions: np.ndarray, fabric: Fabric, batch_size: int, workers: int) -> Any:
    """Batches for evaluation: no augmentation, each process its share."""
    order = Batches(positions, batch_size, seed=None, rank=fabric.global_rank, world=fabric.world_size)
    return set_up(samples, order, fabric, workers)


def set_up(samples: Samples, order: Batches, fabric: Fabric, workers: int) -> Any:
    """A loader that brings batches to the device."""
    made = Loader(samples, order, workers, pin_memory=fabric.device.type == "cuda")
    return fabric.setup_dataloaders(made, use_distributed_sampler=False)


def gathered(fabric: Fabric, mine: Any) -> list[Any]:
    """What every process has, in the same order everywhere."""
    everyone: list[Any] = [mine]
    if fabric.world_size > 1:
        everyone = [None] * fabric.world_size
        torch.distributed.all_gather_object(everyone, mine)
    return everyone
