"""What every loss has to keep, rule by rule. Each check takes a `LossSubject` and raises a `Fault`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter, methodcaller
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from fusionkit.contract import Loss
from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import Batch, Output, Task
from fusionkit.testing.fault import Fault
from fusionkit.testing.registered import unregistered

SIZE = 12
TASKS = {
    "classification": Task("classification", ("a", "b", "c"), (6, 3, 3), SIZE),
    "multilabel": Task("multilabel", ("a", "b", "c"), (6, 3, 3), SIZE),
    # These are corners of boxes too, for losses of boxes.
    "regression": Task(
        "regression", ("x1", "y1", "x2", "y2"), (), SIZE, (10.0, 20.0, 30.0, 40.0), (1.0, 2.0, 3.0, 4.0)
    ),
}
TASKS["grounding"] = Task("grounding", ("x1", "y1", "x2", "y2"), (), SIZE)
TASKS["retrieval"] = replace(TASKS["classification"], kind="retrieval")
WIDTHS = {"image": 8, "text": 6}


@dataclass
class LossSubject:
    """A loss and what it reads.

    Args:
        make: makes the loss for a task.
        task: what is predicted.
        mixed: True for shares of the classes as targets, as of mixed samples.
        widths: of the modalities' embeddings.
        loss: one of them, fitted to the predictions.
    """

    make: Callable[[Task], Loss]
    task: Task = TASKS["classification"]
    mixed: bool = False
    widths: Mapping[str, int] = field(default_factory=lambda: WIDTHS)
    loss: Loss = field(init=False)

    def __post_init__(self) -> None:
        self.loss = self.fresh(seed=0)

    @classmethod
    def of(cls, make: Callable[[Task], Loss], task: Task = TASKS["classification"], mixed: bool = False) -> LossSubject:
        """The loss beside embeddings of different widths; of one width where it refuses those."""
        try:
            return cls(make, task, mixed)
        except ShapeError:
            return cls(make, task, mixed, dict.fromkeys(WIDTHS, 8))

    def fresh(self, seed: int) -> Loss:
        """A loss with weights of its own."""
        torch.manual_seed(seed)
        loss = self.make(self.task).eval()
        loss.fit_to(_changed(self._output(loss), lambda tensor: tensor.detach().to("meta")))
        return loss

    def output(self, scale: float = 1.0, seed: int = 1) -> Output:
        """A prediction of two branches and a fusion, with the penalty and the teacher that the loss asks for."""
        return self._output(self.loss, scale, seed)

    def _output(self, loss: Loss, scale: float = 1.0, seed: int = 1) -> Output:
        generator = torch.Generator().manual_seed(seed)

        def random(width: int) -> Tensor:
            return (scale * torch.randn(SIZE, width, generator=generator)).requires_grad_()

        def prediction() -> Output:
            return Output(
                logits=random(self.task.outputs),
                fused=random(8),
                embeddings={name: random(width) for name, width in self.widths.items()},
                branch_logits={name: random(self.task.outputs) for name in self.widths},
                stage_logits={"early": random(self.task.outputs)},
            )

        output = prediction()
        if loss.needs_penalty:
            output.penalties = {loss.needs_penalty: torch.tensor(0.5 + seed, requires_grad=True)}
        if loss.teacher:
            output.teachers = {loss.teacher: _changed(prediction(), Tensor.detach)}
        return output

    def batch(self, present: Mapping[str, Bool[Tensor, " B"]] | None = None) -> Batch:
        """The samples, by default with all modalities; two and two of them show the same thing."""
        index = torch.arange(SIZE)
        everybody = torch.ones(SIZE, dtype=torch.bool)
        return Batch(
            inputs={},
            present=dict(present or dict.fromkeys(self.widths, everybody)),
            target=self._target(),
            index=index,
            group=index % 6,
        )

    def _target(self) -> Tensor:
        values = torch.randn(SIZE, self.task.outputs, generator=torch.Generator().manual_seed(2))
        if self.task.kind == "regression":
            return values
        if self.task.kind == "grounding":
            return values.sigmoid()
        if self.task.kind == "multilabel":
            return (values > 0).float()
        return values.softmax(1) if self.mixed else torch.arange(SIZE) % 3

    def value(self, output: Output, rows: Any = slice(None), batch: Batch | None = None) -> Tensor:
        """Of some of the samples."""
        take = itemgetter(rows)
        teachers = {name: teacher.map(take) for name, teacher in output.teachers.items()}
        return self.loss(replace(output.map(take), teachers=teachers), (batch or self.batch()).map(take))


def subjects(
    kind: type[Loss], options: Mapping[str, Any] | None = None
) -> tuple[dict[str, LossSubject], dict[str, str]]:
    """The loss with each kind of task that it names, and why it refuses others of them.

    Raises:
        Fault: it can neither be made nor refuses.
    """
    taken: dict[str, LossSubject] = {}
    refused: dict[str, str] = {}
    make = partial(kind, **(options or {}))
    for name in kind.tasks:
        try:
            taken[name] = LossSubject.of(make, TASKS[name])
            if name == "classification" and taken[name].loss.takes_mixed:
                taken["classification of mixed samples"] = LossSubject.of(make, TASKS[name], mixed=True)
        except RequestError as error:
            refused[name] = str(error)
        except Exception as error:  # a stranger's class may raise anything
            line = next(iter(str(error).strip().splitlines()), "")
            raise Fault("it_can_be_made", f"{name}: it fails with {type(error).__name__}: {line}") from error
    return taken, refused


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
    if subject.loss.compares_samples:
        return
    output = subject.output()
    parts = [slice(0, 5), slice(5, SIZE)]
    for batch, what in ((subject.batch(), ""), (subject.batch(_some()), " where modalities are absent")):
        counts = [float(subject.loss.count(batch.map(itemgetter(part)))) for part in parts]
        values = [subject.value(output, part, batch).item() for part in parts]
        whole = subject.value(output, batch=batch).item()
        total = sum(count * value for count, value in zip(counts, values, strict=True))
        if abs(total / sum(counts) - whole) > 1e-5 * max(1.0, abs(whole)):
            raise Fault("parts_add_up", f"the parts of a batch do not add up to the whole{what}; see Loss.count")


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


def absent_modalities_mean_nothing(subject: LossSubject) -> None:
    """What stands in the slot of an absent modality changes nothing, even if it is no number, and learns nothing."""
    batch = subject.batch(_some())
    expected = subject.value(subject.output(), batch=batch)
    for content in (0.0, 7.0, torch.nan, torch.inf):
        output = _filled(subject.output(), batch.present, content)
        value = subject.value(output, batch=batch)
        if not torch.allclose(value, expected):
            raise Fault("absent_modalities_mean_nothing", f"{content} in the slot of an absent modality changes it")
        value.backward()
        for slots in (output.embeddings, output.branch_logits):
            if any(t.grad is not None and t.grad[~batch.present[name]].any() for name, t in slots.items()):
                raise Fault("absent_modalities_mean_nothing", "the slot of an absent modality gets a gradient")
        if not all(t.grad.isfinite().all() for t in _tensors(output) if t.grad is not None):
            raise Fault(
                "absent_modalities_mean_nothing",
                f"{content} in the slot of an absent modality makes a gradient that is no number; fill it beforehand",
            )


def nothing_gives_zero(subject: LossSubject) -> None:
    """Without any modality there is a number; where nothing is left to count, zero with a graph."""
    batch = subject.batch({name: torch.zeros(SIZE, dtype=torch.bool) for name in subject.widths})
    value = subject.value(subject.output(), batch=batch)
    if not value.isfinite():
        raise Fault("nothing_gives_zero", "samples without any modality give no number")
    if not float(subject.loss.count(batch)) and (value.item() or not value.requires_grad):
        raise Fault("nothing_gives_zero", "over nothing it has to be zero with a graph, for example logits.sum() * 0")


def it_asks_for_what_it_reads(subject: LossSubject) -> None:
    """Predictions of branches and stages that it does not ask for do not change it."""
    output = subject.output()
    bare = replace(
        output,
        branch_logits=output.branch_logits if subject.loss.needs_branches else {},
        stage_logits=output.stage_logits if subject.loss.needs_stages else {},
    )
    if not torch.allclose(subject.value(bare), subject.value(output)):
        raise Fault("it_asks_for_what_it_reads", "it reads branches or stages; set needs_branches or needs_stages")


def logits_alone_are_read(subject: LossSubject) -> None:
    """A loss that says `reads_logits_alone` reads nothing else of the prediction."""
    if not subject.loss.reads_logits_alone:
        return
    output = subject.output()
    other = replace(subject.output(seed=3), logits=output.logits)
    if not torch.allclose(subject.value(other), subject.value(output)):
        raise Fault("logits_alone_are_read", "it reads more than the logits; leave reads_logits_alone out")


def the_prediction_is_left_alone(subject: LossSubject) -> None:
    """Neither the prediction nor the batch is written to."""
    output, batch = subject.output(), subject.batch()
    with torch.no_grad():
        subject.loss(output, batch)
    of_batch = [batch.target, batch.index, batch.group, *batch.present.values()]
    if any(tensor._version for tensor in [*_tensors(output), *of_batch] if tensor is not None):
        raise Fault("the_prediction_is_left_alone", "the prediction or the batch is changed in place")


def sixteen_bits_are_enough(subject: LossSubject) -> None:
    """Predictions in sixteen bits, as mixed precision makes them, give a number."""
    for dtype in (torch.bfloat16, torch.float16):
        output = _changed(subject.output(), methodcaller("to", dtype))
        with torch.autocast("cpu", dtype):
            value = subject.value(output)
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
    other = subject.fresh(seed=1)
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
    absent_modalities_mean_nothing,
    nothing_gives_zero,
    it_asks_for_what_it_reads,
    logits_alone_are_read,
    the_prediction_is_left_alone,
    sixteen_bits_are_enough,
    the_penalty_is_read,
    weights_travel,
    every_tensor_is_registered,
)


def _changed(output: Output, change: Callable[[Tensor], Tensor]) -> Output:
    """The prediction with every tensor changed alike, those of penalties and teachers too."""
    penalties = {name: change(penalty) for name, penalty in output.penalties.items()}
    teachers = {name: _changed(teacher, change) for name, teacher in output.teachers.items()}
    return replace(output.map(change), penalties=penalties, teachers=teachers)


def _filled(output: Output, present: Mapping[str, Bool[Tensor, " B"]], content: float) -> Output:
    """The prediction with something standing where modalities are absent."""

    def fill(slots: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: slot.detach().masked_fill(~present[name].unsqueeze(1), content).requires_grad_(slot.requires_grad)
            for name, slot in slots.items()
        }

    return replace(
        output,
        embeddings=fill(output.embeddings),
        branch_logits=fill(output.branch_logits),
        teachers={name: _filled(teacher, present, content) for name, teacher in output.teachers.items()},
    )


def _some() -> dict[str, Bool[Tensor, " B"]]:
    """Masks of samples that lack one modality here and there, but never both."""
    index = torch.arange(SIZE)
    return {"image": index % 4 != 1, "text": index % 5 != 2}


def _tensors(output: Output) -> list[Tensor]:
    found: list[Tensor] = []
    _changed(output, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found
