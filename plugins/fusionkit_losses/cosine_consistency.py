"""Cosine consistency between modalities."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusionkit.flow import Batch, Task
from fusionkit_losses import contrast
from fusionkit_losses.modality_pairs import ModalityPairs


class CosineConsistency(ModalityPairs):
    """Draws the embeddings of the modalities of a sample together, so that one can do without the other.

        L = mean of 1 - cos(a_i, b_i)

    over the pairs of modalities and the samples i that have both; `count` is their number. After Cao et al., Deep
    learning-based remote and social sensing data fusion for urban region function recognition, ISPRS Journal 163,
    2020, who train with a cross-modal feature consistency beside classification and `cross_modal_triplet`. That they
    do could be confirmed, from the abstract; their equation could not, and this is our reading.

    By itself it is content with embeddings that are all the same; it needs a term that tells samples apart.

    Args:
        task: what is predicted.
        between: the modalities compared, each with each; by default all.
        dim: width of a space that each modality is projected into, linearly and without bias, where widths differ.
    """

    tasks = ("classification", "multilabel", "regression", "retrieval")

    def __init__(self, task: Task, *, between: list[str] | None = None, dim: Annotated[int, Field(ge=1)] | None = None):
        super().__init__(task, between, dim)

    def compare(self, units: dict[str, Float[Tensor, "B _"]], batch: Batch) -> Float[Tensor, ""]:
        terms = []
        for one, other in self.pairs:
            both = batch.present[one] & batch.present[other]
            terms.append(1 - (units[one][both] * units[other][both]).sum(1))
        return contrast.mean(torch.cat(terms))
