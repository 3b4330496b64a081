"""What training does for the fusion: resets, figures in the logs, remarks at the end."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fusionkit_fakes import Cat, Conv, Entropy, Jitter, Linear, Toy, fusions_with_defaults, recipe, registry
from lightning.fabric import Fabric
from rich.console import Console
from torch import nn

from fusionkit.contract import Fusion
from fusionkit.errors import RecipeError
from fusionkit.experiment import run
from fusionkit.flow import Features, InputSpec, Task
from fusionkit.loading import Samples
from fusionkit.model import Blueprint
from fusionkit.optimization import renew
from fusionkit.progress import Progress
from fusionkit.randomness import key
from fusionkit.recipe import load_recipe
from fusionkit.registry import load_registry
from fusionkit.sections import Train
from fusionkit.trainer import Fit, fit

pytestmark = pytest.mark.usefixtures("undrawn")

TASK = Task("classification", ("a", "b", "c"), (1, 1, 1))
INPUTS = {name: spec for name, spec in Toy().inputs().items() if name != "steps"}


def copied(layer: nn.Conv2d) -> nn.Conv2d:
    """As a fusion does that rebuilds what it joins: it copies values, which the meta device has not."""
    other = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1)
    other.load_state_dict(layer.state_dict())
    return other


class Late(Cat):
    """Makes a part of its own when it is given the encoders, and one that is stateful."""

    def join(self, encoders: nn.ModuleDict) -> nn.ModuleDict:
        if "image" in encoders:
            encoders["image"].enter = copied(encoders["image"].enter)
        self.gain = nn.Parameter(torch.rand(6))
        self.norm = nn.BatchNorm1d(6)
        return encoders

    def forward(self, features: dict[str, Features]) -> torch.Tensor:
        return self.norm(super().forward(features) * self.gain)

    def figures(self) -> dict[str, float]:
        return {"seen": float(self.norm.num_batches_tracked), "gain": float(self.gain.detach().mean())}

    @staticmethod
    def remarks(history: Sequence[Mapping[str, float]]) -> list[str]:
        return [f"{len(history)} epochs, {history[-1]['fusion/seen']:g} batches at the end", "said once"]


def a_plan(fusion: Any = Late, **options: Any) -> Blueprint:
    encoders = {"image": Conv, "vector": partial(Linear, dropout=0.2)}
    return Blueprint(INPUTS, encoders, fusion, fusion, TASK, stood_in=frozenset({"vector"}), **options)


def a_fit(folder: Path, **options: Any) -> Fit:
    toy, plan = Toy(), a_plan()
    index = toy.index()
    return Fit(
        name="toy",
        model=plan.build({}),
        losses={"entropy": (Entropy(TASK), 1.0)},
        samples=Samples(toy, index.targets, INPUTS, [Jitter(INPUTS, drop=0.3)]),
        train=np.flatnonzero(index.split == "train"),
        val=np.flatnonzero(index.split == "val"),
        ids=index.ids,
        settings=Train(**{"epochs": 3, "lr": 0.01, "schedule": "constant"} | options),
        batch_size=9,
        workers=0,
        seed=0,
        folder=folder,
        fresh_fusion=plan.fresh_fusion,
    )


def trained(job: Fit, *callbacks: Any, said: StringIO | None = None) -> Fit:
    console = Console(file=said or StringIO(), width=200)
    fit(job, Fabric(accelerator="cpu", devices=1), Progress(console), callbacks)
    return job


class Stop(Exception):  # noqa: N818
    pass


class Watch:
    """Keeps the weights after every epoch; ends the training after one of them, or after a step."""

    def __init__(self, *, epochs: int = 0, steps: int = 0):
        self.epochs, self.steps, self.kept = epochs, steps, []

    def on_step_end(self, job: Fit, terms: dict[str, float]) -> None:
        if job.step == self.steps:
            raise Stop

    def on_epoch_end(self, job: Fit) -> None:
        self.kept.append({name: value.clone() for name, value in job.model.state_dict().items()})
        if job.epoch == self.epochs:
            raise Stop


# Resets


def test_the_fusion_and_it_alone_begins_anew(tmp_path: Path) -> None:
    """With a rate next to nothing, weights are where the last reset, or the beginning, has put them."""
    watch, said = Watch(), StringIO()
    job = a_fit(tmp_path, lr=1e-12, reset_fusion=[2, 3])
    first = {name: value.clone() for name, value in job.model.state_dict().items()}
    shapes = job.model.fusion.inputs
    trained(job, watch, said=said)
    for epoch, found in enumerate(watch.kept, 1):
        if epoch > 1:
            torch.manual_seed(key(0, "weights", "fusion", epoch) % 2**63)
            due = Cat(shapes)
            torch.testing.assert_close(found["fusion.mix.weight"], due.mix.weight)
        for name, value in found.items():
            if not value.is_floating_point() or "running" in name:
                continue
            anew = name.startswith(("fusion.mix", "fusion.gain", "stand_ins.")) and epoch > 1
            assert torch.allclose(value, first[name], atol=1e-7) != anew, name
    assert not torch.allclose(watch.kept[1]["fusion.mix.weight"], watch.kept[2]["fusion.mix.weight"])
    steps = job.step // 3
    assert [row["fusion/seen"] for row in job.history] == [steps] * 3  # buffers too
    assert "toy: the fusion begins anew with epoch 2" in said.getvalue()
    assert "epoch 1\n" not in said.getvalue()


def test_fresh_weights_depend_on_the_seed_and_the_epoch_alone() -> None:
    def weight(epoch: int, **options: Any) -> torch.Tensor:
        torch.rand(3)
        return a_plan(**options).fresh_fusion(epoch)[0].mix.weight

    assert torch.equal(weight(2), weight(2))
    assert not torch.equal(weight(2), weight(3))
    assert not torch.equal(weight(2), weight(2, seed=1))
    _, stand_ins = a_plan().fresh_fusion(2)
    assert {name: len(held.token) for name, held in stand_ins.items()} == {"vector": 4}


def test_the_optimiser_forgets_what_began_anew(tmp_path: Path) -> None:
    job = trained(a_fit(tmp_path, reset_fusion=[3]))
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["optimizer"]
    per_epoch = job.step // 3
    shapes: dict[tuple[int, ...], set[int]] = {}
    for held in state["state"].values():
        shapes.setdefault(tuple(held["exp_avg"].shape), set()).add(int(held["step"]))
    assert shapes[tuple(job.model.fusion.mix.weight.shape)] == {per_epoch}
    assert shapes[tuple(job.model.head.weight.shape)] == {3 * per_epoch}
    assert shapes[tuple(job.model.encoders["image"].enter.weight.shape)] == {3 * per_epoch}


def test_renewed_parameters_stay_the_same_objects() -> None:
    old, new = (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(2))
    other = nn.Linear(2, 2)
    optimizer = torch.optim.Adam([*old.parameters(), *other.parameters()])
    before = list(old.parameters())
    (old(torch.randn(4, 2)).sum() + other(torch.randn(4, 2)).sum()).backward()
    optimizer.step()
    renew(old, new, optimizer)
    assert all(one is two for one, two in zip(old.parameters(), before, strict=True))
    assert all(
        torch.equal(one, two) for one, two in zip(old.state_dict().values(), new.state_dict().values(), strict=True)
    )
    assert set(optimizer.state) == set(other.parameters())


@pytest.mark.parametrize("name", fusions_with_defaults())
def test_every_fusion_can_begin_anew_and_leaves_the_encoders_alone(name: str) -> None:
    fusion, encoder = load_registry().resolve("fusion", name), partial(Conv, dim=8, norm=True)
    twins = dict.fromkeys(("one", "two"), InputSpec((3, 16, 16)))
    plan = Blueprint(twins, dict.fromkeys(twins, encoder), fusion, fusion, TASK)
    model = plan.build({})
    fused = {id(weight) for weight in model.fusion.parameters()}
    assert not any(id(weight) in fused for weight in model.encoders.parameters())
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1)
    encoders = {path: value.clone() for path, value in model.encoders.state_dict().items()}
    fresh, _ = plan.fresh_fusion(2)
    renew(model.fusion, fresh, torch.optim.Adam(model.parameters()))
    assert all(torch.equal(value, fresh.state_dict()[path]) for path, value in model.fusion.state_dict().items())
    assert all(torch.equal(value, encoders[path]) for path, value in model.encoders.state_dict().items())


@pytest.mark.parametrize("when", [{"epochs": 1}, {"steps": 5}, {"epochs": 2}])
def test_a_killed_fit_with_resets_goes_on_exactly(tmp_path: Path, when: dict[str, int]) -> None:
    whole = trained(a_fit(tmp_path / "whole", reset_fusion=[2]))
    with pytest.raises(Stop):
        trained(a_fit(tmp_path / "killed", reset_fusion=[2]), Watch(**when))
    resumed = trained(a_fit(tmp_path / "killed", reset_fusion=[2]))
    assert [row["val/loss"] for row in whole.history] == [row["val/loss"] for row in resumed.history]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_the_best_epoch_may_lie_before_a_reset(tmp_path: Path) -> None:
    watch = Watch()
    job = trained(a_fit(tmp_path, reset_fusion=[2, 3], lr=1e-12, select="loss"), watch)
    losses = [row["val/loss"] for row in job.history]
    assert job.best_epoch == int(np.argmin(losses)) + 1
    for name, value in watch.kept[job.best_epoch - 1].items():
        assert torch.equal(job.model.state_dict()[name], value)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"epochs": 9, "reset_fusion": [4, 10]}, "train.reset_fusion: there is no epoch 10; the last one is 9"),
        ({"epochs": 9, "reset_fusion": [1]}, r"train.reset_fusion\[?.?0\]?: should be greater than or equal to 2"),
        ({"reset_fusion": 3}, "train.reset_fusion: should be a list"),
    ],
)
def test_resets_at_epochs_that_are_not_are_told(tmp_path: Path, train: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe(train=train), registry=registry())


def test_resets_need_to_know_how_the_fusion_is_made(tmp_path: Path) -> None:
    job = a_fit(tmp_path, reset_fusion=[2])
    job.fresh_fusion = None
    with pytest.raises(ValueError, match="fresh_fusion is needed"):
        trained(job)


# Figures and remarks


def test_figures_stand_in_every_row_and_remarks_are_told(tmp_path: Path) -> None:
    said = StringIO()
    job = trained(a_fit(tmp_path), said=said)
    steps = job.step // 3
    assert [row["fusion/seen"] for row in job.history] == [steps, 2 * steps, 3 * steps]
    assert all(0 < row["fusion/gain"] < 1 for row in job.history)
    assert f"toy: 3 epochs, {3 * steps} batches at the end\ntoy: said once\n" in said.getvalue()


def test_a_whole_run_tells_them_in_its_files(tmp_path: Path) -> None:
    known = registry()
    resolve = known.resolve
    known.resolve = lambda kind, name: Late if (kind, name) == ("fusion", "cat") else resolve(kind, name)  # type: ignore
    train = {"epochs": 3, "reset_fusion": [2], "balance": {"last_epoch": 2}, "accelerator": "cpu"}
    chosen = load_recipe(recipe(train=train, baselines=True), registry=known)
    said = StringIO()
    done = run(chosen, runs=tmp_path, progress=Progress(Console(file=said, width=300)))
    with (done.path / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == "fusion"]
    steps = float(rows[0]["fusion/seen"])
    assert [float(row["fusion/seen"]) for row in rows] == [steps, steps, 2 * steps]
    assert [bool(row["balance/image"]) for row in rows] == [True, True, False]
    page = (done.path / "report.html").read_text(encoding="utf-8")
    assert page.count("<li>said once</li>") == 1
    assert f"<li>3 epochs, {2 * steps:g} batches at the end</li>" in page
    assert "<td>fusion/gain</td>" in page
    assert "<td>balance/vector</td>" in page
    assert "baseline-image: said once" in said.getvalue()
    events = b"".join(file.read_bytes() for file in (done.path / "tensorboard" / "fusion").iterdir())
    assert b"fusion/gain" in events
    assert b"balance/image" in events


def test_a_fusion_with_nothing_to_say_leaves_no_trace() -> None:
    assert Fusion.remarks([{"fusion/a": 1.0}]) == []
    assert Cat(a_plan().prove()[2]).figures() == {}
