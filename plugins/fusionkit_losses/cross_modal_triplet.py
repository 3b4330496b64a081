"""Triplets across modalities."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from fusionkit.flow import Batch, Task
from fusionkit_losses import contrast
from fusionkit_losses.modality_pairs import ModalityPairs


class CrossModalTriplet(ModalityPairs):
    """Draws the modalities of a sample together and pushes other classes away, so that one can do without the other.

        L = mean of max(0, margin + d(a_i, b_i) - min over j with y_j != y_i of d(a_i, b_j)),   d(a, b) = 1 - cos(a, b)

    over the pairs of modalities, both directions (the anchor of one, positive and negative of the other) and the
    anchors: samples that have both and meet another class. `count` is the number of anchors. A negative need not have
    both modalities.

    After Cao et al., Deep learning-based remote and social sensing data fusion for urban region function recognition,
    ISPRS Journal 163, 2020, who train with a cross-modal triplet constraint beside classification and
    `cosine_consistency`. That they do could be confirmed, from the abstract; their equation could not. The distance,
    the sample itself as positive and the hardest negative of the batch are our reading.

    Each process compares its own samples: triplets need no company as great as a softmax does.

    Args:
        task: what is predicted.
        between: the modalities compared, each with each; by default all.
        dim: width of a space that each modality is projected into, linearly and without bias, where widths differ.
        margin: by which another class is to be farther away.
    """

    tasks = ("classification",)
    compares_samples = True
    takes_mixed = False

    def __init__(
        self,
        task: Task,
        *,
        between: list[str] | None = None,
        dim: Annotated[int, Field(ge=1)] | None = None,
        margin: Annotated[float, Field(gt=0)] = 0.2,
    ):
        super().__init__(task, between, dim)
        self.margin = margin

    def compare(self, units: dict[str, Float[Tensor, "B _"]], batch: Batch) -> Float[Tensor, ""]:
        terms = []
        for one, other in self._directions():
            distance = 1 - units[one] @ units[other].T
            terms.append(contrast.hinges(distance, *_candidates(batch, one, other), self.margin, hardest=True))
        return contrast.mean(torch.cat(terms))

    def count(self, batch: Batch) -> float | Tensor:
        candidates = [_candidates(batch, one, other) for one, other in self._directions()]
        return torch.stack([(positive.any(1) & negative.any(1)).sum() for positive, negative in candidates]).sum()

    def _directions(self) -> list[tuple[str, str]]:
        return [direction for pair in self.pairs for direction in (pair, pair[::-1])]


def _candidates(batch: Batch, one: str, other: str) -> tuple[Bool[Tensor, "B B"], Bool[Tensor, "B B"]]:
    """Positives and negatives in the other modality, of anchors in the one."""
    labels = batch.target
    both = batch.present[one] & batch.present[other]
    return both.diag(), both.unsqueeze(1) & batch.present[other] & (labels.unsqueeze(1) != labels)
