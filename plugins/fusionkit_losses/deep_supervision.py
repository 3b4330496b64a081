"""Deep supervision."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from fusionkit.contract import Loss
from fusionkit.errors import RequestError
from fusionkit.flow import Batch, Output, Task

_WITHOUT_CLASS = -1
Heads: TypeAlias = Literal["branches", "stages"]


class DeepSupervision(Loss):
    """The task's plain loss of predictions made on the way: those of the branches, those of the fusion's stages.

    Lee et al., Deeply-Supervised Nets, AISTATS 2015, whose companion objectives these are:

        L = loss(main) + a * sum over b of loss(b)

    The sum is this term, a is its weight in the recipe: `loss: {cross_entropy: 1, deep_supervision: 0.2}`. DSN lets a
    decay to zero, which is a schedule: `deep_supervision: {weight: {from: 0.2, to: 0, start: 1, end: 30}}`.

    The loss is cross-entropy of a classification, with soft targets too, and of a retrieval with classes; binary
    cross-entropy, a mean over labels, of several labels; the squared error, a mean over quantities, of a regression
    and of boxes.

    A branch whose modality a sample lacks says nothing of it: that pair of branch and sample adds zero, and the sum is
    divided by the number of samples, whatever they lack. So parts of a batch add up, a modality that is rare is
    supervised in proportion, and where all is present this is the formula.

    Args:
        task: what is predicted.
        of: "branches", "stages" (the fusion's intermediate ones), or a list of both.
        reduction: "sum" over branches and stages, as in the formula, or their "mean".

    Raises:
        RequestError: `of` is an empty list, or a retrieval has no classes.
    """

    tasks = ("classification", "multilabel", "regression", "grounding", "retrieval")
    needs_branches = True

    def __init__(self, task: Task, *, of: Heads | list[Heads] = "branches", reduction: Literal["sum", "mean"] = "sum"):
        super().__init__(task)
        wanted = [of] if isinstance(of, str) else of
        if not wanted:
            raise RequestError("of: name branches, stages, or both")
        if task.kind == "retrieval" and task.outputs < 2:
            raise RequestError("deep_supervision is by classes, and this retrieval has none")
        self.needs_branches, self.needs_stages = "branches" in wanted, "stages" in wanted
        self.reduction = reduction

    def forward(self, output: Output, batch: Batch) -> Float[Tensor, ""]:
        each = []
        if self.needs_branches:
            for name, logits in output.branch_logits.items():
                absent = ~batch.present[name]
                # Filled before the loss too: the gradient of an infinite loss is NaN even where the loss is masked.
                loss = self._plain(logits.masked_fill(absent.unsqueeze(1), 0), batch.target)
                each.append(loss.masked_fill(absent, 0))
        if self.needs_stages:
            each += [self._plain(logits, batch.target) for logits in output.stage_logits.values()]
        total = torch.stack(each).sum() / len(batch)
        return total / len(each) if self.reduction == "mean" else total

    def _plain(self, logits: Float[Tensor, "B K"], target: Shaped[Tensor, "B ..."]) -> Float[Tensor, " B"]:
        """The task's loss of each sample."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.task.kind in ("classification", "retrieval"):
            return F.cross_entropy(logits, target, reduction="none", ignore_index=_WITHOUT_CLASS)
        loss = F.mse_loss if self.task.kind in ("regression", "grounding") else F.binary_cross_entropy_with_logits
        return loss(logits, target.to(logits.dtype), reduction="none").mean(1)
