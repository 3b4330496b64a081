"""The gradients that a fusion's parameters get, where every way of reaching one is tried."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from fusionkit.flow import Input, Output
from fusionkit.testing.subjects import BATCH, Subject, absent

TOGETHER = {
    "in_proj_weight": 3,
    "qkv.weight": 3,
    "to_qkv.weight": 3,
    "kv.weight": 2,
    "to_kv.weight": 2,
    "key_value.weight": 2,
}
"""Weights that project to query, key and value, or to the last two, at once."""


def gradients_of_all(subject: Subject) -> dict[str, list[Tensor]]:
    """Of every parameter of fusion and heads: with all present; if that leaves one without, in other ways too."""
    found: dict[str, list[Tensor]] = {name: [] for name in subject.read_parameters()}
    lacking = lacking_in_turn(subject)
    for trial, values in ((subject, subject.values()), (subject, lacking), (in_training(subject), lacking)):
        for name, gradient in gradients_of(trial, trial.run(values)).items():
            found[name].append(gradient)
        if all(any(gradient.any() for gradient in gradients) for gradients in found.values()):
            break
    return found


def gradients_of(subject: Subject, output: Output) -> dict[str, Tensor]:
    parameters = {name: p for name, p in subject.read_parameters().items() if p.requires_grad}
    gradients = torch.autograd.grad(subject.objective(output), list(parameters.values()), allow_unused=True)
    return {name: gradient for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None}


def parts_of(model: nn.Module, name: str, gradients: list[Tensor]) -> dict[str, list[Tensor]]:
    """The gradients of one parameter; those of query, key and value apart where it holds them all."""
    for ending, number in TOGETHER.items():
        if f".{name}".endswith(f".{ending}"):
            roles = ("query", "key", "value")[-number:]
            return {
                f"{name} ({role})": [gradient.chunk(number)[place] for gradient in gradients]
                for place, role in enumerate(roles)
            }
    return {name: gradients}


def lacking_in_turn(subject: Subject) -> dict[str, Input]:
    """Inputs of which the first sample has all modalities, and each of the next lacks another one."""
    values = subject.values()
    for row, name in enumerate(list(values), start=1):
        values |= absent(values, [name], torch.arange(BATCH) == row, 0.0)
    return values


def in_training(subject: Subject) -> Subject:
    """A copy in training mode, without dropout: what is left to chance is the fusion's own. Batch norms stay as in
    evaluation, since they lay one sample's chance on the others."""
    model = copy.deepcopy(subject.model).train()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return replace(subject, model=model)
