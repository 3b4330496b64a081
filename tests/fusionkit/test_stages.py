"""Encoders in step: who has run how many stages when, what is kept of them, and the shapes an exchange is given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fusionkit_fakes import Cat, Conv, Linear, Talk
from torch import nn

from fusionkit.flow import Features, FeatureSpec, Input, InputSpec, Task
from fusionkit.model import Blueprint, feature_spec
from fusionkit.stages import exchange_specs, in_step, stages_done

IMAGE, VECTOR = InputSpec((2, 16, 16)), InputSpec((5,))
TASK = Task("classification", ("a", "b", "c"), (1, 1, 1))


def encoders_of(image: int, vector: int) -> nn.ModuleDict:
    return nn.ModuleDict({"image": Conv(IMAGE, depth=image), "vector": Linear(VECTOR, dim=3, depth=vector)}).eval()


def inputs_of(count: int = 4) -> dict[str, Input]:
    random = torch.Generator().manual_seed(0)
    present = torch.arange(count) != 1
    return {
        name: Input(torch.randn(count, *spec.shape, generator=random), present)
        for name, spec in [("image", IMAGE), ("vector", VECTOR)]
    }


def unchanged(stage: int, features: dict[str, Features]) -> dict[str, Features]:
    return features


@pytest.mark.parametrize(
    ("stages", "steps", "expected"),
    [(4, 4, [1, 2, 3, 4]), (2, 4, [1, 1, 2, 2]), (3, 4, [1, 2, 3, 3]), (1, 3, [1, 1, 1]), (0, 2, [0, 0])],
)
def test_encoders_of_few_stages_go_slower(stages: int, steps: int, expected: list[int]) -> None:
    assert [stages_done(step, steps, stages) for step in range(1, steps + 1)] == expected


@pytest.mark.parametrize("depths", [(3, 3), (4, 2), (2, 0), (0, 0), (3, 1)])
def test_every_stage_runs_once_and_in_order(depths: tuple[int, int]) -> None:
    """Without an exchange, each encoder does what it does by itself."""
    encoders, inputs = encoders_of(*depths), inputs_of()
    found = in_step(encoders, inputs, unchanged)
    for name, encoder in encoders.items():
        assert torch.equal(found[name].tokens, encoder(inputs[name].value).tokens)
        assert torch.equal(found[name].present, inputs[name].present)
        assert found[name].stages == ()


@pytest.mark.parametrize("depths", [(3, 3), (4, 2), (3, 1), (2, 0)])
def test_what_is_kept_is_what_each_stage_made(depths: tuple[int, int]) -> None:
    encoders, inputs = encoders_of(*depths), inputs_of()
    found = in_step(encoders, inputs, unchanged, keep_stages=True)
    for name, encoder in encoders.items():
        features, due = encoder.embed(inputs[name].value, None), []
        for stage in range(len(encoder.stages)):
            features = encoder.step(stage, features)
            due.append(features.tokens)
        kept = found[name].stages
        assert len(kept) == len(due)
        for one, other in zip(kept, due, strict=True):
            assert torch.equal(one.tokens, other)
            assert torch.equal(one.present, inputs[name].present)
            assert one.stages == ()


def test_stages_are_kept_as_the_exchange_left_them() -> None:
    def mark(stage: int, features: dict[str, Features]) -> dict[str, Features]:
        return {name: held.with_tokens(torch.full_like(held.tokens, stage + 1.0)) for name, held in features.items()}

    found = in_step(encoders_of(4, 2), inputs_of(), mark, keep_stages=True)
    image, vector = ([float(kept.tokens.unique()[0]) for kept in found[n].stages[:-1]] for n in ("image", "vector"))
    assert image == [1, 2, 3]  # after steps 1, 2, 3; nothing is exchanged after the last
    assert vector == [1]  # its first stage is kept once, after the step in which it ran
    assert len(found["image"].stages[3].tokens.unique()) > 1
    assert float(found["vector"].stages[1].tokens.unique()[0]) == 3


@pytest.mark.parametrize("depths", [(3, 3), (4, 2), (3, 1), (2, 0), (1, 1), (0, 0)])
def test_the_shapes_of_every_exchange_are_told_beforehand(depths: tuple[int, int]) -> None:
    encoders = encoders_of(*depths)
    calls: list[tuple[int, dict[str, FeatureSpec]]] = []

    def note(stage: int, features: dict[str, Features]) -> dict[str, Features]:
        calls.append((stage, {name: FeatureSpec.of(held) for name, held in features.items()}))
        return features

    in_step(encoders, inputs_of(), note)
    with torch.device("meta"):
        meta = {"image": Conv(IMAGE, depth=depths[0]), "vector": Linear(VECTOR, dim=3, depth=depths[1])}
        specs = {name: feature_spec(encoder, encoder.spec) for name, encoder in meta.items()}
    told = exchange_specs(specs)
    assert [stage for stage, _ in calls] == list(range(len(told)))
    assert len(told) == max(max(depths) - 1, 0)
    for (_, seen), due in zip(calls, told, strict=True):
        assert {n: (s.dim, s.tokens, s.grid) for n, s in seen.items()} == {
            n: (s.dim, s.tokens, s.grid) for n, s in due.items()
        }


def test_no_modality_no_exchange() -> None:
    assert exchange_specs({}) == []


class Reads(Talk):
    """Reads what the stages made."""

    reads_stages = True

    def forward(self, features: dict[str, Features]) -> torch.Tensor:
        self.counts = {name: len(held.stages) for name, held in features.items()}
        return super().forward(features)


@pytest.mark.parametrize(("fusion", "expected"), [(Reads, {"image": 2, "vector": 1}), (Cat, None)])
def test_a_fusion_that_reads_stages_is_given_them(fusion: Any, expected: dict[str, int] | None) -> None:
    plan = Blueprint({"image": IMAGE, "vector": VECTOR}, {"image": Conv, "vector": Linear}, fusion, fusion, TASK)
    model, batch, _ = plan.prove()
    features = model.fusion.encode(model.encoders, model.prepare(batch))
    if expected is None:
        assert all(held.stages == () for held in features.values())
    else:
        model(batch)
        assert model.fusion.counts == expected
