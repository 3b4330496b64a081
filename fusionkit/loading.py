"""From a dataset to batches: counted order, counted augmentation, one tensor a modality."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from fusionkit.contract import Augmentation, Dataset, Sample, Tokenizer
from fusionkit.errors import BadSample, FusionkitError
from fusionkit.estimates import group_numbers
from fusionkit.flow import Batch, InputSpec, Task
from fusionkit.kinds import KINDS
from fusionkit.processes import PATIENCE
from fusionkit.randomness import generator
from fusionkit.timelimit import read_within
from fusionkit.watch import Watch

EVALUATION = -1
"""The epoch of samples that are not augmented."""
_GREATEST = float(np.finfo(np.float32).max)
_KEPT = ("bool", "uint8", "int8", "int16", "int32", "float32")
"""The types that batches keep; all else becomes 32-bit floats, which is what a model computes with."""


def read_checked(dataset: Dataset, position: int, inputs: dict[str, InputSpec], timeout: float = 0) -> Sample:
    """Read one sample, restricted to `inputs`, and hold it against its spec.

    Args:
        dataset, position, inputs: what is read.
        timeout: in seconds, see `read_within`.

    Raises:
        BadSample: it cannot be read, or not in time, has another shape than promised, or holds what is no finite real
            number.
    """
    sample = read_within(timeout, lambda: dataset.read(position))
    checked: Sample = {name: settled(sample.get(name)) for name in inputs}
    for name, spec in inputs.items():
        hold_against(name, checked[name], spec)
    return checked


def settled(value: np.ndarray | None) -> np.ndarray | None:
    """A masked array where some of it is masked and some is not; None, absent, where nothing was measured."""
    if not isinstance(value, np.ma.MaskedArray) or value.size == 0:
        return value
    masked = np.ma.getmaskarray(value)
    return None if masked.all() else value if masked.any() else value.data


def hold_against(name: str, value: np.ndarray | None, spec: InputSpec) -> None:
    """Compare a value with what was promised of it; None, absent, is always right, and so is all that is masked.

    Raises:
        BadSample: it has another shape, is empty, has masked values and is no map, or holds what is no finite real
            number.
    """
    if value is None:
        return
    if spec.text:
        if value.shape != () or value.dtype.kind != "U":
            raise BadSample(f"{name} is {value.dtype} {value.shape}, not a text")
        if not str(value).strip():
            raise BadSample(f"{name} is an empty text")
        return
    fits = value.shape == spec.shape
    if spec.ragged:
        fits = value.shape[1:] == spec.shape[1:] and value.ndim > 0 and len(value) <= spec.shape[0]
    if not fits:
        raise BadSample(f"{name} is {' x '.join(map(str, value.shape)) or 'a single number'}, not {spec}")
    if value.size == 0:
        raise BadSample(f"{name} is empty")
    if np.ma.is_masked(value) and (spec.ragged or len(spec.shape) < 3):
        raise BadSample(f"{name} has masked values, which maps alone may have")
    if value.dtype.kind not in "biuf":
        raise BadSample(f"{name} holds {value.dtype}, not real numbers")
    if value.dtype.kind == "f":
        low, high = float(value.min()), float(value.max())  # both are NaN where any value is
        if np.isnan(low):
            raise BadSample(f"{name} holds NaN")
        if max(-low, high) > _GREATEST:
            raise BadSample(f"{name} holds infinity, or a number too great for 32 bits")


class Samples(TorchDataset[Batch]):
    """Makes whole batches from lists of `(epoch, position)`: what a worker needs to know travels with the request.

    Args:
        dataset: where samples are read.
        targets: of each sample of the index, as there.
        inputs: the modalities wanted.
        augmentations: applied in this order where the epoch is not `EVALUATION`.
        seed: of the augmentations.
        task: says what `Batch.target` holds of the targets; None: classes.
        groups: `Index.groups`.
        ids: of the samples, for messages; their positions where there are none.
        timeout: seconds that one sample may take to read; 0 is no limit.
        tokenizers: per modality of text, what makes tokens of it, after the augmentations.
        raters: `Index.raters`.
    """

    watch: Watch | None = None
    """In a loader process, what is told of each sample before it is read."""

    def __init__(
        self,
        dataset: Dataset,
        targets: np.ndarray,
        inputs: dict[str, InputSpec],
        augmentations: Sequence[Augmentation] = (),
        seed: int = 0,
        task: Task | None = None,
        groups: np.ndarray | None = None,
        ids: Sequence[str] | None = None,
        timeout: float = 0,
        tokenizers: Mapping[str, Tokenizer] | None = None,
        raters: np.ndarray | None = None,
    ):
        self.tokenizers = tokenizers or {}
        self.dataset, self.targets, self.inputs = dataset, targets, inputs
        self.ids, self.timeout, self.raters = ids, timeout, raters
        self.augmentations, self.seed = augmentations, seed
        self._encoded = targets.astype(np.int64) if task is None else KINDS[task.kind].encode(task, targets)
        self.groups = None if groups is None else group_numbers(groups, len(targets)).astype(np.int64)

    def __len__(self) -> int:
        return len(self.targets)

    def name(self, position: int) -> str:
        """A sample, for messages."""
        return f"sample {position}" if self.ids is None else f"sample {self.ids[position]}"

    def __getitem__(self, request: Any) -> Batch:
        return self.__getitems__([request])

    def __getitems__(self, requests: list[tuple[int, int]]) -> Batch:
        positions = np.array([position for _, position in requests])
        samples = [self._sample(epoch, position) for epoch, position in requests]
        if self.watch:
            self.watch.rests()
        batch = Batch(
            inputs={},
            present={},
            target=torch.from_numpy(self._encoded[positions]),
            index=torch.from_numpy(positions.astype(np.int64)),
            group=None if self.groups is None else torch.from_numpy(self.groups[positions]),
        )
        for name, spec in self.inputs.items():
            values = [sample[name] for sample in samples]
            batch.inputs[name], valid = collate(values, spec)
            batch.present[name] = torch.tensor([value is not None for value in values])
            if valid is not None:
                batch.valid[name] = valid
        return batch

    def _sample(self, epoch: int, position: int) -> Sample:
        if self.watch:
            self.watch.begins(position)
        try:
            sample = read_checked(self.dataset, position, self.inputs, self.timeout)
        except BadSample as bad:  # the survey has put bad samples aside: the data have changed since
            raise FusionkitError(f"{self.name(position)} was good and now is not: {bad}") from bad
        if epoch != EVALUATION and self.augmentations:
            random = generator(self.seed, "augment", epoch, position)
            for augmentation in self.augmentations:
                sample = {name: settled(value) for name, value in augmentation(sample, random).items()}
                for name, spec in self.inputs.items():
                    try:
                        hold_against(name, sample[name], spec)
                    except BadSample as bad:
                        raise FusionkitError(f"the augmentation {type(augmentation).__name__} fails: {bad}") from bad
        return tokenized(sample, self.tokenizers)


def tokenized(sample: Sample, tokenizers: Mapping[str, Tokenizer]) -> Sample:
    """The sample with ids of tokens in the place of text."""
    return {
        name: tokenizers[name](str(value)) if name in tokenizers and value is not None else value
        for name, value in sample.items()
    }


def collate(values: list[np.ndarray | None], spec: InputSpec) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Stack values to `[B, *spec.shape]`, zero where absent or masked.

    Returns:
        the values; and for ragged ones the mask `[B, T]` of real steps, for others where any is masked that of the
        measured values, `[B, *spec.shape]`, else None.
    """
    present = [value for value in values if value is not None]
    kind = np.result_type(*[value.dtype for value in present]) if present else np.dtype(np.float32)
    name = "int64" if spec.vocabulary else kind.name if kind.name in _KEPT else "float32"
    stacked = np.zeros((len(values), *spec.shape), dtype=name)
    valid = None
    if spec.ragged:
        valid = np.zeros((len(values), spec.shape[0]), dtype=bool)
    elif any(np.ma.is_masked(value) for value in present):
        valid = np.zeros(stacked.shape, dtype=bool)
    for row, value in enumerate(values):
        if value is None:
            continue
        if valid is None:
            stacked[row] = value
        elif spec.ragged:
            stacked[row, : len(value)] = value
            valid[row, : len(value)] = True
        else:
            stacked[row], valid[row] = np.ma.filled(value, 0), ~np.ma.getmaskarray(value)
    return torch.from_numpy(stacked), None if valid is None else torch.from_numpy(valid)


class Batches(Sampler[list[tuple[int, int]]]):
    """Which samples make which batch: an order keyed by (seed, epoch), cut alike for any number of processes.

    Args:
        positions: the samples.
        batch_size: over all processes, and at most: the batches of an epoch differ by a sample at most.
        seed: of the order; None keeps the order given, without augmentation.
        rank, world: this process and how many there are; each takes every world-th sample of a batch.
        groups: a value a sample of the whole index; an epoch has one sample of each of them, drawn anew.
    """

    def __init__(
        self,
        positions: np.ndarray,
        batch_size: int,
        *,
        seed: int | None,
        rank: int = 0,
        world: int = 1,
        groups: np.ndarray | None = None,
    ):
        self.positions, self.batch_size, self.seed = positions, batch_size, seed
        self.rank, self.world = rank, world
        self.groups = None if groups is None else groups[positions]
        self.count = len(positions) if self.groups is None else len(np.unique(self.groups))
        self.epoch = EVALUATION if seed is None else 0

    def bounds(self) -> list[int]:
        """Where batches begin, and the end.

        Fewer and larger ones where a process would have a single sample, of which a batch norm can make nothing.
        """
        count, least = self.count, 2 * self.world
        batches = -(-count // self.batch_size)
        if count < least * batches and self.batch_size >= least:
            batches = max(1, count // least)
        return [number * count // batches for number in range(batches + 1)]

    def __len__(self) -> int:
        return len(self.bounds()) - 1

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = self.positions
        if self.seed is not None:
            drawn = generator(self.seed, "order", self.epoch).permutation(len(order))
            if self.groups is not None:
                drawn = drawn[np.sort(np.unique(self.groups[drawn], return_index=True)[1])]
            order = order[drawn]
        bounds = self.bounds()
        for start, end in pairwise(bounds):
            batch = order[start:end]
            mine = batch[self.rank :: self.world]
            if len(mine) == 0:  # fewer samples than processes: repeat, and let the caller drop what it has twice
                mine = batch[:1]
            yield [(self.epoch, int(position)) for position in mine]


class Loader(DataLoader[Batch]):
    """Brings the batches of some samples, and knows which sample each of its processes is at.

    Args:
        samples, batches: what to bring, in which order.
        workers: processes that read.
        pin_memory: for batches that go on to a GPU.
    """

    def __init__(self, samples: Samples, batches: Batches, workers: int, *, pin_memory: bool = False):
        self.watch = Watch(workers, samples.timeout)
        super().__init__(
            samples,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_as_is,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
            worker_init_fn=self.watch.attend,
        )

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override] # an iterator is all that anyone needs
        batches = super().__iter__()
        with self.watch.kept():
            yield from batches


@contextmanager
def plainly(batches: Iterable[Batch]) -> Iterator[None]:
    """Tell in one line what goes wrong in the processes of a loader while its batches are used.

    torch raises wherever the training happens to be when a process dies: hence a context, and not an iterator.

    Raises:
        FusionkitError: what a process raised, without its traceback; or it died, and at which sample.
    """
    try:
        yield
    except FusionkitError as error:
        *before, last = str(error).strip().splitlines()
        if not any("DataLoader worker process" in line for line in before):
            raise
        raise type(error)(last.partition(": ")[2]) from error
    except RuntimeError as error:
        watch: Watch | None = getattr(batches, "watch", None)
        if watch is None or not str(error).startswith("DataLoader worker (pid"):
            raise
        raise FusionkitError(_of_death(watch.at(str(error)), batches)) from error


def _of_death(position: int | None, loader: Any) -> str:
    if position is None:
        return "a process of the loader died between two samples; if memory is short, lower data.num_workers"
    reasons = "memory was short, which a lower data.num_workers mends, or the file makes its reader crash"
    if timeout := loader.watch.timeout:
        reasons += f", or the read hung for {PATIENCE} x data.timeout, {timeout:g} s"
    return f"a process of the loader died while it read {loader.dataset.name(position)}: {reasons}"


def _as_is(batch: Any) -> Batch:
    return batch
