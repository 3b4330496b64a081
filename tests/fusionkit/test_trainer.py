"""The training loop: exact, resumable, and equal however a batch is cut."""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fusionkit_fakes import Entropy, Weighted
from lightning.fabric import Fabric
from sklearn.metrics import cohen_kappa_score, f1_score, log_loss
from torch.nn import functional as F
from toy_fits import TASK, Kill, Killed, Watched, a_fit, assert_same, figures, trained, weights

from fusionkit.contract import Metric
from fusionkit.errors import FusionkitError
from fusionkit.evaluation import Objective, evaluate, in_order
from fusionkit.extra_metrics import ExtraMetric
from fusionkit.flow import Batch
from fusionkit.loading import EVALUATION, Samples
from fusionkit.trainer import Fit, _is_better

# The same again


def test_the_same_seed_gives_the_same_weights_whatever_the_workers(tmp_path: Path) -> None:
    one = trained(a_fit(tmp_path / "one"))
    torch.rand(7)  # the state of the process has no part in it
    two = trained(a_fit(tmp_path / "two", workers=2))
    assert_same(one, two)
    other = trained(a_fit(tmp_path / "other", seed=1))
    assert figures(one) != figures(other)


@pytest.mark.parametrize("kill", [{"epoch": 2}, {"step": 13}, {"step": 1}], ids=["after an epoch", "within", "at once"])
def test_a_killed_fit_goes_on_exactly(tmp_path: Path, kill: dict[str, int]) -> None:
    options: dict[str, Any] = {"epochs": 4, "norm": True, "warmup_steps": 7, "select": "loss"}
    whole = trained(a_fit(tmp_path / "whole", **options))
    with pytest.raises(Killed):
        trained(a_fit(tmp_path / "killed", **options), Kill(**kill))
    resumed = trained(a_fit(tmp_path / "killed", **options))
    assert_same(whole, resumed)
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3, 4]
    again = trained(a_fit(tmp_path / "killed", **options))  # there is nothing left to do
    assert_same(whole, again)
    assert not list(tmp_path.rglob("*.part"))


def test_early_stopping_is_resumed_too(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 9, "lr": 1e-12, "early_stopping": 2}
    with pytest.raises(Killed):
        trained(a_fit(tmp_path, **options), Kill(epoch=2))
    assert len(trained(a_fit(tmp_path, **options)).history) == 3


# What is trained at what rate


def test_a_frozen_encoder_keeps_its_batch_norms_too(tmp_path: Path) -> None:
    job = a_fit(tmp_path, norm=True, lr_scale={"encoder.image": 0.0})
    before = weights(job.model)
    after = weights(trained(job).model)
    assert any("running_mean" in name for name in before)
    for name, value in before.items():
        assert torch.equal(value, after[name]) == name.startswith(("encoders.image", "normalizers")), name


STAGES = [{"epochs": 2, "lr_scale": {"encoder.image": 0.0, "head": 0.1}}, {"lr_scale": {"encoder": 0.5}}]


def test_what_one_stage_freezes_learns_in_the_next(tmp_path: Path) -> None:
    said, seen = StringIO(), []

    class Look:
        def on_step_end(self, job: Fit, terms: dict[str, float]) -> None:
            seen.append(weights(job.model))

    job = a_fit(tmp_path, norm=True, epochs=4, stages=STAGES, lr_scale={"encoder.vector": 0.0}, grad_clip=0.1)
    before = weights(job.model)
    trained(job, Look(), said=said)
    steps = job.step // 4
    for name, value in before.items():
        if name.startswith("encoders.image"):
            assert torch.equal(seen[2 * steps - 1][name], value), name
            assert not torch.equal(seen[2 * steps][name], value), name
        elif name.startswith("encoders.vector"):  # all factors of a part count
            assert torch.equal(seen[-1][name], value), name
        elif name.startswith("head"):
            assert not torch.equal(seen[0][name], value), name
    assert [row["stage"] for row in job.history] == [1, 1, 2, 2]
    told = [line for line in said.getvalue().splitlines() if "stage" in line]
    assert told == [
        "toy: stage 1 of 2 (encoder.image is frozen, head learns at 0.1 x lr) begins with epoch 1",
        "toy: stage 2 of 2 (encoder learns at 0.5 x lr) begins with epoch 3",
    ]


def test_a_stage_of_frozen_parts_is_training_without_them(tmp_path: Path) -> None:
    """What is frozen for a while counts neither in the norm of the gradient nor anywhere else."""
    options: dict[str, Any] = {"norm": True, "epochs": 2, "grad_clip": 0.05, "schedule": "constant"}
    staged = trained(a_fit(tmp_path / "staged", stages=[{"lr_scale": {"encoder.image": 0.0}}], **options))
    scaled = trained(a_fit(tmp_path / "scaled", lr_scale={"encoder.image": 0.0}, **options))
    for row in staged.history:
        assert row.pop("stage") == 1
    assert_same(staged, scaled)


@pytest.mark.parametrize("kill", [{"epoch": 1}, {"epoch": 2}, {"step": 8}, {"step": 12}])
def test_a_killed_fit_goes_on_in_its_stage(tmp_path: Path, kill: dict[str, int]) -> None:
    options: dict[str, Any] = {"epochs": 4, "norm": True, "stages": STAGES, "grad_clip": 1.0}
    whole = trained(a_fit(tmp_path / "whole", **options))
    with pytest.raises(Killed):
        trained(a_fit(tmp_path / "killed", **options), Kill(**kill))
    assert_same(whole, trained(a_fit(tmp_path / "killed", **options)))


def test_a_stage_that_freezes_everything_is_refused(tmp_path: Path) -> None:
    stages = [{"epochs": 1}, {"lr_scale": dict.fromkeys(("encoder", "fusion", "head"), 0.0)}]
    with pytest.raises(FusionkitError, match=r"train\.stages\.1 freezes every part of the model"):
        trained(a_fit(tmp_path, stages=stages))


def test_adamw_in_bf16_with_a_long_warm_up_and_clipping(tmp_path: Path) -> None:
    """The first rate is a thousandth of 3e-5, weights stay in 32 bits, and no step's gradient is longer than 1."""
    rates, norms = [], []

    class Look:
        def on_fit_start(self, job: Fit) -> None:
            self.before = weights(job.model)

        def on_step_end(self, job: Fit, terms: dict[str, float]) -> None:
            gradients = [p.grad for p in job.model.parameters() if p.grad is not None]
            norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))
            after = weights(job.model)
            moved = [
                (after[name] - value).abs().max() for name, value in self.before.items() if value.is_floating_point()
            ]
            rates.append(float(torch.stack(moved).max()))

    options = {"lr": 3e-5, "precision": "bf16", "grad_clip": 1.0, "warmup_steps": 1000, "weight_decay": 0.0}
    scale = {"entropy": (Entropy(TASK), 100.0)}  # so that there is something to clip
    job = trained(a_fit(tmp_path, epochs=2, optimizer="adamw", losses=scale, **options), Look())
    assert all(parameter.dtype == torch.float32 for parameter in job.model.parameters())
    assert norms == pytest.approx([1.0] * len(norms), rel=1e-4)
    assert rates[0] == pytest.approx(3e-5 / 1000, rel=0.02)  # Adam's first step is as long as the rate
    assert [row["lr"] for row in job.history] == pytest.approx([3e-5 * 5 / 1000, 3e-5 * 10 / 1000])


def test_the_rate_follows_the_schedule(tmp_path: Path) -> None:
    job = trained(a_fit(tmp_path, epochs=4, lr=0.02, schedule="linear", warmup_epochs=1))
    steps = job.step // 4
    assert steps == 5  # 36 samples in batches of at most 8
    # The last step of an epoch: after the warm-up 15 steps go down from 1 in fifteenths.
    assert [row["lr"] for row in job.history] == pytest.approx([0.02 * f for f in (1, 11 / 15, 6 / 15, 1 / 15)])


# What is chosen


def test_the_best_epoch_of_validation_is_kept(tmp_path: Path) -> None:
    class Keep:
        def __init__(self) -> None:
            self.weights: dict[int, dict[str, torch.Tensor]] = {}

        def on_step_end(self, job: Fit, terms: dict[str, float]) -> None:
            if job.epoch >= 3:  # from the fourth epoch on, make it worse
                job.model.head.weight.data *= -2

        def on_epoch_end(self, job: Fit) -> None:
            self.weights[job.epoch] = weights(job.model)

    keep = Keep()
    job = trained(a_fit(tmp_path, epochs=5, lr=0.03, select="loss"), keep)
    losses = [row["val/loss"] for row in job.history]
    assert job.best_epoch == 1 + int(np.argmin(losses)) < 4
    for name, value in weights(job.model).items():
        assert torch.equal(value, keep.weights[job.best_epoch][name])
    held = torch.load(tmp_path / "best.ckpt", weights_only=True)["model"]
    assert all(torch.equal(held[name], value) for name, value in weights(job.model).items())


def test_ties_go_to_the_lower_loss_and_then_to_the_earlier() -> None:
    def history(*rows: tuple[float, float]) -> list[dict[str, float]]:
        return [{"val/oa": oa, "val/kappa": oa, "val/loss": loss} for oa, loss in rows]

    nan = float("nan")
    assert _is_better(history((0.1, 9)), 0, "oa")
    assert _is_better(history((0.5, 1), (0.6, 2)), 1, "oa")
    assert not _is_better(history((0.5, 1), (0.6, 2)), 1, "loss")
    assert _is_better(history((0.5, 1), (0.5, 0.9)), 1, "oa")
    assert not _is_better(history((0.5, 1), (0.5, 1)), 1, "oa")
    assert not _is_better(history((0.5, 1), (0.5, nan)), 1, "oa")
    assert _is_better(history((0.5, nan), (0.5, 3)), 1, "loss")
    assert _is_better(history((0.0, 3), (nan, 3)), 1, "kappa")


def test_a_metric_selects_in_its_own_direction_and_never_where_it_is_undefined() -> None:
    class Score(Metric):
        def compute(self, target: np.ndarray, answers: np.ndarray) -> float: ...

    class Distance(Score):
        higher_is_better = False

    def better(kind: type[Metric], first: float, second: float, losses: tuple[float, float] = (1, 1)) -> bool:
        rows = [{"val/m": value, "val/loss": loss} for value, loss in zip((first, second), losses, strict=True)]
        return _is_better(rows, 1, "m", ExtraMetric("m", "acme", "", kind(TASK)))

    nan = float("nan")
    assert better(Score, 0.1, 0.2)
    assert not better(Score, 0.2, 0.1)
    assert better(Distance, 0.2, 0.1)
    assert not better(Distance, 0.1, 0.2)
    for kind in (Score, Distance):
        assert better(kind, nan, 0.1)
        assert not better(kind, 0.1, nan)
        assert better(kind, 0.1, 0.1, (1, 0.9))


def test_training_ends_early_when_nothing_gets_better(tmp_path: Path) -> None:
    job = trained(a_fit(tmp_path, epochs=9, lr=1e-12, early_stopping=2))
    assert (len(job.history), job.best_epoch, job.stale) == (3, 1, 2)


def test_patience_begins_anew_with_every_better_epoch(tmp_path: Path) -> None:
    class Lean:
        """Lets the answer lean to one class, more or less in each epoch: the validation loss follows."""

        def on_step_end(self, job: Fit, terms: dict[str, float]) -> None:
            job.model.head.weight.data.zero_()
            job.model.head.bias.data = torch.tensor([[3.0, 4.0, 2.0, 5.0, 6.0, 1.0][job.epoch], 0, 0])

    job = trained(a_fit(tmp_path, epochs=6, early_stopping=2, select="loss", lr=1e-9), Lean())
    assert (len(job.history), job.best_epoch) == (5, 3)


def test_every_epoch_has_its_own_order_and_draws(tmp_path: Path) -> None:
    class Asked(Samples):
        def __getitems__(self, requests: list[tuple[int, int]]) -> Batch:
            asked.extend(requests)
            return super().__getitems__(requests)

    asked: list[tuple[int, int]] = []
    job = a_fit(tmp_path, epochs=2)
    samples = job.samples
    job.samples = Asked(samples.dataset, samples.targets, samples.inputs, samples.augmentations, samples.seed)
    trained(job)
    orders = [[position for epoch, position in asked if epoch == number] for number in (0, 1, EVALUATION)]
    assert sorted(orders[0]) == sorted(orders[1]) == job.train.tolist()
    assert orders[0] != orders[1]
    assert orders[2] == job.val.tolist() * 2
    assert len(asked) == sum(map(len, orders))


def test_test_samples_are_never_read(tmp_path: Path) -> None:
    job = trained(a_fit(tmp_path, epochs=1))
    assert isinstance(job.samples.dataset, Watched)
    assert job.samples.dataset.seen == {*job.train.tolist(), *job.val.tolist()}


# What is told


def test_validation_figures_are_those_of_scikit_learn(tmp_path: Path) -> None:
    job = trained(a_fit(tmp_path, epochs=1))
    row = job.history[0]
    fabric = Fabric(accelerator="cpu", devices=1)
    objective = fabric.setup(Objective(job.model, {name: loss for name, (loss, _) in job.losses.items()}))
    found = evaluate(objective, in_order(job.samples, job.val, fabric, 5, 0), fabric, job.samples.targets)
    assert found.index.tolist() == job.val.tolist()
    assert found.target.tolist() == (job.val % 3).tolist()
    with torch.no_grad():
        logits = job.model(job.samples.__getitems__([(EVALUATION, int(p)) for p in job.val])).logits
    np.testing.assert_allclose(found.answers, logits.softmax(1).numpy(), atol=1e-6)
    predicted = found.answers.argmax(1)
    assert row["val/oa"] == pytest.approx((predicted == found.target).mean())
    assert row["val/kappa"] == pytest.approx(cohen_kappa_score(found.target, predicted))
    assert row["val/macro_f1"] == pytest.approx(f1_score(found.target, predicted, average="macro"))
    assert row["val/loss"] == pytest.approx(log_loss(found.target, found.answers), rel=1e-5)
    assert found.terms["entropy"] == pytest.approx(row["val/loss"], rel=1e-6)


def test_the_training_loss_is_the_mean_over_the_samples(tmp_path: Path) -> None:
    job = trained(a_fit(tmp_path, epochs=1, lr=1e-12, dropout=0.0, augment=False))
    with torch.no_grad():
        batch = job.samples.__getitems__([(EVALUATION, int(p)) for p in job.train])
        expected = F.cross_entropy(job.model(batch).logits, batch.target)
    assert job.history[0]["train/loss"] == pytest.approx(float(expected), rel=1e-5)
    assert job.seen == len(job.train) == 36


def test_weighted_means_add_up(tmp_path: Path) -> None:
    job = trained(a_fit(tmp_path, epochs=1, dropout=0.0, losses={"entropy": (Weighted(TASK), 1.0)}))
    with torch.no_grad():
        batch = job.samples.__getitems__([(EVALUATION, int(p)) for p in job.val])
        expected = Weighted(TASK)(job.model(batch), batch)
    assert len(job.val) > job.batch_size
    assert job.history[0]["val/loss"] == pytest.approx(float(expected), rel=1e-5)


def test_callbacks_hear_of_everything_and_need_not_listen(tmp_path: Path) -> None:
    heard: list[str] = []

    class Listener:
        def on_fit_start(self, job: Fit) -> None:
            heard.append(f"start {job.name}")

        def on_step_end(self, job: Fit, terms: dict[str, float]) -> None:
            heard.append(f"step {job.step} {' '.join(terms)}")

        def on_epoch_end(self, job: Fit) -> None:
            heard.append(f"epoch {job.epoch} {len(job.history)}")

        def on_fit_end(self, job: Fit) -> None:
            heard.append("end")

    trained(a_fit(tmp_path, epochs=1), Listener(), object())
    assert heard == ["start toy", *(f"step {step} entropy" for step in range(1, 6)), "epoch 1 1", "end"]


def test_a_line_an_epoch_marks_the_best(tmp_path: Path) -> None:
    said = StringIO()
    job = trained(a_fit(tmp_path, epochs=2), said=said)
    lines = said.getvalue().splitlines()
    assert [line.split()[:3] for line in lines] == [["toy", "epoch", "1/2"], ["toy", "epoch", "2/2"]]
    assert lines[job.best_epoch - 1].endswith("*")


# Precision and processes


@pytest.mark.parametrize("precision", ["bf16", "64"])
def test_other_precisions_train_alike(tmp_path: Path, precision: str) -> None:
    plain = trained(a_fit(tmp_path / "plain", norm=True))
    other = trained(a_fit(tmp_path / precision, norm=True, precision=precision))
    assert [row["train/loss"] for row in other.history] == pytest.approx(
        [row["train/loss"] for row in plain.history], rel=0.05
    )
    kinds = {value.dtype for name, value in weights(other.model).items() if "num_batches" not in name}
    assert kinds == {torch.float64 if precision == "64" else torch.float32}


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"precision": "bf16"}, {"lr_scale": {"encoder.image": 0}}])
def test_gradient_checkpointing_changes_no_number(tmp_path: Path, options: dict[str, Any]) -> None:
    """With dropout, and with batch norms, whose statistics are updated once a step."""
    plain = trained(a_fit(tmp_path / "plain", norm=True, epochs=2, **options))
    checkpointed = trained(a_fit(tmp_path / "less", norm=True, epochs=2, gradient_checkpointing=True, **options))
    assert all(encoder.checkpointing for encoder in checkpointed.model.encoders.values())
    assert_same(plain, checkpointed)


SCRIPT = """
import sys
from pathlib import Path
import numpy as np, torch
from functools import partial
from io import StringIO
from lightning.fabric import Fabric
from rich.console import Console
from fusionkit_fakes import Cat, Conv, Jitter, Linear, Toy, Weighted
from fusionkit.evaluation import evaluate, in_order
from fusionkit.flow import Task
from fusionkit.loading import Samples
from fusionkit.model import Blueprint
from fusionkit.progress import Progress
from fusionkit.sections import Balance, Stage, Train
from fusionkit.trainer import Fit, fit

folder, devices, parts = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
fabric = Fabric(accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto")
fabric.launch()
task = Task("classification", ("a", "b", "c"), (1, 1, 1))
toy = Toy(samples=75)
inputs = {name: spec for name, spec in toy.inputs().items() if name != "steps"}
index = toy.index()
job = Fit(
    name="toy", model=Blueprint(inputs, {"image": Conv, "vector": Linear}, Cat, Cat, task).build({}),
    losses={"weighted": (Weighted(task), 1.0)}, samples=Samples(toy, index.targets, inputs, [Jitter(inputs)], 0),
    train=np.flatnonzero(index.split == "train"), val=np.flatnonzero(index.split == "val"), ids=index.ids,
    settings=Train(
        epochs=3, lr=0.01, accumulate=parts, optimizer="sgd", balance=Balance(), gradient_checkpointing=devices > 1,
        stages=[Stage(epochs=1, lr_scale={"encoder.image": 0.0}), Stage()], grad_clip=0.3,
    ),
    batch_size=7, workers=0, seed=0, folder=folder,
)
objective = fit(job, fabric, Progress(Console(file=StringIO())))
test = np.flatnonzero(index.split == "test")
found = evaluate(objective, in_order(job.samples, test, fabric, 7, 0), fabric, index.targets)
if fabric.is_global_zero:
    names = ("train/loss", "val/loss", "val/oa", "balance/image", "balance/vector")
    figures = [[row[name] for name in names] for row in job.history]
    weights = torch.cat([value.flatten().float() for value in job.model.state_dict().values()]).numpy()
    np.savez(folder / "answer.npz", index=found.index, answers=found.answers, figures=figures,
             weights=weights, test=test, seen=job.seen, best=job.best_epoch)
if devices > 1:
    torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    paths = os.pathsep.join([str(Path(__file__).parents[1] / "fakes"), os.environ.get("PYTHONPATH", "")])
    answers = []
    for devices, parts in [(1, 1), (2, 2)]:
        folder = tmp_path / f"{devices}-{parts}"
        folder.mkdir()
        words = [sys.executable, str(script), str(folder), str(devices), str(parts)]
        done = subprocess.run(
            words, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        with np.load(folder / "answer.npz") as held:
            answers.append(dict(held))
    one, two = answers
    assert two["index"].tolist() == one["index"].tolist() == one["test"].tolist()
    np.testing.assert_allclose(two["answers"], one["answers"], atol=1e-4)
    np.testing.assert_allclose(two["weights"], one["weights"], atol=1e-4)
    np.testing.assert_allclose(two["figures"], one["figures"], atol=1e-4)
    assert (two["seen"], two["best"]) == (one["seen"], one["best"])
