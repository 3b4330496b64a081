"""Early stacking."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fusionkit.contract import Fusion
from fusionkit.errors import ShapeError
from fusionkit.flow import Features, Input, InputSpec


class EarlyStack(Fusion):
    """Stacks all inputs along their channels, before one encoder: that of the first modality.

    The shapes must agree in every other axis. An absent modality's channels are zero, the training mean of those that
    are standardised; a sample is present if any of its modalities is, and a step valid if it is in any of them.
    """

    @classmethod
    def arrange(cls, inputs: dict[str, Input]) -> dict[str, Input]:
        """One input under the first modality's name.

        Raises:
            ShapeError: the inputs differ in another axis than that of the channels.
        """
        first, *others = inputs
        shape = InputSpec(tuple(inputs[first].value.shape[1:]))
        for name in others:
            other = InputSpec(tuple(inputs[name].value.shape[1:]))
            if _without_channels(shape) != _without_channels(other):
                raise ShapeError(
                    f"{first} is {shape} and {name} is {other}: early_stack needs inputs that differ in channels alone"
                )
        values = list(inputs.values())
        return {
            first: Input(
                torch.cat([_zero_where_absent(value) for value in values], dim=shape.channel_axis + 1),
                torch.stack([value.present for value in values]).any(0),
                _valid_in_any(values),
                _measured_in_any(values),
            )
        }

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        (stacked,) = features.values()
        return stacked.pooled


def _zero_where_absent(given: Input) -> Float[Tensor, "B ..."]:
    present = given.present.reshape(-1, *[1] * (given.value.dim() - 1))
    return given.value.masked_fill(~present, 0)


def _without_channels(spec: InputSpec) -> tuple[int, ...]:
    return (len(spec.shape), *spec.shape[: spec.channel_axis], *spec.shape[spec.channel_axis + 1 :])


def _valid_in_any(inputs: list[Input]) -> Bool[Tensor, "B T"] | None:
    """Where any present input has a real step, everywhere where none is present; None where none is ragged."""
    if all(value.valid is None for value in inputs):
        return None
    steps = inputs[0].value.shape[1]
    valid = ~torch.stack([value.present for value in inputs]).any(0).unsqueeze(1)
    for value in inputs:
        real = value.present.new_ones(1, steps) if value.valid is None else value.valid
        valid = valid | (value.present.unsqueeze(1) & real)
    return valid


def _measured_in_any(inputs: list[Input]) -> Bool[Tensor, "B H W"] | None:
    """Where any present map has a measurement, everywhere where none is present; None where none has holes."""
    if all(value.measured is None for value in inputs):
        return None
    height, width = inputs[0].value.shape[-2:]
    measured = ~torch.stack([value.present for value in inputs]).any(0).reshape(-1, 1, 1)
    for value in inputs:
        real = value.present.new_ones(1, height, width) if value.measured is None else value.measured
        measured = measured | (value.present.reshape(-1, 1, 1) & real)
    return measured
