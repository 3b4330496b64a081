"""What every loss has to keep, rule by rule. Each check takes a `LossSubject` and raises a `Fault`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from fusionkit.contract import Loss
from fusionkit.flow import Batch, Output, Task
from fusionkit.testing.fault import Fault
from fusionkit.testing.registered import unregistered

SIZE = 12
TASK = Task("classification", ("a", "b", "c"), (6, 3, 3))


@dataclass
class LossSubject:
    """A loss and what it reads.

    Args:
        make: makes the loss for a task.
        loss: one of them.
    """

    make: Callable[[Task], Loss]
    loss: Loss

    @classmethod
    def of(cls, make: Callable[[Task], Loss]) -> LossSubject:
        torch.manual_seed(0)
        return cls(make, make(TASK).eval())

    def output(self, scale: float = 1.0) -> Output:
        """A prediction of two branches and a fusion, with the penalty that the loss asks for."""
        generator = torch.Generator().manual_seed(1)

        def random(*shape: int) -> Tensor:
            return (scale * torch.randn(*shape, generator=generator)).requires_grad_()

        penalty = self.loss.needs_penalty
        return Output(
            logits=random(SIZE, 3),
            fused=random(SIZE, 8),
            embeddings={"image": random(SIZE, 8), "lidar": random(SIZE, 8)},
            branch_logits={"image": random(SIZE, 3), "lidar": random(SIZE, 3)},
            penalties={penalty: torch.tensor(1.5, requires_grad=True)} if penalty else {},
        )

    def batch(self) -> Batch:
        everybody = torch.ones(SIZE, dtype=torch.bool)
        return Batch(
            inputs={},
            present={"image": everybody, "lidar": everybody},
            target=torch.arange(SIZE) % 3,
            index=torch.arange(SIZE),
        )

    def value(self, output: Output, rows: Any = slice(None)) -> Tensor:
        return self.loss(output_of(output, rows), self.batch().map(itemgetter(rows)))


def output_of(output: Output, rows: Any) -> Output:
    """The prediction of some of the samples."""
    return Output(
        output.logits[rows],
        output.fused[rows],
        {name: value[rows] for name, value in output.embeddings.items()},
        {name: value[rows] for name, value in output.branch_logits.items()},
        penalties=output.penalties,
    )


def it_is_a_number(subject: LossSubject) -> None:
    """The value is one finite number."""
    value = subject.value(subject.output())
    if value.dim() or not value.isfinite():
        raise Fault("it_is_a_number", f"it returns {list(value.shape)}, {value.tolist()}, not one finite number")


def a_gradient_comes_back(subject: LossSubject) -> None:
    """Something of the prediction gets a gradient, and only finite ones."""
    output = subject.output()
    subject.value(output).backward()
    gradients = [tensor.grad for tensor in _tensors(output) if tensor.grad is not None]
    if not any(gradient.any() for gradient in gradients):
        raise Fault("a_gradient_comes_back", "no gradient reaches the prediction; what is detached?")
    if not all(gradient.isfinite().all() for gradient in gradients):
        raise Fault("a_gradient_comes_back", "a gradient is no number")


def parts_add_up(subject: LossSubject) -> None:
    """The value of a batch is the mean of its parts', weighted by `count`: so a batch may be computed in parts."""
    if not subject.loss.reads_logits_alone:
        return  # contrastive terms compare the samples of a batch with each other
    output, batch = subject.output(), subject.batch()
    parts = [slice(0, 5), slice(5, SIZE)]
    counts = [float(subject.loss.count(batch.map(itemgetter(part)))) for part in parts]
    shares = [count * subject.value(output, part).item() for count, part in zip(counts, parts, strict=True)]
    whole = subject.value(output).item()
    if abs(sum(shares) / sum(counts) - whole) > 1e-5 * max(1.0, abs(whole)):
        raise Fault("parts_add_up", "the parts of a batch do not add up to the whole; see Loss.count")


def order_does_not_matter(subject: LossSubject) -> None:
    """The value does not depend on the order of the samples."""
    output = subject.output()
    turned = subject.value(output, torch.arange(SIZE - 1, -1, -1))
    if not torch.allclose(turned, subject.value(output), rtol=1e-5, atol=1e-6):
        raise Fault("order_does_not_matter", "the same samples in another order give another value")


def great_logits_are_survived(subject: LossSubject) -> None:
    """A prediction that is very sure, and wrong, gives a number."""
    if not subject.value(subject.output(scale=1e4)).isfinite():
        raise Fault("great_logits_are_survived", "logits of 10,000 give no number; use log_softmax")


def a_batch_of_one_is_enough(subject: LossSubject) -> None:
    """A single sample gives a number."""
    if not subject.value(subject.output(), slice(0, 1)).isfinite():
        raise Fault("a_batch_of_one_is_enough", "a single sample gives no number")


def the_prediction_is_left_alone(subject: LossSubject) -> None:
    """The prediction is not written to."""
    output = subject.output()
    with torch.no_grad():
        subject.value(output)
    if any(tensor._version for tensor in _tensors(output)):
        raise Fault("the_prediction_is_left_alone", "the prediction is changed in place")


def sixteen_bits_are_enough(subject: LossSubject) -> None:
    """Predictions in sixteen bits, as mixed precision makes them, give a number."""
    for dtype in (torch.bfloat16, torch.float16):
        output, batch = subject.output(), subject.batch()

        def narrow(tensors: dict[str, Tensor], dtype: torch.dtype = dtype) -> dict[str, Tensor]:
            return {name: tensor.to(dtype) for name, tensor in tensors.items()}

        given = Output(
            output.logits.to(dtype),
            output.fused.to(dtype),
            narrow(output.embeddings),
            narrow(output.branch_logits),
            penalties=narrow(output.penalties),
        )
        with torch.autocast("cpu", dtype):
            value = subject.loss(given, batch)
        if not value.isfinite():
            raise Fault("sixteen_bits_are_enough", f"a prediction in {dtype} gives no number".replace("torch.", ""))


def the_penalty_is_read(subject: LossSubject) -> None:
    """A loss that asks a fusion for a penalty reads it."""
    name = subject.loss.needs_penalty
    if name is None:
        return
    output = subject.output()
    value = subject.value(output)
    gradient = torch.autograd.grad(value, output.penalties[name], allow_unused=True)[0] if value.requires_grad else None
    if gradient is None or not gradient.any():
        raise Fault("the_penalty_is_read", f"it needs the penalty {name!r} of a fusion and does not read it")


def weights_travel(subject: LossSubject) -> None:
    """A fresh loss with the state of this one gives what this one gives."""
    if unregistered(subject.loss):
        return  # told by its own check
    torch.manual_seed(1)
    other = subject.make(TASK).eval()
    other.load_state_dict(copy.deepcopy(subject.loss.state_dict()))
    output = subject.output()
    if not torch.allclose(other(output, subject.batch()), subject.value(output)):
        raise Fault("weights_travel", "a fresh loss with the same state_dict gives another value")


def every_tensor_is_registered(subject: LossSubject) -> None:
    """Weights move to the device and into the checkpoint with the loss."""
    if hidden := unregistered(subject.loss):
        raise Fault("every_tensor_is_registered", f"{', '.join(hidden[:4])} is not registered; use register_buffer")


CHECKS: tuple[Callable[[LossSubject], None], ...] = (
    it_is_a_number,
    a_gradient_comes_back,
    parts_add_up,
    order_does_not_matter,
    great_logits_are_survived,
    a_batch_of_one_is_enough,
    the_prediction_is_left_alone,
    sixteen_bits_are_enough,
    the_penalty_is_read,
    weights_travel,
    every_tensor_is_registered,
)


def _tensors(output: Output) -> list[Tensor]:
    named = (output.embeddings, output.branch_logits, output.penalties)
    return [output.logits, output.fused, *(tensor for tensors in named for tensor in tensors.values())]
