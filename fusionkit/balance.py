"""OGM-GE: the encoder of a modality that runs ahead of the others learns more slowly, so that all of them learn.

Peng, Wei, Deng, Wang, Hu: Balanced Multimodal Learning via On-the-fly Gradient Modulation, CVPR 2022. In every step:

    s_m   = mean over the samples of softmax(z_m)[target]
    rho_m = s_m / mean of the others' s
    k_m   = 1 - tanh(alpha * rho_m) where rho_m > 1, else 1
    g     = k_m * g + noise, noise ~ N(0, std(g)^2), for each gradient g of modality m's encoder

with z_m the logits from modality m alone. The paper has two modalities, concatenation and a linear head, where z_m is
the head's share `W_m phi_m + b / 2`. For any fusion here, z_m is the model's own prediction from the features of the
step with all other modalities marked as absent; for the paper's case that is `W_m phi_m + b`. Where encoders exchange
on their way, a modality's features hold some of the others'. Only weights of two or more dimensions are modulated.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from fusionkit.flow import Batch, Features
from fusionkit.model import FusionModel
from fusionkit.randomness import key
from fusionkit.sections import Balance

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class GradientBalance:
    """Watches the forwards of a step, then modulates its gradients.

    Args:
        model: trained; it has an encoder for each modality.
        settings: the recipe's `train.balance`.
        fabric: adds up the scores of all processes.
        seed: of the noise.
    """

    def __init__(self, model: FusionModel, settings: Balance, fabric: Fabric, seed: int):
        self.model, self.settings, self.fabric, self.seed = model, settings, fabric, seed
        self.names = list(model.encoders)
        self.weights = encoder_weights(model)
        self.told: list[dict[str, float]] = []
        self.active = False
        self.clear()

    def begin(self, epoch: int) -> None:
        """Begin an epoch, counted from 1."""
        last = self.settings.last_epoch
        self.active = self.settings.first_epoch <= epoch and (last is None or epoch <= last)
        self.told = []

    def clear(self) -> None:
        """Begin a step, or begin it again."""
        # Per modality: the sum of its scores, and the samples that have it.
        self.totals = torch.zeros(2, len(self.names), dtype=torch.float64, device=self.fabric.device)

    @contextmanager
    def watched(self, batch: Batch) -> Iterator[None]:
        """Around a forward: score the modalities by the features that the fusion is given in it."""
        if not self.active:
            yield
            return
        seen: list[dict[str, Features]] = []
        handle = self.model.fusion.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            yield
        finally:
            handle.remove()
        self.totals += self._scores(seen[0], batch.target)

    def modulate(self, step: int) -> None:
        """Change the gradients that the step's backward has left."""
        if not self.active:
            return
        sums, counts = cast(Tensor, self.fabric.all_reduce(self.totals, reduce_op="sum")).tolist()
        scores = {name: s / n for name, s, n in zip(self.names, sums, counts, strict=True) if n}
        factors = dict.fromkeys(self.names, 1.0) | coefficients(scores, self.settings.alpha)
        self.told.append(factors)
        random = torch.Generator(self.fabric.device).manual_seed(key(self.seed, "balance", step) % 2**63)
        for name, weights in self.weights.items():
            for gradient in (weight.grad for weight in weights if weight.grad is not None):
                spread = gradient.std(correction=0)
                gradient.mul_(factors[name])
                if self.settings.noise:
                    noise = torch.randn(gradient.shape, generator=random, dtype=gradient.dtype, device=gradient.device)
                    gradient.add_(noise * spread)

    def figures(self) -> dict[str, float]:
        """The mean of each modality's coefficient over the steps of the epoch."""
        if not self.told:
            return {}
        return {f"balance/{name}": sum(told[name] for told in self.told) / len(self.told) for name in self.names}

    @torch.no_grad()
    def _scores(self, features: dict[str, Features], target: Tensor) -> Tensor:
        """The two rows of `totals` for some samples: dropout is off, and the fusion's statistics are left alone."""
        rows = []
        shares = target if target.dim() == 2 else one_hot(target, self.model.task.outputs)  # 2: samples are mixed
        with _at_rest(self.model.fusion), self.fabric.autocast():
            for name in self.names:
                logits = self.model.conclude(alone(features, name)).logits
                score = (logits.double().softmax(1) * shares).sum(1)
                present = features[name].present
                present = target.new_ones(len(target), dtype=torch.bool) if present is None else present
                rows.append(torch.stack([score.masked_fill(~present, 0).sum(), present.sum().double()]))
        return torch.stack(rows, 1)


def coefficients(scores: Mapping[str, float], alpha: float) -> dict[str, float]:
    """The factor on each modality's gradients: below 1 for those that score higher than the others' mean."""
    found = dict.fromkeys(scores, 1.0)
    for name, score in scores.items():
        others = [other for else_, other in scores.items() if else_ != name]
        if others and score > (mean := sum(others) / len(others)):
            found[name] = 1 - math.tanh(alpha * score / mean) if mean else 0.0
    return found


def alone(features: Mapping[str, Features], name: str) -> dict[str, Features]:
    """The features with every other modality marked as absent."""
    return {other: feature if other == name else _absent(feature) for other, feature in features.items()}


def _absent(feature: Features) -> Features:
    nowhere = torch.zeros(len(feature.tokens), dtype=torch.bool, device=feature.tokens.device)
    return replace(feature, present=nowhere, stages=tuple(map(_absent, feature.stages)))


def encoder_weights(model: FusionModel) -> dict[str, list[nn.Parameter]]:
    """Per modality, the weights of two or more dimensions that are its encoder's alone."""
    owners = Counter(id(weight) for encoder in model.encoders.values() for weight in encoder.parameters())
    return {
        name: [weight for weight in encoder.parameters() if weight.dim() > 1 and owners[id(weight)] == 1]
        for name, encoder in model.encoders.items()
    }


@contextmanager
def _at_rest(module: nn.Module) -> Iterator[None]:
    """A module in evaluation mode, and each of its parts back in its own mode afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
