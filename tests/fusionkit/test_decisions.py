"""From fused vector to prediction: heads that are read, decisions, penalties, and encoders joined into one."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from fusionkit_fakes import Cat, Conv, Entropy, Linear, Plus, Toy, Weighted, recipe, registry
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.check import check
from fusionkit.contract import Fusion, Loss
from fusionkit.errors import RecipeError, ShapeError
from fusionkit.evaluation import Objective
from fusionkit.experiment import run
from fusionkit.flow import Batch, Features, Fused, Input, Output, Task
from fusionkit.loading import Samples
from fusionkit.model import Blueprint, FusionModel, branch_inputs, whole
from fusionkit.progress import Progress
from fusionkit.recipe import Recipe, load_recipe

pytestmark = pytest.mark.usefixtures("undrawn")

TASK = Task("classification", ("a", "b", "c"), (1, 1, 1))
INPUTS = {name: spec for name, spec in Toy().inputs().items() if name != "steps"}


def a_plan(fusion: Any, **options: Any) -> Blueprint:
    return Blueprint(INPUTS, {"image": Conv, "vector": Linear}, fusion, fusion, TASK, **options)


def a_batch() -> Batch:
    toy = Toy()
    batch = Samples(toy, toy.index().targets, INPUTS).__getitems__([(-1, i) for i in range(9)])
    batch.present["vector"][[2, 5]] = False
    return batch


def pooled_of(model: FusionModel, batch: Batch) -> dict[str, Tensor]:
    """What the encoders make of each modality, averaged over its cells; zero where absent."""
    inputs = model.prepare(batch)
    return {
        name: encoder(inputs[name].value).tokens.mean(1) * inputs[name].present[:, None]
        for name, encoder in model.encoders.items()
    }


def linear(values: Tensor, layer: nn.Module) -> Tensor:
    return values @ layer.weight.T + layer.bias


class Told(Cat):
    """Has more to say than a vector."""

    def __init__(self, inputs: Any):
        super().__init__(inputs)
        self.width = {name: 2 + number for number, name in enumerate(inputs)}
        self.parts = nn.ModuleDict({name: nn.Linear(spec.dim, self.width[name]) for name, spec in inputs.items()})

    def forward(self, features: dict[str, Features]) -> Fused:
        vector = super().forward(features)
        branches = {name: self.parts[name](held.pooled) for name, held in features.items()}
        return Fused(vector, branches, {"over": vector.softmax(1)}, {"size": vector.square().mean()})


class Votes(Plus):
    """Decides by the branches alone: their mean over the modalities that are present."""

    decision = "branches"
    supervises_branches = True

    def decide(self, logits: Tensor | None, branches: dict[str, Tensor], features: dict[str, Features]) -> Tensor:
        assert logits is None
        present = torch.stack([features[name].present for name in branches]).unsqueeze(-1)
        return (torch.stack(list(branches.values())).detach() * present).sum(0) / present.sum(0).clamp(min=1)


class Both(Told):
    """Adds what the branches say to the main prediction."""

    decision = "both"

    def decide(self, logits: Tensor | None, branches: dict[str, Tensor], features: dict[str, Features]) -> Tensor:
        return logits + 2 * torch.stack(list(branches.values())).sum(0)


class OneHead(Votes):
    """Its branches share a head."""

    shares_branch_head = True


# Fused


def test_a_vector_alone_is_a_fused_with_nothing_else() -> None:
    vector = torch.randn(2, 3)
    assert whole(vector) == Fused(vector, {}, {}, {})
    fused = Fused(vector, {"a": vector})
    assert whole(fused) is fused


def test_branch_heads_read_what_the_fusion_gives_them_else_what_is_pooled() -> None:
    vector, features = torch.randn(2, 3), {"a": Features(torch.randn(2, 4, 3))}
    torch.testing.assert_close(branch_inputs(Fused(vector), features), {"a": features["a"].tokens.mean(1)})
    own = {"a": torch.randn(2, 7)}
    assert branch_inputs(Fused(vector, own), features) is own


def test_all_that_a_fusion_says_reaches_the_output() -> None:
    model, batch = a_plan(Told, branches=True).build({}), a_batch()
    output, pooled = model(batch), pooled_of(model, batch)
    fused = linear(torch.cat(list(pooled.values()), 1), model.fusion.mix)
    torch.testing.assert_close(output.fused, fused)
    torch.testing.assert_close(output.logits, linear(fused, model.head))
    torch.testing.assert_close(output.attention["over"], fused.exp() / fused.exp().sum(1, keepdim=True))
    torch.testing.assert_close(output.penalties["size"], (fused**2).mean())
    for name, values in pooled.items():
        own = linear(values, model.fusion.parts[name])
        torch.testing.assert_close(output.embeddings[name], own)
        torch.testing.assert_close(output.branch_logits[name], linear(own, model.branches[name]))
        assert model.branches[name].in_features == model.fusion.width[name]
    assert model.penalties == {"size"}


# Decisions


@pytest.mark.parametrize(
    ("fusion", "asked", "head", "branches"),
    [(Cat, False, True, False), (Cat, True, True, True), (Votes, False, False, True), (Both, False, True, True)],
)
def test_heads_that_nobody_reads_do_not_exist(fusion: Any, asked: bool, head: bool, branches: bool) -> None:
    model = a_plan(fusion, branches=asked).build({})
    assert (model.head is not None) == head
    assert set(model.branches) == (set(INPUTS) if branches else set())
    assert set(model(a_batch()).branch_logits) == set(model.branches)


def test_a_decision_by_branches_alone() -> None:
    model, batch = a_plan(Votes).build({}), a_batch()
    heads = {name: linear(values, model.branches[name]) for name, values in pooled_of(model, batch).items()}
    due = (heads["image"] + heads["vector"]) / 2
    due[[2, 5]] = heads["image"][[2, 5]]
    torch.testing.assert_close(model(batch).logits, due)


def test_a_decision_by_both() -> None:
    model, batch = a_plan(Both).build({}), a_batch()
    output = model(batch)
    due = linear(output.fused, model.head)
    for name, values in pooled_of(model, batch).items():
        due = due + 2 * linear(linear(values, model.fusion.parts[name]), model.branches[name])
    torch.testing.assert_close(output.logits, due)


def test_conclude_is_what_forward_does_after_the_encoders() -> None:
    model, batch = a_plan(Both).build({}), a_batch()
    features = model.fusion.encode(model.encoders, model.prepare(batch))
    assert torch.equal(model.conclude(features).logits, model(batch).logits)


def test_a_shared_head_is_one_module_and_needs_one_width() -> None:
    model = a_plan(OneHead).build({})
    assert model.branches["image"] is model.branches["vector"]
    rows = {row.part: row.parameters for row in check(with_fusion(OneHead)).rows}
    assert (rows["branch image"], rows["branch vector"]) == (4 * 3 + 3, 0)
    assert "head" not in rows

    class Uneven(Told):
        decision, shares_branch_head = "branches", True

    with pytest.raises(ShapeError, match=r"share one head and differ in width: \{'image': 2, 'vector': 3\}"):
        a_plan(Uneven).prove()


def test_a_fusion_without_head_has_to_decide() -> None:
    class Mute(Plus):
        decision = "branches"

    with pytest.raises(ShapeError, match="Mute has no main head and does not implement `decide`"):
        a_plan(Mute).prove()


# Losses


class Size(Loss):
    """Reads a penalty."""

    needs_penalty = "size"

    def forward(self, output: Output, batch: Batch) -> Tensor:
        return output.penalties["size"]


class Plain(Entropy):
    """Can be asked of any prediction."""

    reads_logits_alone = True


def test_where_the_fusion_supervises_its_branches_each_meets_the_losses() -> None:
    model, batch = a_plan(Votes).build({}), a_batch()
    objective = Objective(model, {"plain": Plain(TASK), "weighted": Weighted(TASK)})
    output, terms = objective(batch)
    due = sum(F.cross_entropy(logits, batch.target) for logits in [output.logits, *output.branch_logits.values()])
    torch.testing.assert_close(terms["plain"], due)
    weights = torch.tensor(Weighted.weights)
    torch.testing.assert_close(terms["weighted"], F.cross_entropy(output.logits, batch.target, weights))
    terms["plain"].backward()
    assert all(weight.grad.abs().max() > 0 for weight in model.encoders.parameters())


def test_elsewhere_the_main_prediction_alone_meets_them() -> None:
    model, batch = a_plan(Both).build({}), a_batch()
    output, terms = Objective(model, {"plain": Plain(TASK)})(batch)
    torch.testing.assert_close(terms["plain"], F.cross_entropy(output.logits, batch.target))


def with_fusion(fusion: type[Fusion], **changes: Any) -> Recipe:
    """A recipe whose `cat` is this fusion and whose `picky` is the loss `Size`."""
    known = registry()
    found = {("fusion", "cat"): fusion, ("loss", "picky"): Size}
    resolve = known.resolve
    known.resolve = lambda kind, name: found.get((kind, name)) or resolve(kind, name)  # type: ignore[method-assign]
    return load_recipe(recipe(**changes), registry=known)


def test_a_penalty_that_the_fusion_has_not_is_refused() -> None:
    loss = {"entropy": 1, "picky": 0.1}
    with pytest.raises(RecipeError, match=r"loss\.picky: picky needs a fusion with the penalty 'size'; cat has none"):
        check(with_fusion(Cat, loss=loss))
    check(with_fusion(Told, loss=loss))


class Pair(Told):
    """Takes two modalities alone, so that baselines go without it."""

    def __init__(self, inputs: Any):
        if len(inputs) < 2:
            raise ShapeError("a pair is two")
        super().__init__(inputs)


def test_a_baseline_without_the_penalty_is_trained_without_its_term(tmp_path: Path) -> None:
    train = {"epochs": 1, "accelerator": "cpu"}
    chosen = with_fusion(Pair, loss={"entropy": 1, "picky": 0.1}, baselines=True, train=train)
    done = run(chosen, runs=tmp_path, progress=Progress(Console(file=StringIO())))
    head, *rows = [line.split(",") for line in (done.path / "metrics.csv").read_text().splitlines()]
    told = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert float(told["fusion"]["train/picky"]) > 0
    for name in ("baseline-image", "baseline-vector"):
        assert told[name]["train/picky"] == ""
        assert float(told[name]["train/loss"]) == pytest.approx(float(told[name]["train/entropy"]))


# Joined encoders


class Joined(Cat):
    """Makes one encoder of all, under a key of its own."""

    def join(self, encoders: nn.ModuleDict) -> nn.ModuleDict:
        first, *others = encoders.values()
        for other in others:
            other.enter = first.enter
        return nn.ModuleDict({"joined": nn.ModuleDict(dict(encoders.items()))})

    def encode(self, encoders: nn.ModuleDict, inputs: dict[str, Input]) -> dict[str, Features]:
        assert list(encoders) == ["joined"]
        return super().encode(encoders["joined"], inputs)


def test_joined_encoders_stand_in_one_row() -> None:
    conv = {"encoder": {"name": "conv", "dim": 4, "depth": 1}}
    twins: dict[str, Any] = {"data": {"source": "twins"}, "modalities": {"one": conv, "two": conv}}
    rows = {row.part: row for row in check(with_fusion(Joined, **twins)).rows}
    row = rows["one + two"]
    assert set(rows) == {"one + two", "fusion", "head", "total"}
    assert (row.component, row.input, row.features, row.tokens) == ("conv", "2 x 6 x 6", "4 x 3 x 3", 9)
    assert row.parameters == (2 * 4 * 9 + 4) + 2 * (4 * 4 * 9)  # one entrance, two stages
    assert row.multiply_adds == 2 * (36 * 2 * 4 * 9 + 9 * 4 * 4 * 9)
    assert (rows["fusion"].parameters, rows["fusion"].multiply_adds) == (8 * 6 + 6, 8 * 6)
    apart = {row.part: row for row in check(with_fusion(Cat, **twins)).rows}
    assert rows["total"].multiply_adds == apart["total"].multiply_adds


def test_joined_encoders_of_two_kinds_name_both() -> None:
    class Side(Joined):
        def join(self, encoders: nn.ModuleDict) -> nn.ModuleDict:
            return nn.ModuleDict({"joined": encoders})

    row = check(with_fusion(Side)).rows[0]
    assert (row.part, row.component, row.input) == ("image + vector", "conv + linear", "2 x 6 x 6 + 5")


def test_what_a_baseline_is_trained_without_is_told(tmp_path: Path) -> None:
    train = {"epochs": 1, "accelerator": "cpu"}
    chosen = with_fusion(Pair, loss={"entropy": 1, "picky": 0.1}, baselines=True, train=train)
    done = run(chosen, runs=tmp_path, progress=Progress(Console(file=StringIO())))
    told = "the baseline vector is trained without picky: picky needs a fusion with the penalty"
    assert told in (done.path / "report.html").read_text()
