"""What compares the embeddings of modalities two by two."""

from __future__ import annotations

from abc import abstractmethod
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusionkit.contract import Loss
from fusionkit.errors import RequestError, ShapeError, suggestion
from fusionkit.flow import Batch, Output, Task
from fusionkit_losses import contrast


class ModalityPairs(Loss):
    """A mean over the pairs of modalities and, of each pair, over the samples that have both.

    Args:
        task: what is predicted.
        between: the modalities compared, each with each; None: all of the model.
        dim: width of a space that each modality is projected into, linearly and without bias; None: they are compared
            as they are. So does a retrieval whatever `dim` says.

    Raises:
        RequestError: `between` does not name two modalities or more.
    """

    compares_modalities = True

    def __init__(self, task: Task, between: list[str] | None, dim: int | None):
        super().__init__(task)
        if between is not None and (len(between) < 2 or len(set(between)) < len(between)):
            raise RequestError(f"between: name two modalities or more, each once; not {between}")
        self.between, self.dim = between, None if task.kind == "retrieval" else dim
        self.pairs: list[tuple[str, str]] = []
        self.projections = nn.ModuleDict()

    def fit_to(self, output: Output) -> None:
        """Choose the pairs and make the projections.

        Raises:
            ShapeError: there are not two modalities, one is not there, or widths differ and nothing is projected.
        """
        widths = {name: value.shape[1] for name, value in output.embeddings.items()}
        for name in self.between or ():
            if name not in widths:
                raise ShapeError(f"between: the model has no modality {name!r}{suggestion(name, widths)}")
        names = self.between or list(widths)
        if len(names) < 2:
            raise ShapeError(f"it compares modalities, and the model has the embedding of {', '.join(names)} alone")
        self.pairs = list(combinations(names, 2))
        if self.dim is not None:
            for name in names:
                self.projections[name] = nn.Linear(widths[name], self.dim, bias=False, device="cpu")
        elif len({widths[name] for name in names}) > 1:
            listed = ", ".join(f"{name} has {widths[name]}" for name in names)
            raise ShapeError(f"embeddings of different width cannot be compared ({listed}); set `dim` to project them")

    def forward(self, output: Output, batch: Batch) -> Float[Tensor, ""]:
        with torch.autocast(output.logits.device.type, enabled=False):
            return self.compare(self.compared(output, batch), batch)

    def compared(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, "B _"]]:
        """The unit vectors of each modality; those of absent ones are zero."""
        units = {}
        for name in dict.fromkeys(name for pair in self.pairs for name in pair):
            value = contrast.real(output.embeddings[name], batch.present[name])
            units[name] = contrast.unit(self.projections[name](value) if self.projections else value)
        return units

    @abstractmethod
    def compare(self, units: dict[str, Float[Tensor, "B _"]], batch: Batch) -> Float[Tensor, ""]:
        """The term, of the unit vectors of each modality; those of absent ones are zero."""

    def count(self, batch: Batch) -> float | Tensor:
        """The samples that have both modalities, summed over the pairs."""
        return torch.stack([(batch.present[one] & batch.present[other]).sum() for one, other in self.pairs]).sum()
