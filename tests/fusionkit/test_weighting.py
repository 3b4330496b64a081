"""The weights of loss terms: schedules by hand, learned ones against their formulae, and what a recipe may say."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fusionkit_fakes import Branches, Cat, Conv, Entropy, Linear, Size, Toy, recipe, registry
from jsonschema import Draft7Validator
from lightning.fabric import Fabric
from rich.console import Console
from toy_fits import Kill, Killed

from fusionkit.errors import RecipeError
from fusionkit.experiment import run
from fusionkit.flow import Task
from fusionkit.loading import Samples
from fusionkit.model import Blueprint
from fusionkit.progress import Progress
from fusionkit.recipe import Recipe, load_recipe
from fusionkit.registry import Registry
from fusionkit.schema import json_schema
from fusionkit.sections import Train
from fusionkit.trainer import Fit, fit
from fusionkit.weighting import Schedule, Weight, Weighting, dynamic_average, is_weight

TASK = Task("classification", ("a", "b", "c"), (1, 1, 1))


def schedule(**keys: Any) -> Schedule:
    return Schedule.model_validate(keys)


# Schedules


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"from": 0, "to": 1}, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ({"from": 1, "to": 0.5, "start": 2, "end": 4}, [1, 1, 0.75, 0.5, 0.5, 0.5]),
        ({"from": 0, "to": 3, "start": 3}, [0, 0, 0, 1, 2, 3]),
        ({"from": 0, "to": 3, "end": 4}, [0, 1, 2, 3, 3, 3]),
        ({"from": 0, "to": 0.5, "start": 3, "shape": "step"}, [0, 0, 0.5, 0.5, 0.5, 0.5]),
        ({"from": 2, "to": 1, "shape": "step"}, [1, 1, 1, 1, 1, 1]),
        (
            {"from": 0, "to": 2, "start": 2, "end": 5, "shape": "cosine"},
            [0, 0, *(2 * 0.5 * (1 - math.cos(math.pi * t / 3)) for t in (1, 2, 3)), 2],
        ),
        ({"from": 1, "to": 0, "end": 3, "shape": "cosine"}, [1, 0.5, 0, 0, 0, 0]),
    ],
)
def test_a_schedule_by_hand(keys: dict[str, Any], expected: list[float]) -> None:
    made = schedule(**keys)
    assert made.problem(6) is None
    assert [made.at(epoch, 6) for epoch in range(1, 7)] == pytest.approx(expected)


def test_the_keys_are_named_as_in_a_recipe() -> None:
    made = schedule(**{"from": 0.25, "to": 1})
    assert (made.from_, made.to, made.start, made.end, made.shape) == (0.25, 1.0, 1, None, "linear")
    assert is_weight({"from": 0.25, "to": 1})
    assert not is_weight({"from_": 0.25, "to": 1})
    assert [is_weight(value) for value in (0, 0.5, "dwa", "uncertainty", "focal", {"gamma": 1}, None)] == [
        *(True, True, True, True),
        *(False, False, False),
    ]


# What is learned


def test_the_objective_with_uncertainty_by_hand() -> None:
    """exp(-s_1) L_1 + s_1 / 2 + exp(-s_2) L_2 + s_2 / 2 + 3 L_3, and its gradients."""
    weighting = Weighting({"one": "uncertainty", "two": "uncertainty", "three": 3.0}, 5)
    assert weighting.now() == {"one": 1, "two": 1, "three": 3}
    with torch.no_grad():
        weighting.log_variances["one"].fill_(0.7)
        weighting.log_variances["two"].fill_(-1.2)
    terms = {
        name: torch.tensor(value, requires_grad=True)
        for name, value in zip(weighting.kinds, (2.0, 0.3, 0.1), strict=True)
    }
    objective = weighting.objective(terms)
    objective.backward()
    assert objective.item() == pytest.approx(math.exp(-0.7) * 2 + 0.35 + math.exp(1.2) * 0.3 - 0.6 + 0.3)
    assert [term.grad.item() for term in terms.values()] == pytest.approx([math.exp(-0.7), math.exp(1.2), 3])
    slopes = {name: held.grad.item() for name, held in weighting.log_variances.items()}
    assert slopes == pytest.approx({"one": 0.5 - math.exp(-0.7) * 2, "two": 0.5 - math.exp(1.2) * 0.3})
    assert weighting.now() == pytest.approx({"one": math.exp(-0.7), "two": math.exp(1.2), "three": 3})


def test_what_uncertainty_adds_is_shared_by_the_parts_of_a_batch() -> None:
    weighting = Weighting({"one": "uncertainty"}, 5)
    torch.nn.init.constant_(weighting.log_variances["one"], 0.8)
    whole = weighting.objective({"one": torch.tensor(2.0)})
    parts = [weighting.objective({"one": torch.tensor(2.0 * share)}, share) for share in (0.25, 0.75)]
    torch.testing.assert_close(sum(parts), whole)


@pytest.mark.parametrize("term", [0.05, 0.5, 4.0])
def test_uncertainty_comes_to_rest_at_the_weight_of_half_the_inverse(term: float) -> None:
    weighting = Weighting({"one": "uncertainty"}, 5)
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        weighting.objective({"one": torch.tensor(term)}).backward()
        optimizer.step()
    assert weighting.now()["one"] == pytest.approx(1 / (2 * term), rel=1e-4)


def test_dynamic_weight_average_is_the_formula() -> None:
    rows = [{"train/a": 4.0, "train/b": 1.0, "train/c": 2.0}, {"train/a": 3.0, "train/b": 0.9, "train/c": 3.0}]
    pace = np.array([3 / 4, 0.9 / 1, 3 / 2])
    expected = 3 * np.exp(pace / 2) / np.exp(pace / 2).sum()
    found = dynamic_average(["a", "b", "c"], [{"train/a": 99.0, "train/b": 9.0, "train/c": 9.0}, *rows])
    assert list(found) == ["a", "b", "c"]
    np.testing.assert_allclose(list(found.values()), expected)
    assert sum(found.values()) == pytest.approx(3)


def test_dynamic_weight_average_begins_with_ones_and_survives_a_term_of_zero() -> None:
    row = {"train/a": 0.0, "train/b": 2.0}
    for history in ([], [row]):
        assert dynamic_average(["a", "b"], history) == {"a": 1, "b": 1}
    found = dynamic_average(["a", "b"], [row, row])
    assert found == pytest.approx({"a": 1, "b": 1})


def test_only_the_terms_so_weighted_share_themselves() -> None:
    weighting = Weighting(
        {"a": "dwa", "b": 0.3, "c": "dwa", "d": "uncertainty", "e": schedule(**{"from": 0, "to": 1})}, 3
    )
    rows = [
        {f"train/{name}": value for name, value in zip("abcde", row, strict=True)}
        for row in ([2, 2, 2, 2, 2], [1, 1, 2, 1, 1])
    ]
    weighting.begin(3, rows)
    found = weighting.now()
    first, second = np.exp([0.5 / 2, 1 / 2])
    assert found == pytest.approx(
        {"a": 2 * first / (first + second), "b": 0.3, "c": 2 * second / (first + second), "d": 1, "e": 1}
    )


def test_epochs_are_compared_by_the_same_weights() -> None:
    weights: dict[str, Weight] = {
        "a": 0.3,
        "b": schedule(**{"from": 0, "to": 0.7, "end": 4}),
        "c": "dwa",
        "d": "uncertainty",
    }
    weighting = Weighting(weights, 9)
    before = weighting.reference()
    weighting.begin(3, [{"train/c": 1.0}, {"train/c": 2.0}])
    torch.nn.init.constant_(weighting.log_variances["d"], 3.0)
    assert before == weighting.reference() == {"a": 0.3, "b": 0.7, "c": 1, "d": 1}


# In a recipe


TEXT = """\
data: {source: tiles, root: x}
modalities: {image: net}
fusion: join
train: {epochs: 6}
loss:
"""


@pytest.fixture
def load(acme: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recipe]:
    """Load a recipe whose last lines are these."""
    monkeypatch.chdir(tmp_path)

    def load(loss: str, *overrides: str) -> Recipe:
        Path("r.yaml").write_text(TEXT + loss)
        return load_recipe("r.yaml", overrides, registry=acme)

    return load


@pytest.fixture
def weights(load: Callable[..., Recipe]) -> Callable[..., dict[str, Any]]:
    """The weight of each term, schedules as they would stand in a recipe with nothing but what differs."""

    def weights(loss: str, *overrides: str) -> dict[str, Any]:
        return {
            term.loss.name: term.weight.model_dump(by_alias=True, exclude_defaults=True)
            if isinstance(term.weight, Schedule)
            else term.weight
            for term in load(loss, *overrides).losses
        }

    return weights


RISING = {"from": 0, "to": 0.5, "start": 2, "end": 4}
SHORT = "  ce: {from: 0, to: 0.5, start: 2, end: 4}\n  focal: dwa\n"
LONG = "  ce: {weight: {from: 0, to: 0.5, start: 2, end: 4}, label_smoothing: 0.1}\n  focal: {weight: dwa}\n"
LISTED = "  - {name: ce, weight: {from: 0, to: 0.5, start: 2, end: 4}}\n  - {name: focal, weight: dwa, gamma: 1}\n"


@pytest.mark.parametrize("loss", [SHORT, LONG, LISTED], ids=["short", "long", "listed"])
def test_the_forms_mean_the_same_and_survive_resolution(
    weights: Callable[..., dict[str, Any]], load: Callable[..., Recipe], acme: Registry, loss: str
) -> None:
    assert weights(loss) == {"ce": RISING, "focal": "dwa"}
    resolved = load(loss).resolved()
    assert resolved["loss"][0]["weight"] == RISING | {"shape": "linear"}
    again = load_recipe(json.loads(json.dumps(resolved)), registry=acme)
    assert [term.weight for term in again.losses] == [term.weight for term in load(loss).losses]
    assert again.resolved() == resolved
    assert [error.message for error in Draft7Validator(json_schema(acme)).iter_errors(resolved)] == []


def test_one_loss_may_have_a_schedule_too(weights: Callable[..., dict[str, Any]]) -> None:
    assert weights("  {name: focal, gamma: 1, weight: {from: 1, to: 0}}\n") == {"focal": {"from": 1, "to": 0}}
    assert weights("  {name: focal, weight: uncertainty}\n") == {"focal": "uncertainty"}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("loss.ce=dwa", "dwa"),
        ("loss.ce=0.25", 0.25),
        ("loss.ce.weight=uncertainty", "uncertainty"),
        ("loss.ce.weight.to=0.3", RISING | {"to": 0.3}),
        ("loss.ce={from: 1, to: 2}", {"from": 1, "to": 2}),
        ("loss.ce.weight={from: 1, to: 2}", {"from": 1, "to": 2}),
    ],
)
@pytest.mark.parametrize("loss", [SHORT, LONG], ids=["short", "long"])
def test_overrides(weights: Callable[..., dict[str, Any]], loss: str, override: str, expected: Any) -> None:
    assert weights(loss, override) == {"ce": expected, "focal": "dwa"}


def test_overrides_of_a_list_go_by_place(weights: Callable[..., dict[str, Any]]) -> None:
    assert weights(LISTED, "loss.0.weight.to=0.3", "loss.1.weight=1") == {"ce": RISING | {"to": 0.3}, "focal": 1}


@pytest.mark.parametrize("loss", [SHORT, LONG], ids=["short", "long"])
def test_an_inherited_weight_is_replaced_as_a_whole(acme: Registry, tmp_path: Path, loss: str) -> None:
    (tmp_path / "root.yaml").write_text(TEXT + loss)
    path = tmp_path / "r.yaml"
    path.write_text("base: root.yaml\nloss: {ce: {from: 1, to: 0}, focal: uncertainty}\n")
    loaded = load_recipe(path, registry=acme)
    assert [term.weight for term in loaded.losses] == [schedule(**{"from": 1, "to": 0}), "uncertainty"]
    options = dict(loaded.losses[0].loss.options)
    assert options == {"label_smoothing": 0.1 if loss is LONG else 0}
    path.write_text("base: root.yaml\nloss: {focal: null, ce: {weight: 2}}\n")
    assert [(term.loss.name, term.weight) for term in load_recipe(path, registry=acme).losses] == [("ce", 2.0)]


@pytest.mark.parametrize(
    ("loss", "at", "problem"),
    [
        ("ce: {from: 0, to: 1, start: 7}", "start", "loss.ce.start: there is no epoch 7; the last one is 6"),
        ("ce: {from: 0, to: 1, end: 9}", "end", "loss.ce.end: there is no epoch 9; the last one is 6"),
        (
            "ce: {from: 0, to: 1, start: 4, end: 4}",
            "end",
            "loss.ce.end: epoch 4 does not come after `start`, 4",
        ),
        (
            "ce: {weight: {from: 0, to: 1, start: 5, end: 3}}",
            "end",
            "loss.ce.weight.end: epoch 3 does not come after `start`, 5",
        ),
        (
            "- {name: ce, weight: {from: 0, to: 1, start: 5, end: 3}}",
            "end",
            "loss.0.weight.end: epoch 3 does not come after `start`, 5",
        ),
        ("{name: ce, weight: {from: 0, to: 1, end: 8}}", "end", "loss.weight.end: there is no epoch 8; the last"),
        ("ce: {from: 0, to: 1, end: 3, shape: step}", "end", "loss.ce.end: a step has no end; it is at `start`"),
        ("ce: {from: 0, to: 1, shape: sinus}", "shape", "loss.ce.shape: should be 'linear', 'cosine' or 'step'"),
        ("ce: {from: -1, to: 1}", "from", "loss.ce.from: should be greater than or equal to 0, not -1"),
        ("ce: {from: 0}", "ce", "loss.ce.to: is required and missing"),
        ("ce: {from: 0, to: .inf}", "to", "loss.ce.to: should be a finite number, not inf"),
        ("ce: {from: 0, to: 1, start: 0}", "start", "loss.ce.start: should be greater than 0, not 0"),
        ("ce: {from: 0, to: 1, strat: 2}", "strat", "loss.ce.strat: unknown key; did you mean 'start'?"),
        (
            "ce: dwaa",
            "ce",
            "loss.ce: a weight is a number of 0 or more, a schedule such as {from: 0, to: 0.5}, `uncertainty` or "
            "`dwa`, not the text 'dwaa'",
        ),
    ],
)
def test_a_weight_that_cannot_be_is_told_with_its_line(
    load: Callable[..., Recipe], loss: str, at: str, problem: str
) -> None:
    with pytest.raises(RecipeError) as told:
        load(f"  {loss}\n")
    assert str(told.value).startswith(f"r.yaml:6:{loss.index(at) + 3}: {problem}")
    assert len(str(told.value).splitlines()) == 1


def test_fewer_epochs_make_a_schedule_impossible(load: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError) as told:
        load(SHORT, "train.epochs=3")
    assert str(told.value) == "r.yaml:6:36: loss.ce.end: there is no epoch 4; the last one is 3"


def test_an_override_is_blamed_for_its_own_value(load: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError) as told:
        load(LONG, "loss.ce.weight.end=9")
    expected = "override 'loss.ce.weight.end=9': loss.ce.weight.end: there is no epoch 9; the last one is 6"
    assert str(told.value) == expected


WEIGHTS: list[tuple[Any, bool]] = [
    ({"from": 0, "to": 1}, True),
    ({"from": 0, "to": 0.5, "start": 2, "end": 4, "shape": "cosine"}, True),
    ({"from": 0, "to": 0.5, "start": 2, "end": None, "shape": "step"}, True),
    ("uncertainty", True),
    ("dwa", True),
    (0.5, True),
    ("dwaa", False),
    ({"from": 0}, False),
    ({"from": "0", "to": 1}, False),
    ({"from": 0, "to": -1}, False),
    ({"from": 0, "to": 1, "start": 0}, False),
    ({"from": 0, "to": 1, "shape": "sinus"}, False),
    ({"from": 0, "to": 1, "strat": 2}, False),
    (True, False),
    ([1], False),
]


@pytest.mark.parametrize("form", ["short", "long", "one", "listed"])
def test_the_schema_agrees_with_loading(acme: Registry, form: str) -> None:
    validator = Draft7Validator(json_schema(acme))
    for weight, right in WEIGHTS:
        loss: Any = {
            "short": {"ce": weight},
            "long": {"ce": {"weight": weight}},
            "one": {"name": "ce", "weight": weight},
            "listed": [{"name": "ce", "weight": weight}],
        }[form]
        whole = {
            "data": {"source": "tiles", "root": "x"},
            "modalities": {"image": "net"},
            "fusion": "join",
            "loss": loss,
        }
        assert validator.is_valid(whole) == right, (form, weight)
        if right:
            load_recipe(whole, registry=acme)
        else:
            with pytest.raises(RecipeError):
                load_recipe(whole, registry=acme)


# In training


WEIGHTED: dict[str, Weight] = {
    "entropy": schedule(**{"from": 1, "to": 0.4, "end": 3}),
    "branches": "dwa",
    "size": "dwa",
    "again": "uncertainty",
    "fixed": 0.2,
}
FIXED = ("entropy", "branches", "size", "fixed")


def a_fit(folder: Path, epochs: int = 4) -> Fit:
    toy = Toy(samples=60)
    inputs = {name: spec for name, spec in toy.inputs().items() if name != "steps"}
    index = toy.index()
    terms = {"entropy": Entropy, "branches": Branches, "size": Size, "again": Entropy, "fixed": Entropy}
    return Fit(
        name="toy",
        model=Blueprint(inputs, {"image": Conv, "vector": partial(Linear)}, Cat, Cat, TASK, branches=True).build({}),
        losses={name: (loss(TASK), WEIGHTED[name]) for name, loss in terms.items()},
        samples=Samples(toy, index.targets, inputs),
        train=np.flatnonzero(index.split == "train"),
        val=np.flatnonzero(index.split == "val"),
        ids=index.ids,
        settings=Train(epochs=epochs, lr=0.02, schedule="constant"),
        batch_size=8,
        workers=0,
        seed=0,
        folder=folder,
    )


def trained(job: Fit, *callbacks: Any) -> Fit:
    fit(job, Fabric(accelerator="cpu", devices=1), Progress(Console(file=StringIO())), callbacks)
    return job


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    return trained(a_fit(tmp_path_factory.mktemp("whole")))


def test_every_epoch_tells_terms_weights_and_their_products(undisturbed: Fit) -> None:
    for row in undisturbed.history:
        assert {f"{kind}/{name}" for kind in ("train", "weight", "weighted", "val") for name in WEIGHTED} <= row.keys()
        for name in FIXED:
            assert row[f"weighted/{name}"] == pytest.approx(row[f"weight/{name}"] * row[f"train/{name}"])
        assert row["train/loss"] == pytest.approx(sum(row[f"weighted/{name}"] for name in WEIGHTED))
        assert row["val/loss"] == pytest.approx(
            0.4 * row["val/entropy"] + row["val/branches"] + row["val/size"] + row["val/again"] + 0.2 * row["val/fixed"]
        )


def test_the_weights_of_training_are_those_that_were_asked_for(undisturbed: Fit) -> None:
    rows = undisturbed.history
    assert [row["weight/entropy"] for row in rows] == pytest.approx([1, 0.7, 0.4, 0.4])
    assert {row["weight/fixed"] for row in rows} == {0.2}
    for epoch, row in enumerate(rows):
        pace = np.array([1.0, 1.0])
        if epoch >= 2:
            pace = np.array(
                [rows[epoch - 1][f"train/{n}"] / rows[epoch - 2][f"train/{n}"] for n in ("branches", "size")]
            )
        expected = 2 * np.exp(pace / 2) / np.exp(pace / 2).sum()
        np.testing.assert_allclose([row["weight/branches"], row["weight/size"]], expected)
    assert rows[3]["weight/branches"] != pytest.approx(1, abs=1e-4)
    # An entropy of about 1 has its rest at the weight 0.5, so the weight goes down from 1, and each step a little.
    learned = [row["weight/again"] for row in rows]
    assert learned == sorted(learned, reverse=True)
    assert learned[0] < 1
    for row in rows:  # the mean over the steps of an epoch is of weights before its last one
        assert row["weight/again"] < row["weighted/again"] / row["train/again"] < 1


@pytest.mark.parametrize("kill", [{"epoch": 1}, {"epoch": 2}, {"step": 13}], ids=["after one", "after two", "within"])
def test_a_killed_fit_goes_on_with_the_same_weights(tmp_path: Path, undisturbed: Fit, kill: dict[str, int]) -> None:
    with pytest.raises(Killed):
        trained(a_fit(tmp_path), Kill(**kill))
    resumed = trained(a_fit(tmp_path))

    def told(job: Fit) -> list[dict[str, float]]:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in job.history]

    assert told(resumed) == told(undisturbed)
    for name, value in undisturbed.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


@pytest.mark.usefixtures("undrawn")
def test_the_metrics_of_a_run_hold_every_term(tmp_path: Path) -> None:
    loss = {"entropy": {"from": 1, "to": 0.5}, "size": "uncertainty", "branches": 0.25}
    made = run(
        load_recipe(recipe(loss=loss, train={"epochs": 2}, baselines=True), registry=registry()),
        runs=tmp_path,
        progress=Progress(Console(file=StringIO())),
    )
    with (made.path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    fused = [row for row in rows if row["model"] == "fusion"]
    assert [float(row["weight/entropy"]) for row in fused] == [1, 0.5]
    assert [float(row["weight/branches"]) for row in fused] == [0.25, 0.25]
    for row in rows:  # a single modality is trained by the same terms
        terms = [name for name in loss if row[f"weighted/{name}"]]
        assert terms == list(loss)
        assert float(row["train/loss"]) == pytest.approx(sum(float(row[f"weighted/{name}"]) for name in terms))
        for name in ("entropy", "branches"):
            product = float(row[f"weight/{name}"]) * float(row[f"train/{name}"])
            assert float(row[f"weighted/{name}"]) == pytest.approx(product)


def test_a_training_of_one_epoch_takes_what_a_schedule_begins_with() -> None:
    whole = schedule(**{"from": 0.2, "to": 1})
    assert whole.problem(1) is None
    assert whole.at(1, 1) == 0.2
