"""What every mixing of batches has to keep, rule by rule. Each check takes a `MixingSubject` and raises a `Fault`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from fusionkit.contract import Mixing
from fusionkit.flow import Batch, InputSpec, Task
from fusionkit.randomness import generator, key
from fusionkit.testing.augmentations import DRAWS, MOST_DRAWS, among, decided_by_the_generator, seeded
from fusionkit.testing.fault import Fault

SIZE = 8
TASK = Task("classification", tuple("abcdefgh"), (1,) * SIZE, SIZE)
"""Each sample is of a class of its own, so that the mixed target tells who is mixed with whom, and how much."""
NUMBERS = torch.tensor([3.0, 14.0, 15.0, 92.0, 65.0, 35.0, 89.0, 79.0])
"""What stands in all inputs of each sample where that is to tell the same."""


@dataclass
class MixingSubject:
    """A mixing and the modalities among which it is tried.

    Args:
        mixing: the mixing.
        inputs: the shapes of the modalities.
    """

    mixing: Mixing
    inputs: Mapping[str, InputSpec]

    @classmethod
    def of(cls, make: Callable[..., Mixing], inputs: Mapping[str, InputSpec] | None = None) -> MixingSubject:
        """The mixing of classes among these modalities; by default among those of `testing.augmentations`.

        Raises:
            RequestError: it refuses them.
        """
        return cls(*among(make, inputs, TASK))

    def batch(self, under: float | None = None) -> Batch:
        """Eight samples of random numbers.

        Args:
            under: where given, some samples lack a modality, some maps are masked and some sequences are shorter, and
                this stands there.
        """
        batch = self._batch({name: torch.randn(SIZE, *spec.shape, generator=_of(name)) for name, spec in self._read()})
        if under is None:
            return batch
        for number, (name, spec) in enumerate(self._read()):
            present = torch.arange(SIZE) % 4 != number % 4
            hidden = ~present.reshape(-1, *[1] * len(spec.shape)).expand(SIZE, *spec.shape)
            if spec.ragged:
                batch.valid[name] = torch.arange(spec.shape[0]) < 1 + torch.arange(SIZE).unsqueeze(1) % spec.shape[0]
                hidden = hidden | ~batch.valid[name].unsqueeze(2)
            elif len(spec.shape) >= 3 and not spec.counts:
                batch.valid[name] = torch.rand(SIZE, *spec.shape, generator=_of(name)) < 0.6
                hidden = hidden | ~batch.valid[name]
            batch.present[name] = present
            batch.inputs[name] = batch.inputs[name].masked_fill(hidden, under)
        return batch

    def telling(self) -> Batch:
        """Eight samples, each of one number everywhere."""
        return self._batch(
            {name: NUMBERS.reshape(-1, *[1] * len(spec.shape)).repeat(1, *spec.shape) for name, spec in self._read()}
        )

    def run(self, batch: Batch, draw: int = 0, elsewhere: int = 0) -> Batch:
        """What becomes of a copy, with the process's generators seeded by `elsewhere`; see `AugmentationSubject`."""
        with seeded(elsewhere):
            return self.mixing(copy.deepcopy(batch), generator("draw", draw))

    def _read(self) -> list[tuple[str, InputSpec]]:
        """What models read as numbers."""
        return [(name, spec) for name, spec in self.inputs.items() if not spec.text]

    def _batch(self, inputs: dict[str, Tensor]) -> Batch:
        everybody, index = torch.ones(SIZE, dtype=torch.bool), torch.arange(SIZE)
        valid = {name: torch.ones(SIZE, spec.shape[0], dtype=torch.bool) for name, spec in self._read() if spec.ragged}
        return Batch(inputs, dict.fromkeys(inputs, everybody), index.clone(), index, valid)


def the_generator_decides(subject: MixingSubject) -> None:
    """The same generator gives the same result, whatever was drawn elsewhere and whichever batches came before."""
    decided_by_the_generator(partial(subject.run, subject.batch()), _same)


def shapes_and_types_are_kept(subject: MixingSubject) -> None:
    """Inputs and masks keep their shapes and, unless they become float32, their types; samples keep their places."""
    for batch, draw in product((subject.batch(), subject.batch(under=0.0)), DRAWS):
        found = subject.run(batch, draw)
        for what in ("inputs", "present", "valid"):
            given, made = getattr(batch, what), getattr(found, what)
            if given.keys() != made.keys():
                raise Fault("shapes_and_types_are_kept", f"{what} of {sorted(given)} become those of {sorted(made)}")
            for name, tensor in made.items():
                if tensor.shape != given[name].shape or tensor.dtype not in (given[name].dtype, torch.float32):
                    raise Fault(
                        "shapes_and_types_are_kept",
                        f"{what} of {name}, {_kind(given[name])}, become {_kind(tensor)}",
                    )
        if not torch.equal(found.index, batch.index):
            raise Fault("shapes_and_types_are_kept", "the samples change their places; leave `index` as it is")
        if found.target.shape not in ((SIZE,), (SIZE, SIZE)):
            raise Fault("shapes_and_types_are_kept", f"the targets become {_kind(found.target)}, not shares of classes")


def the_batch_is_left_alone(subject: MixingSubject) -> None:
    """The batch that it is given is not written to."""
    for under, draw in product((None, 0.0), DRAWS):
        batch = subject.batch(under)
        subject.mixing(batch, generator("draw", draw))
        if not _same(batch, subject.batch(under)):
            raise Fault("the_batch_is_left_alone", "the batch is changed in place; make new tensors")


def absent_stays_absent(subject: MixingSubject) -> None:
    """Who lacks a modality lacks it afterwards, and nobody else does."""
    batch = subject.batch(under=0.0)
    for draw in DRAWS:
        found = subject.run(batch, draw)
        if changed := [name for name in batch.present if not torch.equal(found.present[name], batch.present[name])]:
            raise Fault("absent_stays_absent", f"another sample than before has {changed[0]}; leave `present` as it is")


def what_is_not_there_means_nothing(subject: MixingSubject) -> None:
    """What stands in the slots of absent modalities, under masks and in padding changes nothing that is there."""
    for draw in DRAWS:
        one, other = (subject.run(subject.batch(under), draw) for under in (torch.nan, 7.0))
        if not _same(_there(one), _there(other)):
            raise Fault(
                "what_is_not_there_means_nothing",
                "absent, masked or padded values are mixed into others; mix samples of the same modalities, and where "
                "one of two has no value there, take the other's",
            )


def modalities_are_mixed_alike(subject: MixingSubject) -> None:
    """All modalities of a sample have the same partner and the same coefficient."""
    for draw in DRAWS:
        means = _means(subject.run(subject.telling(), draw))
        first, mean = next(iter(means.items()))
        for name, other in means.items():
            if not torch.allclose(other, mean, rtol=1e-4):
                raise Fault(
                    "modalities_are_mixed_alike",
                    f"{name} is mixed with another sample, or in another share, than {first}",
                )


def targets_are_mixed_as_inputs(subject: MixingSubject) -> None:
    """The target of a sample has the share of each class that its inputs have."""
    for draw in DRAWS:
        batch = subject.run(subject.telling(), draw)
        numbers = NUMBERS[batch.target] if batch.target.dim() == 1 else batch.target.float() @ NUMBERS
        means = list(_means(batch).values())
        if not all(torch.allclose(mean, means[0], rtol=1e-4) for mean in means):
            return  # told by its own check
        if not torch.allclose(means[0], numbers, rtol=1e-4):
            raise Fault("targets_are_mixed_as_inputs", "the targets do not have the shares that the inputs have")


def it_changes_something(subject: MixingSubject) -> None:
    """Some batches come back mixed."""
    batch = subject.batch()
    if all(_same(subject.run(batch, draw), batch) for draw in MOST_DRAWS):
        raise Fault("it_changes_something", f"{len(MOST_DRAWS)} batches come back as they were")


CHECKS: tuple[Callable[[MixingSubject], None], ...] = (
    the_generator_decides,
    shapes_and_types_are_kept,
    the_batch_is_left_alone,
    absent_stays_absent,
    what_is_not_there_means_nothing,
    modalities_are_mixed_alike,
    targets_are_mixed_as_inputs,
    it_changes_something,
)


def _of(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(key(name) % 2**63)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _means(batch: Batch) -> dict[str, Float[Tensor, " B"]]:
    """The mean over all of a modality, of each sample."""
    return {name: value.double().flatten(1).mean(1).float() for name, value in batch.inputs.items()}


def _there(batch: Batch) -> Batch:
    """The batch with zeros wherever nothing is."""
    inputs, masks = {}, {}
    for name, value in batch.inputs.items():
        there = batch.present[name].reshape(-1, *[1] * (value.dim() - 1)).expand_as(value)
        if (valid := batch.valid.get(name)) is not None:
            masks[name] = valid & batch.present[name].reshape(-1, *[1] * (valid.dim() - 1))
            there = there & (valid if valid.dim() == value.dim() else valid.unsqueeze(2))
        inputs[name] = value.where(there, 0)
    return replace(batch, inputs=inputs, valid=masks)


def _same(one: Batch, other: Batch) -> bool:
    parts = (one.inputs, other.inputs), (one.present, other.present), (one.valid, other.valid)
    if any(first.keys() != second.keys() for first, second in parts):
        return False
    pairs = [(first[name], second[name]) for first, second in parts for name in first]
    pairs += [(one.target, other.target), (one.index, other.index)]
    return all(torch.equal(first, second) for first, second in pairs)
