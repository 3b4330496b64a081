"""A step of the optimiser: the gradient of the whole batch however it is cut, and what stops it."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from fusionkit_fakes import Entropy, Weighted
from torch.nn import functional as F
from toy_fits import TASK, Kill, Killed, a_fit, trained, weights

from fusionkit.contract import Loss
from fusionkit.errors import FusionkitError
from fusionkit.flow import Batch, Output
from fusionkit.step import cut
from fusionkit.trainer import Fit

# What a step is


def first_step(folder: Path, **options: Any) -> tuple[dict[str, torch.Tensor], Fit]:
    """How far each weight goes in the first of some steps of plain gradient descent, times -1 / lr: the gradient."""
    told = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "lr": 1.0, "schedule": "constant", "dropout": 0.0}
    job = a_fit(folder, **(told | options))
    before = weights(job.model)
    with pytest.raises(Killed):
        trained(job, Kill(step=1))
    return {name: before[name] - value for name, value in weights(job.model).items()}, job


def by_hand(job: Fit) -> dict[str, torch.Tensor]:
    """The gradient of the first batch, by autograd alone."""
    from fusionkit.loading import Batches

    fresh = a_fit(job.folder, dropout=0.0).model
    order = Batches(job.train, job.batch_size, seed=job.seed)
    order.epoch = 0
    batch = job.samples.__getitems__(next(iter(order)))
    loss = job.losses["entropy"][0]
    weights = torch.tensor(loss.weights) if isinstance(loss, Weighted) else None
    F.cross_entropy(fresh.train()(batch).logits, batch.target, weights).backward()
    return {name: parameter.grad for name, parameter in fresh.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("loss", [Entropy, Weighted])
@pytest.mark.parametrize("parts", [1, 2, 3, 4, 50])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(tmp_path: Path, parts: int, loss: type[Loss]) -> None:
    gradient, job = first_step(tmp_path, accumulate=parts, losses={"entropy": (loss(TASK), 1.0)})
    expected = by_hand(job)
    assert expected.keys() == {name for name, _ in job.model.named_parameters()}
    for name, value in expected.items():
        torch.testing.assert_close(gradient[name], value, atol=1e-6, rtol=1e-6)


def test_no_part_is_too_small_for_a_batch_norm() -> None:
    batch = Batch({}, {}, torch.arange(9), torch.arange(9))
    assert [part.index.tolist() for part in cut(batch, 4)] == [[0, 1], [2, 3], [4, 5], [6, 7, 8]]
    assert [len(part) for part in cut(batch, 100)] == [2, 2, 2, 3]
    assert [len(part) for part in cut(batch.map(lambda tensor: tensor[:1]), 100)] == [1]
    assert cut(batch, 1)[0].index.tolist() == list(range(9))


class Hungry(Entropy):
    """Runs out of memory with more than so many samples."""

    room = 3

    def forward(self, output: Output, batch: Batch) -> torch.Tensor:
        if self.training and len(batch) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(output, batch)


def test_full_memory_changes_no_gradient(tmp_path: Path) -> None:
    gradient, job = first_step(tmp_path, losses={"entropy": (Hungry(TASK), 1.0)})
    assert job.parts == 4
    for name, value in by_hand(job).items():
        torch.testing.assert_close(gradient[name], value, atol=1e-6, rtol=1e-6)


def test_full_memory_is_told_and_remembered(tmp_path: Path) -> None:
    said = StringIO()
    losses = {"entropy": (Hungry(TASK), 1.0)}
    with pytest.raises(Killed):
        trained(a_fit(tmp_path, losses=losses, dropout=0.0), Kill(epoch=1), said=said)
    told = [line for line in said.getvalue().splitlines() if "memory is full" in line]
    assert len(told) == 2  # from one part to two, from two to four, and no more after that
    assert "computed in 4 parts" in told[1]
    said = StringIO()
    resumed = trained(a_fit(tmp_path, losses=losses, dropout=0.0), said=said)
    assert "memory is full" not in said.getvalue()
    plain = trained(a_fit(tmp_path / "plain", dropout=0.0))
    for name, value in weights(resumed.model).items():
        torch.testing.assert_close(value, weights(plain.model)[name], atol=1e-4, rtol=1e-3)


def test_memory_that_is_never_enough_ends_the_work(tmp_path: Path) -> None:
    class Starved(Hungry):
        room = 1

    with pytest.raises(torch.OutOfMemoryError):
        trained(a_fit(tmp_path, losses={"entropy": (Starved(TASK), 1.0)}))


def test_the_gradient_is_clipped_to_its_norm(tmp_path: Path) -> None:
    def norm(gradient: dict[str, torch.Tensor]) -> float:
        return float(torch.cat([value.flatten() for value in gradient.values()]).norm())

    free, _ = first_step(tmp_path / "free")
    clipped, _ = first_step(tmp_path / "clipped", grad_clip=0.05)
    assert norm(free) > 0.1
    assert norm(clipped) == pytest.approx(0.05, rel=1e-3)
    for name, value in free.items():
        torch.testing.assert_close(clipped[name], value * 0.05 / norm(free), atol=1e-6, rtol=1e-3)


def test_terms_are_weighted(tmp_path: Path) -> None:
    plain, _ = first_step(tmp_path / "plain")
    losses = {"entropy": (Entropy(TASK), 0.5), "again": (Entropy(TASK), 0.25), "unused": (Entropy(TASK), 0.0)}
    weighted, _ = first_step(tmp_path / "weighted", losses=losses)
    for name, value in plain.items():
        torch.testing.assert_close(weighted[name], 0.75 * value)
    row = trained(a_fit(tmp_path / "row", losses=losses, epochs=1)).history[0]
    for part in ("train", "val"):
        assert row[f"{part}/loss"] == pytest.approx(0.75 * row[f"{part}/entropy"])
        assert row[f"{part}/unused"] == pytest.approx(row[f"{part}/entropy"])


def test_parts_go_at_their_own_rate_and_frozen_ones_stay(tmp_path: Path) -> None:
    plain, _ = first_step(tmp_path / "plain", norm=True)
    scaled, _ = first_step(tmp_path / "scaled", norm=True, lr_scale={"encoder.vector": 0.1, "head": 0.0})
    for name, value in plain.items():
        factor = 0.1 if "vector" in name else 0 if name.startswith("head") else 1
        if "num_batches" not in name:
            torch.testing.assert_close(scaled[name], factor * value, atol=1e-6, rtol=1e-5)


# What goes wrong


def test_a_loss_that_is_no_number_is_told_with_term_epoch_and_samples(tmp_path: Path) -> None:
    losses: dict[str, tuple[Loss, float]] = {
        "entropy": (Entropy(TASK), 1.0),
        "second": (Entropy(TASK, poison=7), 1.0),  # in the second step of the second epoch
    }
    with pytest.raises(FusionkitError) as told:
        trained(a_fit(tmp_path, losses=losses))
    message = str(told.value)
    assert "the loss is no number in epoch 2, step 7 (second is nan) for the samples s" in message
    samples = message.split("for the samples ")[1].split(";")[0].split(", ")
    assert len(samples) == len(set(samples)) == 7
    assert {int(name[1:]) for name in samples} <= set(a_fit(tmp_path).train.tolist())
    assert f"The last good checkpoint is {tmp_path / 'last.ckpt'}" in message
    held = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert held["progress"]["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in held["objective"].values())


def test_no_checkpoint_is_promised_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(FusionkitError) as told:
        trained(a_fit(tmp_path, losses={"entropy": (Entropy(TASK, poison=1), 1.0)}))
    assert "checkpoint" not in str(told.value)


class Steep(Loss):
    """Zero, with an infinite slope."""

    def forward(self, output: Output, batch: Batch) -> torch.Tensor:
        return (output.logits - output.logits.detach()).square().sum().sqrt()


def test_a_gradient_that_is_no_number_is_told(tmp_path: Path) -> None:
    with pytest.raises(FusionkitError, match="the gradient is no number in epoch 1, step 1"):
        trained(a_fit(tmp_path, losses={"steep": (Steep(TASK), 1.0)}, grad_clip=1.0))


def test_a_prediction_that_is_no_number_is_told(tmp_path: Path) -> None:
    class Spoil:
        def on_step_end(self, job: Fit, terms: dict[str, float]) -> None:
            if job.step == 5:
                job.model.head.weight.data.fill_(float("nan"))

    with pytest.raises(FusionkitError, match="the prediction is no number for 6 of 6 samples held out"):
        trained(a_fit(tmp_path), Spoil())
