"""Runs encoders stage by stage in step, so that a fusion can exchange between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, cast

from torch import nn

from fusionkit.checkpointing import run_stage
from fusionkit.flow import Features, FeatureSpec, Input

if TYPE_CHECKING:
    from fusionkit.contract import Encoder

Exchange = Callable[[int, dict[str, Features]], dict[str, Features]]


def in_step(
    encoders: nn.ModuleDict, inputs: Mapping[str, Input], exchange: Exchange, *, keep_stages: bool = False
) -> dict[str, Features]:
    """Run the encoders in step, with an exchange after every step but the last.

    Encoders of fewer stages go slower: after step s of S, an encoder of L stages has run ceil(s * L / S) of them.

    Args:
        encoders: one for each of the inputs.
        inputs: what they read.
        exchange: `Fusion.exchange`.
        keep_stages: hand back what every stage made as `Features.stages`, as the exchange left it.
    """
    streams = cast("dict[str, Encoder]", dict(encoders.items()))
    features: dict[str, Features] = {}
    for name, encoder in streams.items():
        entered = encoder.embed(inputs[name].value, inputs[name].valid)
        features[name] = replace(entered, present=inputs[name].present).on_ground(inputs[name].measured)
    kept: dict[str, list[Features]] = {name: [] for name in streams}
    done = dict.fromkeys(streams, 0)
    steps = max(len(encoder.stages) for encoder in streams.values())
    for step in range(1, steps + 1):
        for name, encoder in streams.items():
            for stage in range(done[name], stages_done(step, steps, len(encoder.stages))):
                after = run_stage(encoder, stage, features[name])
                features[name] = _held(after, features[name]).on_ground(inputs[name].measured)
                done[name] = stage + 1
        if step < steps:
            features = exchange(step - 1, features)
        if keep_stages:
            for name in streams:
                if len(kept[name]) < done[name]:
                    kept[name].append(features[name])
    finished = {
        name: _held(encoder.finish(features[name]), features[name]).on_ground(inputs[name].measured)
        for name, encoder in streams.items()
    }
    if not keep_stages:
        return finished
    return {name: replace(feature, stages=tuple(kept[name])) for name, feature in finished.items()}


def stages_done(step: int, steps: int, stages: int) -> int:
    """How many of its stages an encoder has run after this step, counted from 1."""
    return ceil(step * stages / steps)


def exchange_specs(inputs: Mapping[str, FeatureSpec]) -> list[dict[str, FeatureSpec]]:
    """The shapes of the features that each call of `Fusion.exchange` is given, call by call."""
    steps = max((len(spec.stages) for spec in inputs.values()), default=0)
    return [
        {name: _after(spec, stages_done(step, steps, len(spec.stages))) for name, spec in inputs.items()}
        for step in range(1, steps)
    ]


def _after(spec: FeatureSpec, stages: int) -> FeatureSpec:
    """An encoder without stages has said all when it embeds."""
    return spec.stages[stages - 1] if stages else spec


def _held(after: Features, before: Features) -> Features:
    """An encoder that makes its features anew need not know that a modality can be absent."""
    return replace(after, present=before.present)
