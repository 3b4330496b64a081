"""What MixUp and CutMix have in common: who is mixed with whom, and what becomes of targets and masks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from fusionkit.contract import Mixing
from fusionkit.errors import RequestError
from fusionkit.flow import Batch, InputSpec, Task

Shares: TypeAlias = Callable[[InputSpec], np.ndarray]
"""Of a modality, the partner's share in each cell: of one shape with a sample, or broadcast over it."""


class PairMixing(Mixing):
    """Mixes each sample of a batch with another one, its partner, in all modalities and in the target.

    Partners are a random permutation of the samples that have the same modalities: nobody is mixed with what is absent.
    A sample that has no such other stays as it is, and so may one that the permutation leaves in its place. Where one
    of two maps has no measurement, the other's is taken whole, if it has any part there.

    Args:
        inputs: per modality, the shape of its arrays.
        task: what is predicted.
        alpha: the partner's share is drawn for the whole batch from Beta(alpha, alpha).
        probability: of a batch to be mixed.

    Raises:
        RequestError: a modality is text, of which there are no shares.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], task: Task, alpha: float, probability: float):
        super().__init__(inputs, task)
        for name, spec in inputs.items():
            if spec.text:
                raise RequestError(f"{type(self).__name__} mixes values, and {name} is text")
        self.alpha, self.probability = alpha, probability

    def __call__(self, batch: Batch, random: np.random.Generator) -> Batch:
        if random.random() >= self.probability:
            return batch
        partner = torch.from_numpy(_partners(batch.present, random)).to(batch.index.device)
        share, shares = self.draw(random)
        inputs, valid = {}, {}
        for name, given in batch.inputs.items():
            value = given.float()
            weight = torch.from_numpy(shares(self.inputs[name])).float().to(value.device)
            if (real := batch.valid.get(name)) is not None:
                a_map = real.dim() > 2
                value = value.masked_fill(~(real if a_map else real.unsqueeze(2)), 0)
                taken = weight if a_map else weight.flatten()
                valid[name] = real & (taken < 1) | real[partner] & (taken > 0)
                if a_map:  # zero is no value of a map: where one of the two has none, it is the other's
                    weight = torch.where(real & real[partner], weight, real[partner].float())
            inputs[name] = value.lerp(value[partner], weight)
        target = self._target(batch.target)
        return replace(batch, inputs=inputs, valid=valid, target=target.lerp(target[partner], share))

    @abstractmethod
    def draw(self, random: np.random.Generator) -> tuple[float, Shares]:
        """The partner's share in the target, and what tells it of each cell of a modality.

        The mean over a modality's cells is the share in the target.
        """

    def _target(self, target: Shaped[Tensor, "B ..."]) -> Float[Tensor, "B K"]:
        if self.task.kind == "classification" and not target.is_floating_point():
            return F.one_hot(target, self.task.outputs).float()
        return target.float()


def _partners(present: Mapping[str, Bool[Tensor, " B"]], random: np.random.Generator) -> np.ndarray:
    """Of each sample the position of its partner."""
    masks = torch.stack(list(present.values()), 1).cpu().numpy()
    _, pattern = np.unique(masks, axis=0, return_inverse=True)
    partner = np.arange(len(masks))
    for number in range(pattern.max() + 1):
        rows = np.flatnonzero(pattern == number)
        partner[rows] = random.permutation(rows)
    return partner
