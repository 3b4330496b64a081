"""Triplets of samples."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from fusionkit.contract import Loss
from fusionkit.errors import ShapeError, suggestion
from fusionkit.flow import Batch, Output, Task
from fusionkit_losses import contrast


class Triplet(Loss):
    """Draws samples of one class together and pushes other classes away.

    Schroff et al., FaceNet, CVPR 2015; triplets within the batch, Hermans et al., In Defense of the Triplet Loss for
    Person Re-Identification, 2017. With anchor a, positive p of its class and negative n of another:

        L = mean of max(0, margin + d(a, p) - d(a, n))

    A sample that meets no other of its class, or no other class, is no anchor. `count` is the number of anchors,
    whatever the mining. Nothing is gathered: each process mines among its own samples.

    Args:
        task: what is predicted.
        of: the modality whose embedding is compared; by default the fused representation.
        mining: "hard" takes of each anchor the farthest positive and the nearest negative (batch hard of Hermans et
            al.); "all" the mean over all triplets of the batch, also those that keep the margin (batch all); "nonzero"
            the mean over those that do not keep it (their batch all without zeros).
        distance: "cosine", 1 - cos, which on unit vectors is half FaceNet's squared distance; or "euclidean", of the
            vectors as they are and not squared, as Hermans et al. have it.
        margin: by which another class is to be farther away.
    """

    tasks = ("classification",)
    compares_samples = True
    takes_mixed = False

    def __init__(
        self,
        task: Task,
        *,
        of: str | None = None,
        mining: Literal["hard", "all", "nonzero"] = "hard",
        distance: Literal["cosine", "euclidean"] = "cosine",
        margin: Annotated[float, Field(gt=0)] = 0.2,
    ):
        super().__init__(task)
        self.of, self.mining, self.distance, self.margin = of, mining, distance, margin

    def fit_to(self, output: Output) -> None:
        """Make sure that the modality is there.

        Raises:
            ShapeError: it is not.
        """
        if self.of is not None and self.of not in output.embeddings:
            raise ShapeError(f"of: the model has no modality {self.of!r}{suggestion(self.of, output.embeddings)}")

    def forward(self, output: Output, batch: Batch) -> Float[Tensor, ""]:
        value = output.fused if self.of is None else output.embeddings[self.of]
        with torch.autocast(value.device.type, enabled=False):
            distance = self._distances(contrast.real(value, self._present(batch)))
            terms = contrast.hinges(distance, *self._candidates(batch), self.margin, hardest=self.mining == "hard")
            return contrast.mean(terms[terms > 0] if self.mining == "nonzero" else terms)

    def count(self, batch: Batch) -> float | Tensor:
        positive, negative = self._candidates(batch)
        return (positive.any(1) & negative.any(1)).sum()

    def _distances(self, value: Float[Tensor, "B D"]) -> Float[Tensor, "B B"]:
        if self.distance == "cosine":
            unit = contrast.unit(value)
            return 1 - unit @ unit.T
        return torch.cdist(value, value, compute_mode="donot_use_mm_for_euclid_dist")

    def _present(self, batch: Batch) -> Bool[Tensor, " B"]:
        if self.of is not None:
            return batch.present[self.of]
        return torch.ones_like(batch.index, dtype=torch.bool)

    def _candidates(self, batch: Batch) -> tuple[Bool[Tensor, "B B"], Bool[Tensor, "B B"]]:
        """Positives and negatives of each sample."""
        labels, present = batch.target, self._present(batch)
        both, same = present.unsqueeze(1) & present, labels.unsqueeze(1) == labels
        return both & same & ~torch.eye(len(batch), dtype=torch.bool, device=labels.device), both & ~same
