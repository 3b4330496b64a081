"""What an optimiser is given: the parts of a model with their learning rates, and the rate of every step."""

from __future__ import annotations

import math

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
        settings: the recipe's `train`; parts with the factor 0 are frozen.

    Raises:
        RequestError: there is no such optimiser, or every part is frozen.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in objective.named_parameters():
        scale = part_factor(_part_of(name), settings.lr_scale)
        if scale == 0:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            decay = settings.weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((scale, decay), []).append(parameter)
    if not groups:
        raise RequestError("train.lr_scale freezes every part of the model")
    return _create(
        settings,
        [{"params": held, "lr": settings.lr * scale, "weight_decay": decay} for (scale, decay), held in groups.items()],
    )


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


def hold_frozen(model: FusionModel, scales: dict[str, float]) -> None:
    """Take frozen parts out of training mode: their batch norms keep the statistics that they came with."""
    parts: dict[str, nn.Module] = {"fusion": model.fusion, "branches": model.branches}
    if model.head is not None:
        parts["head"] = model.head
    parts |= {f"encoder.{name}": encoder for name, encoder in model.encoders.items()}
    for part, module in parts.items():
        if part_factor(part, scales) == 0:
            module.eval()


def renew(module: nn.Module, fresh: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Copy the values of a freshly made module in place, and let the optimiser forget what it knew of the old ones."""
    module.load_state_dict(fresh.state_dict())
    for parameter in module.parameters():
        optimizer.state.pop(parameter, None)


def part_factor(part: str, scales: dict[str, float]) -> float:
    """The factor of a part of the model, `encoder.image` before `encoder`; 1 where none is given."""
    return scales.get(part, scales.get(part.partition(".")[0], 1.0))


def _part_of(parameter: str) -> str:
    """The part of the model to which a parameter of the objective belongs."""
    words = parameter.removeprefix("model.").split(".")
    if words[0] == "stand_ins":
        return "fusion"
    if words[0] == "stage_heads":
        return "branches"
    return f"encoder.{words[1]}" if words[0] == "encoders" else words[0]
