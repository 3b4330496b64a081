"""What an optimiser is given: the parts of a model with their learning rates, and the rate of every step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from fusionkit.errors import RequestError, suggestion
from fusionkit.model import FusionModel
from fusionkit.pairing import torchvision_needed
from fusionkit.sections import Train


def rate(step: int, steps: int, warmup: int, schedule: str) -> float:
    """The factor on the learning rate: a function of the step alone, so that a resumed run needs no more."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1 - done if schedule == "linear" else 1.0


def make_optimizer(objective: nn.Module, settings: Train) -> torch.optim.Optimizer:
    """An optimiser whose groups are the parts of the model, each with its learning rate; no decay on biases and norms.

    Args:
        objective: holds the model as `model` and may hold parameters of its own.
        settings: the recipe's `train`; parts with the factor 0 in all stages are frozen.

    Returns:
        the optimiser; `factors` of a group are those of its learning rate in each stage.

    Raises:
        RequestError: there is no such optimiser, or every part is frozen.
    """
    groups: dict[tuple[tuple[float, ...], float], list[nn.Parameter]] = {}
    stages = [settings.scales(stage) for stage in range(max(1, len(settings.stages)))]
    for name, parameter in objective.named_parameters():
        factors = tuple(part_factor(_part_of(name), *scales) for scales in stages)
        if not any(factors):
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            decay = settings.weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((factors, decay), []).append(parameter)
    for stage in range(len(stages)):
        if not any(factors[stage] for factors, _ in groups):
            where = f"train.stages.{stage}" if settings.stages else "train.lr_scale"
            raise RequestError(f"{where} freezes every part of the model")
    return _create(
        settings,
        [
            {"params": held, "lr": settings.lr * factors[0], "weight_decay": decay, "factors": factors}
            for (factors, decay), held in groups.items()
        ],
    )


class Rates:
    """Sets the learning rates of an optimiser, and freezes what has none in the stage of an epoch.

    Args:
        optimizer: of `make_optimizer`, as Fabric has set it up.
        settings: the recipe's `train`.
        shared: whether several processes train together. What is frozen for a while then gets gradients all the same,
            which processes wait for, and loses them in `drop`.
    """

    def __init__(self, optimizer: Any, settings: Train, *, shared: bool):
        self.optimizer, self.settings, self.shared = optimizer, settings, shared
        # Not read from the groups later on: a checkpoint of an earlier version brings some without.
        self.factors: list[tuple[float, ...]] = [group["factors"] for group in optimizer.param_groups]
        self.stage = 0

    def begin(self, epoch: int) -> None:
        """Begin an epoch, counted from 0."""
        self.stage = self.settings.stage(epoch)
        for group, factors in self._groups():
            for parameter in group["params"]:
                parameter.requires_grad_(self.shared or factors[self.stage] > 0)

    def set(self, factor: float) -> None:
        """Set the rates of a step: `factor` times those of the stage."""
        for group, factors in self._groups():
            group["lr"] = self.settings.lr * factors[self.stage] * factor

    def drop(self) -> None:
        """Drop gradients of what is frozen: they would count in the norm that is clipped, and in moments."""
        for group, factors in self._groups():
            if factors[self.stage] == 0:
                for parameter in group["params"]:
                    parameter.grad = None

    def _groups(self) -> Iterator[tuple[dict[str, Any], tuple[float, ...]]]:
        return zip(self.optimizer.param_groups, self.factors, strict=True)


def prove_optimizer(settings: Train) -> None:
    """Make the optimiser for a single number.

    Raises:
        RequestError: there is no such optimiser, or it needs what is not installed.
    """
    _create(settings, [{"params": [nn.Parameter(torch.zeros(1))]}])


def _create(settings: Train, groups: list[dict]) -> torch.optim.Optimizer:
    with torchvision_needed():
        from timm.optim import create_optimizer_v2, list_optimizers  # imports torchvision, which is slow

    # What timm calls sgd is Nesterov's, which is nothing without momentum.
    name = "momentum" if settings.optimizer == "sgd" and settings.momentum == 0 else settings.optimizer
    try:
        return create_optimizer_v2(groups, opt=name, lr=settings.lr, momentum=settings.momentum)
    except (ValueError, RuntimeError, ImportError, TypeError, AssertionError) as error:
        known = [str(name) for name in list_optimizers()]
        if settings.optimizer in known:
            raise RequestError(f"{settings.optimizer} cannot be used here: {error}") from error
        raise RequestError(
            f"no optimiser is named {settings.optimizer!r}{suggestion(settings.optimizer, known)}"
        ) from error


def hold_frozen(model: FusionModel, *scales: dict[str, float]) -> None:
    """Take frozen parts out of training mode: their batch norms keep the statistics that they came with."""
    parts: dict[str, nn.Module] = {"fusion": model.fusion, "branches": model.branches}
    if model.head is not None:
        parts["head"] = model.head
    parts |= {f"encoder.{name}": encoder for name, encoder in model.encoders.items()}
    for part, module in parts.items():
        if part_factor(part, *scales) == 0:
            module.eval()


def renew(module: nn.Module, fresh: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Copy the values of a freshly made module in place, and let the optimiser forget what it knew of the old ones."""
    module.load_state_dict(fresh.state_dict())
    for parameter in module.parameters():
        optimizer.state.pop(parameter, None)


def part_factor(part: str, *scales: dict[str, float]) -> float:
    """The product of a part's factors, `encoder.image` before `encoder` in each mapping; 1 where none is given."""
    return math.prod(held.get(part, held.get(part.partition(".")[0], 1.0)) for held in scales)


def _part_of(parameter: str) -> str:
    """The part of the model to which a parameter of the objective belongs."""
    words = parameter.removeprefix("model.").split(".")
    if words[0] == "stand_ins":
        return "fusion"
    if words[0] == "stage_heads":
        return "branches"
    return f"encoder.{words[1]}" if words[0] == "encoders" else words[0]
