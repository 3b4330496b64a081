"""Looks at the embeddings that a training compares: figures for every epoch, and a warning where they collapse."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from fusionkit import embedding_figures as figures_of
from fusionkit.collapse import Collapse, Facts, Look
from fusionkit.contract import Loss
from fusionkit.flow import Batch, Output

if TYPE_CHECKING:
    from fusionkit.trainer import Fit

OFTEN, YOUNG, LATER = 5, 100, 25
"""In the first `YOUNG` steps every `OFTEN`-th one is looked at, then every `LATER`-th, and the first of every epoch."""
LEAST = 4
"""Fewer samples say nothing."""
MOST = 256
"""Of a larger batch so many samples are looked at: what is computed grows with their square."""


class EmbeddingWatch:
    """Looks at the two halves of a retrieval's answer, or at what the terms of a loss compare.

    Args:
        job: the training that is watched; a term of weight 0 has no part in it.
    """

    def __init__(self, job: Fit):
        self.job = job
        losses = {name: loss for name, (loss, weight) in job.losses.items() if weight != 0}
        pushes = any(loss.compares_samples or not loss.compares_modalities for loss in losses.values())
        facts = Facts(tuple(losses), pushes, job.settings.lr)
        self.losses: dict[str, Loss] = {}
        if job.model.task.kind != "retrieval":
            self.losses = {name: loss for name, loss in losses.items() if loss.compares_modalities}
        self.contrast = next((loss for loss in losses.values() if "temperature" in loss.figures()), None)
        self.collapses = {name: Collapse(facts) for name in self.losses or [""]}
        self.looked: set[tuple[int, str]] = set()
        self.told: dict[str, list[float]] = {}
        self.warnings: list[str] = []

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Within, forwards of the training are looked at."""
        if self.job.model.task.kind == "retrieval":
            handles = [self.job.model.register_forward_hook(self._retrieval)]
        else:
            handles = [loss.register_forward_hook(self._loss(name)) for name, loss in self.losses.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def warning(self) -> list[str]:
        """What is to be told after a step; mostly nothing."""
        found, self.warnings = self.warnings, []
        return found

    def figures(self) -> dict[str, float]:
        """The means over the looks of an epoch, which is over; of several losses each has its own."""
        found = {f"embedding/{name}": fmean(values) for name, values in self.told.items()}
        self.told = {}
        return found

    def _retrieval(self, model: Any, given: tuple[Batch], output: Output) -> None:
        if not (model.training and self._is_due("")):
            return
        names = list(model.normalizers)
        self._look("", dict(zip(names, output.logits.chunk(2, 1), strict=True)), given[0])

    def _loss(self, name: str) -> Any:
        def look(loss: Loss, given: tuple[Output, Batch], term: Tensor) -> None:
            if loss.training and self._is_due(name):
                with torch.no_grad():
                    self._look(name, loss.compared(*given), given[1])

        return look

    def _is_due(self, name: str) -> bool:
        """Whether to look at a forward; of a batch in parts, at the first part alone."""
        step = self.job.step
        if (step, name) in self.looked:
            return False
        return step % (OFTEN if step < YOUNG else LATER) == 0 or not self.told

    @torch.no_grad()
    def _look(self, name: str, embeddings: Mapping[str, Float[Tensor, "B _"]], batch: Batch) -> None:
        self.looked = {(self.job.step, name), *(key for key in self.looked if key[0] == self.job.step)}
        with torch.autocast(batch.index.device.type, enabled=False):
            units = {modality: F.normalize(value.detach().float(), dim=1) for modality, value in embeddings.items()}
            spread: dict[str, float] = {}
            rank: dict[str, float] = {}
            hub: dict[str, float] = {}
            for one, other in combinations(units, 2):
                rows = (batch.present[one] & batch.present[other]).nonzero().squeeze(1)[:MOST]
                first, second = units[one][rows], units[other][rows]
                if len(rows) < LEAST or not bool(torch.isfinite(first).all() and torch.isfinite(second).all()):
                    return
                spread |= {m: figures_of.uniformity(held) for m, held in ((one, first), (other, second))}
                rank |= {m: figures_of.effective_rank(held) for m, held in ((one, first), (other, second))}
                self._tell(name, f"alignment/{one}-{other}", figures_of.alignment(first, second))
                self._tell(name, f"gap/{one}-{other}", figures_of.gap(first, second))
                belongs = _belongs(batch, rows)
                for way, a, b in ((f"{one}-{other}", first, second), (f"{other}-{one}", second, first)):
                    self._tell(name, f"hub_share/{way}", figures_of.hub_share(a, b))
                    hub[f"from {way.replace('-', ' to ')}"] = figures_of.hub_share(a, b, right=belongs)
        for kind, values in (("uniformity", spread), ("effective_rank", rank)):
            for modality, value in values.items():
                self._tell(name, f"{kind}/{modality}", value)
        temperature = None if self.contrast is None else self.contrast.figures()["temperature"]
        self.warnings += self.collapses[name].show(Look(len(rows), spread, rank, hub, temperature))

    def _tell(self, name: str, figure: str, value: float) -> None:
        if math.isfinite(value):
            key = f"{name}/{figure}" if len(self.losses) > 1 else figure
            self.told.setdefault(key, []).append(value)


def _belongs(batch: Batch, rows: Tensor) -> Bool[Tensor, "n n"]:
    """Which of these samples are right for each other: itself, one of its group, or of its class."""
    right = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    if batch.group is not None:
        group = batch.group[rows]
        right = right | (group.unsqueeze(1) == group)
    if batch.target.dim() == 1:
        target = batch.target[rows]
        right = right | ((target.unsqueeze(1) == target) & (target >= 0))
    return right
