"""A learned token in the place of an absent modality: which slots it fills, and that it does so from end to end."""

from __future__ import annotations

import json
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fusionkit_fakes import Cat, Conv, Entropy, Jitter, Linear, Toy, recipe, registry
from lightning.fabric import Fabric
from rich.console import Console

from fusionkit.assembly import blueprint
from fusionkit.check import check
from fusionkit.errors import RecipeError
from fusionkit.evaluation import evaluate, in_order
from fusionkit.flow import Batch, Features, InputSpec, Task
from fusionkit.loading import Samples
from fusionkit.model import Blueprint
from fusionkit.progress import Progress
from fusionkit.recipe import load_recipe
from fusionkit.schema import json_schema
from fusionkit.sections import Train
from fusionkit.stand_in import StandIn
from fusionkit.trainer import Fit, fit

TASK = Task("classification", ("a", "b", "c"), (1, 1, 1))
INPUTS = Toy().inputs()


def features_of(**facts: Any) -> Features:
    present = torch.tensor([True, False, True, False])
    return Features(torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)), present=present, **facts)


# The module


def test_it_fills_every_token_of_absent_samples_and_no_other() -> None:
    stand_in, features = StandIn(5), features_of(grid=(3, 1))
    found = stand_in(features)
    for row, present in enumerate(features.present.tolist()):
        for token in range(3):
            due = features.tokens[row, token] if present else stand_in.token
            assert torch.equal(found.tokens[row, token], due)
    assert found.present is None
    assert found.grid == (3, 1)
    torch.testing.assert_close(found.pooled[1], stand_in.token)


@pytest.mark.parametrize("content", [float("nan"), float("inf"), 1e9])
def test_what_stood_there_is_gone_gradients_too(content: float) -> None:
    stand_in, features = StandIn(5), features_of()
    tokens = features.tokens.masked_fill(~features.present[:, None, None], content).requires_grad_()
    found = stand_in(Features(tokens, present=features.present)).tokens
    assert torch.equal(found, stand_in(features).tokens)
    weights = torch.arange(60.0).reshape(4, 3, 5)
    (found * weights).sum().backward()
    torch.testing.assert_close(stand_in.token.grad, weights[[1, 3]].sum((0, 1)))
    assert torch.equal(tokens.grad, weights * features.present[:, None, None])


def test_all_its_tokens_are_real_and_those_of_others_as_before() -> None:
    mask = torch.tensor([[True, False, False], [True, False, False], [True, True, False], [False] * 3])
    found = StandIn(5)(features_of(mask=mask))
    assert found.token_mask.tolist() == [[True, False, False], [True] * 3, [True, True, False], [True] * 3]


def test_where_nothing_can_be_absent_nothing_changes() -> None:
    features = Features(torch.randn(2, 3, 5))
    assert StandIn(5)(features) is features


def test_stages_stay_masked() -> None:
    stage = features_of()
    found = StandIn(5)(features_of(stages=(stage,)))
    assert found.stages == (stage,)


def test_it_keeps_the_features_type_and_begins_near_zero() -> None:
    torch.manual_seed(0)
    features = Features(torch.randn(2, 3, 512, dtype=torch.bfloat16), present=torch.tensor([True, False]))
    stand_in = StandIn(512)
    assert stand_in(features).tokens.dtype == torch.bfloat16
    assert 0.015 < float(stand_in.token.detach().std()) < 0.025
    assert [name for name, _ in stand_in.named_parameters()] == ["token"]


# In the model


def a_plan(*stood_in: str, **options: Any) -> Blueprint:
    encoders = {"image": Conv, "vector": Linear, "steps": Linear}
    return Blueprint(INPUTS, encoders, Cat, Cat, TASK, stood_in=frozenset(stood_in), **options)


def a_batch(count: int = 9) -> Batch:
    toy = Toy()
    batch = Samples(toy, toy.index().targets, INPUTS).__getitems__([(-1, i) for i in range(count)])
    for number, name in enumerate(INPUTS):
        batch.present[name] = torch.arange(count) % 3 != number
    return batch


@pytest.mark.parametrize("training", [True, False])
def test_it_stands_for_absent_modalities_in_training_and_at_test(training: bool) -> None:
    model, batch = a_plan("vector", "steps").build({}).train(training), a_batch()
    output = model(batch)
    for name in ("vector", "steps"):
        gone = ~batch.present[name]
        due = model.stand_ins[name].token.expand(int(gone.sum()), -1)
        torch.testing.assert_close(output.embeddings[name][gone], due)
    assert output.embeddings["image"][~batch.present["image"]].abs().sum() == 0  # masked, as it was
    with torch.no_grad():
        model.stand_ins["vector"].token.add_(1)
    moved = (model(batch).logits - output.logits).abs().sum(1) > 1e-6
    assert moved.tolist() == (~batch.present["vector"]).tolist()


def test_only_samples_without_the_modality_train_it() -> None:
    model, batch = a_plan("vector").build({}), a_batch()
    model(batch).logits.square().sum().backward()
    assert model.stand_ins["vector"].token.grad.abs().min() > 0
    batch.present["vector"][:] = True
    model.zero_grad()
    model(batch).logits.square().sum().backward()
    assert model.stand_ins["vector"].token.grad.abs().max() == 0


def test_a_state_dict_carries_it() -> None:
    one, other, batch = a_plan("vector").build({}), a_plan("vector", seed=1).build({}), a_batch()
    assert "stand_ins.vector.token" in one.state_dict()
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.eval()(batch).logits, other.eval()(batch).logits)
    assert not a_plan().build({}).stand_ins


def test_what_is_trained_is_used_at_evaluation(tmp_path: Path) -> None:
    """Trained with modalities that come and go; then every probability is recomputed by hand."""
    toy, inputs = Toy(), {name: INPUTS[name] for name in ("image", "vector")}
    index = toy.index()
    plan = Blueprint(inputs, {"image": Conv, "vector": Linear}, Cat, Cat, TASK, stood_in=frozenset({"vector"}))
    samples = Samples(toy, index.targets, inputs, [Jitter(inputs, drop=0.5)])
    train, val = (np.flatnonzero(index.split == part) for part in ("train", "val"))
    model = plan.build({})
    before = model.stand_ins["vector"].token.detach().clone()
    settings, losses = Train(epochs=2, lr=0.05), {"entropy": (Entropy(TASK), 1.0)}
    job = Fit("toy", model, losses, samples, train, val, index.ids, settings, 8, 0, 0, tmp_path)
    fabric = Fabric(accelerator="cpu", devices=1)
    objective = fit(job, fabric, Progress(Console(file=StringIO())))
    assert (model.stand_ins["vector"].token - before).abs().min() > 0

    class Without(Toy):
        def read(self, i: int) -> Any:
            return super().read(i) | {"vector": None}

    tests = np.flatnonzero(index.split == "test")
    bare = Samples(Without(), index.targets, inputs)
    found = evaluate(objective, in_order(bare, tests, fabric, 5, 0), fabric, index.targets)
    images = bare.__getitems__([(-1, int(i)) for i in tests]).inputs["image"]
    with torch.no_grad():
        pooled = model.encoders["image"](images).tokens.mean(1)
        token = model.stand_ins["vector"].token.expand(len(tests), -1)
        due = model.head(model.fusion.mix(torch.cat([pooled, token], 1))).softmax(1)
    np.testing.assert_allclose(found.answers, due.numpy(), atol=1e-6)


# In the recipe


def test_a_recipe_asks_for_it_by_modality() -> None:
    modalities = {"image": {"encoder": "conv"}, "vector": {"encoder": {"name": "linear", "dim": 7}, "absent": "token"}}
    chosen = load_recipe(recipe(modalities=modalities), registry=registry())
    assert {name: modality.absent for name, modality in chosen.modalities.items()} == {
        "image": "mask",
        "vector": "token",
    }
    assert chosen.resolved()["modalities"]["vector"]["absent"] == "token"
    inputs = {name: INPUTS[name] for name in modalities}
    assert blueprint(chosen, inputs, TASK).stood_in == {"vector"}
    assert blueprint(chosen, inputs, TASK, modalities=["image"]).stood_in == frozenset()
    rows = {row.part: row for row in check(chosen).rows}
    assert (rows["stand-ins"].component, rows["stand-ins"].parameters) == ("vector", 7)
    assert rows["total"].parameters == sum(row.parameters for part, row in rows.items() if part != "total")
    plain = {row.part: row for row in check(load_recipe(recipe(), registry=registry())).rows}
    assert "stand-ins" not in plain


def test_another_word_is_refused_and_the_schema_knows_both() -> None:
    modalities = {"vector": {"encoder": "linear", "absent": "zero"}}
    with pytest.raises(RecipeError, match=r"modalities.vector.absent: should be 'mask' or 'token'"):
        load_recipe(recipe(modalities=modalities), registry=registry())
    assert '"enum": ["mask", "token"]' in json.dumps(json_schema(registry()))


def test_a_model_without_absent_samples_is_the_same_with_it() -> None:
    batch = a_batch()
    for name in INPUTS:
        batch.present[name][:] = True
    assert torch.equal(a_plan().build({}).eval()(batch).logits, a_plan(*INPUTS).build({}).eval()(batch).logits)


def test_it_fits_the_width_of_each_modality() -> None:
    inputs = {"a": InputSpec((5,)), "b": InputSpec((5,))}
    encoders = {"a": partial(Linear, dim=3), "b": partial(Linear, dim=8)}
    model = Blueprint(inputs, encoders, Cat, Cat, TASK, stood_in=frozenset("ab")).build({})
    assert {name: len(held.token) for name, held in model.stand_ins.items()} == {"a": 3, "b": 8}
