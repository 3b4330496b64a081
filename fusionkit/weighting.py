"""The weights of the terms of a loss: numbers, schedules over epochs, or learned.

The objective of a step is the sum over the terms i of w_i L_i, where w_i is one of

- a number, or a schedule's value in this epoch;
- `uncertainty` (Kendall, Gal, Cipolla: Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR 2018, eq. 10):
  w_i = exp(-s_i) with s_i = log sigma_i^2 learned, and s_i / 2 is added to the objective, so that no weight vanishes.
  For squared errors the paper has half that weight; both come to rest at the weight 1 / (2 L_i);
- `dwa`, dynamic weight average (Liu, Johns, Davison: End-to-End Multi-Task Learning with Attention, CVPR 2019, eq. 7):
  w_i(t) = K exp(r_i / T) / sum_k exp(r_k / T) with r_k = L_k(t - 1) / L_k(t - 2) of the training means of the epochs
  before, over the K terms so weighted, and T = 2; 1 in the first two epochs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from fusionkit.sections import Section

TEMPERATURE = 2.0
Learned: TypeAlias = Literal["uncertainty", "dwa"]


class Schedule(Section):
    """A weight that changes with the epochs, which are counted from 1."""

    from_: NonNegativeFloat = Field(alias="from")
    """Before epoch `start`, and in it unless the shape is a step."""
    to: NonNegativeFloat
    """From epoch `end` on."""
    start: PositiveInt = 1
    """The epoch with which the change begins."""
    end: PositiveInt | None = None
    """Default: the last epoch; for a step, `start`."""
    shape: Literal["linear", "cosine", "step"] = "linear"
    """`step`: from epoch `start` on it is `to`."""

    def at(self, epoch: int, epochs: int) -> float:
        """The weight in an epoch, counted from 1, of so many."""
        if self.shape == "step":
            return self.from_ if epoch < self.start else self.to
        end = epochs if self.end is None else self.end
        done = min(1.0, max(0.0, (epoch - self.start) / (end - self.start))) if end > self.start else float(epoch > end)
        if self.shape == "cosine":
            done = 0.5 * (1 - math.cos(math.pi * done))
        return self.from_ + (self.to - self.from_) * done

    def problem(self, epochs: int) -> tuple[str, str] | None:
        """The key that does not fit so many epochs, and why; None where all is well."""
        for key, epoch in (("start", self.start), ("end", self.end)):
            if epoch is not None and epoch > epochs:
                return key, f"there is no epoch {epoch}; the last one is {epochs}"
        if self.shape == "step":
            return ("end", "a step has no end; it is at `start`") if self.end is not None else None
        if self.end is not None and self.end <= self.start:
            return "end", f"epoch {self.end} does not come after `start`, {self.start}"
        return None


Weight: TypeAlias = float | Schedule | Learned


def is_weight(value: Any) -> bool:
    """Whether a value of a recipe is a weight, and not a mapping with the options of a loss."""
    if isinstance(value, dict):
        return "from" in value
    return isinstance(value, int | float) or value in get_args(Learned)


class Weighting(nn.Module):
    """The weights of all terms.

    Args:
        weights: of each term.
        epochs: of the training.
    """

    def __init__(self, weights: Mapping[str, Weight], epochs: int):
        super().__init__()
        self.kinds, self.epochs = dict(weights), epochs
        uncertain = [name for name, weight in self.kinds.items() if weight == "uncertainty"]
        self.log_variances = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in uncertain})
        self.fixed: dict[str, float] = {}
        self.begin(1, ())

    def begin(self, epoch: int, history: Sequence[Mapping[str, float]]) -> None:
        """Begin an epoch, counted from 1; `history` has a row with `train/TERM` for each epoch before."""
        for name, weight in self.kinds.items():
            if isinstance(weight, Schedule):
                self.fixed[name] = weight.at(epoch, self.epochs)
            elif not isinstance(weight, str):
                self.fixed[name] = weight
        averaged = [name for name, weight in self.kinds.items() if weight == "dwa"]
        if averaged:
            self.fixed |= dynamic_average(averaged, history)

    def now(self) -> dict[str, float]:
        """The weight of each term in this moment."""
        learned = {name: math.exp(-float(held.detach())) for name, held in self.log_variances.items()}
        return {name: self.fixed[name] if name in self.fixed else learned[name] for name in self.kinds}

    def reference(self) -> dict[str, float]:
        """The weights by which epochs are compared: the same in all of them. A schedule's last; of learned ones 1."""
        last: dict[str, float] = {}
        for name, weight in self.kinds.items():
            last[name] = weight.at(self.epochs, self.epochs) if isinstance(weight, Schedule) else 1.0
            if isinstance(weight, float | int):
                last[name] = float(weight)
        return last

    def objective(self, terms: Mapping[str, Tensor], share: float = 1.0) -> Tensor:
        """The weighted sum; what is added for learned weights counts by `share`, of the batch that the terms are of."""
        total: Tensor | float = 0.0
        for name, term in terms.items():
            if name in self.fixed:
                total = total + self.fixed[name] * term
            else:
                held = self.log_variances[name]
                total = total + torch.exp(-held) * term + 0.5 * share * held
        assert isinstance(total, Tensor)  # noqa: S101 - a recipe has one term at least
        return total


def dynamic_average(names: Sequence[str], history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The weights of the terms that share themselves by their pace."""
    if len(history) < 2:
        return dict.fromkeys(names, 1.0)
    last, before = ([row[f"train/{name}"] for name in names] for row in (history[-1], history[-2]))
    pace = [late / early if early else 1.0 for late, early in zip(last, before, strict=True)]
    shares = (torch.tensor(pace, dtype=torch.float64) / TEMPERATURE).softmax(0)
    return dict(zip(names, (len(names) * shares).tolist(), strict=True))


def sum_of(weights: Mapping[str, float], terms: Mapping[str, float]) -> float:
    """The weighted sum of figures."""
    return sum(weights[name] * term for name, term in terms.items())
