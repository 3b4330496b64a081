"""InfoNCE between modalities."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.errors import RequestError
from fusionkit.flow import Batch, Task
from fusionkit_losses import contrast
from fusionkit_losses.modality_pairs import ModalityPairs


class InfoNCE(ModalityPairs):
    """Tells which sample of one modality belongs to which of another, among those of the batch.

    Van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018; between two modalities, with
    learned temperature, Radford et al., Learning Transferable Visual Models From Natural Language Supervision
    (CLIP), ICML 2021. With I and T `[N, D]` the unit vectors of the N samples that have both modalities:

        logits = exp(t) I T'        L = (CE(logits, i) + CE(logits', i)) / 2, the target of row i being i

    t starts at -ln(temperature) and is kept in [0, ln 100]. Samples of one `Batch.group`, such as captions of one
    image, are no negatives of each other: all but the positives are left out of the softmax.

    Supervised (Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, "out", the mean outside the logarithm),
    here between modalities alone: the positives P(i) of row i are all samples of its class, its own among them (which
    is the only one of a sample that has no class),

        L_i = - 1 / |P(i)| * sum over p in P(i) of log softmax(logits_i)_p

    and samples that are mixed have each other as positives with the weight of the class mass that they share.

    The term is a mean over pairs of modalities and samples that have both, so that a pair weighs as many samples as it
    has; `count` is their number. A sample without company says nothing: its term is zero. In training each process
    compares its own samples with those of all, with gradients for both, which is the term of the joined batch.

    Args:
        task: what is predicted.
        between: the modalities compared, each with each; by default all.
        dim: width of the space that each modality is projected into, linearly and without bias; null compares them as
            they are, as a retrieval always does: what it compares in the end is to be trained.
        temperature: 0.01 to 1, at the start of training.
        learn_temperature: false keeps it.
        supervised: positives are all samples of the same class.

    Raises:
        RequestError: supervised where the task has no classes.
    """

    tasks = ("classification", "multilabel", "regression", "grounding", "retrieval")
    compares_samples = True

    def __init__(
        self,
        task: Task,
        *,
        between: list[str] | None = None,
        dim: Annotated[int, Field(ge=1)] | None = 128,
        temperature: Annotated[float, Field(ge=0.01, le=1)] = 0.07,
        learn_temperature: bool = True,
        supervised: bool = False,
    ):
        super().__init__(task, between, dim)
        classes = task.kind == "classification" or (task.kind == "retrieval" and task.outputs > 1)
        if supervised and not classes:
            raise RequestError(f"supervised: contrast of classes needs some, and this is a {task.kind} without")
        self.supervised = supervised
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)), requires_grad=learn_temperature)

    def figures(self) -> dict[str, float]:
        return {"temperature": float((-self.logit_scale.detach()).exp())}

    def after_step(self) -> None:
        with torch.no_grad():
            self.logit_scale.clamp_(0, math.log(100))

    def compare(self, units: dict[str, Float[Tensor, "B _"]], batch: Batch) -> Float[Tensor, ""]:
        others, everybody, start = contrast.everybody(units, batch)
        positive, compared = self._relations(batch, everybody, start)
        scale, terms = self.logit_scale.exp(), []
        for pair in self.pairs:
            rows = batch.present[pair[0]] & batch.present[pair[1]]
            columns = everybody.present[pair[0]] & everybody.present[pair[1]]
            among = positive[rows][:, columns], compared[rows][:, columns]
            for one, other in (pair, pair[::-1]):
                logits = scale * units[one][rows] @ others[other][columns].T
                terms.append(contrast.contrast(logits, *among))
        return contrast.mean(torch.cat(terms))

    def _relations(
        self, batch: Batch, everybody: Batch, start: int
    ) -> tuple[Float[Tensor, "B N"], Bool[Tensor, "B N"]]:
        """How far everybody is a positive of each of this process's samples, and who is compared with it."""
        own = start + torch.arange(len(batch), device=batch.index.device)
        positive = F.one_hot(own, len(everybody)).to(self.logit_scale.dtype)
        if self.supervised:
            alike = self._shares(batch) @ self._shares(everybody).T
            positive = torch.maximum(alike, positive) if self.task.kind == "retrieval" else alike
        if batch.group is None or everybody.group is None:
            return positive, torch.ones_like(positive, dtype=torch.bool)
        return positive, (batch.group.unsqueeze(1) != everybody.group) | (positive > 0)

    def _shares(self, batch: Batch) -> Float[Tensor, "B K"]:
        """The shares of the classes in each sample."""
        if batch.target.is_floating_point():
            return batch.target.to(self.logit_scale.dtype)
        known = F.one_hot(batch.target.clamp(min=0), self.task.outputs).to(self.logit_scale.dtype)
        return known * (batch.target >= 0).unsqueeze(1)
