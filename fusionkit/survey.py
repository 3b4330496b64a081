"""Reads every sample once before training: what is bad, missing or there twice, and the training split's statistics."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from fusionkit.contract import Dataset, Index
from fusionkit.errors import BadSample, FusionkitError
from fusionkit.flow import InputSpec
from fusionkit.loading import read_checked
from fusionkit.model import Statistics
from fusionkit.splits import Partition

_CHUNK = 64


@dataclass(frozen=True)
class Bad:
    """A sample, or a part of one, that is not used, and why."""

    id: str
    split: str
    path: str
    line: int | None
    reason: str


@dataclass
class Survey:
    """What one reading of all samples found.

    Args:
        good: mask over the index: usable samples.
        bad: what is left out.
        statistics: for each partition, per modality, over its train samples.
        absent: per modality, how many usable samples lack it.
        ranges: per modality, the least and greatest value.
        digests: a hash of each usable sample's content.
        fingerprint: one hash of all content.
    """

    good: np.ndarray
    bad: list[Bad]
    statistics: list[dict[str, Statistics]]
    absent: dict[str, int]
    ranges: dict[str, tuple[float, float]]
    digests: dict[int, bytes] = field(repr=False)
    fingerprint: str = ""

    def identical(self, one: np.ndarray, other: np.ndarray) -> int:
        """How many samples of `one` have an identical twin in `other`."""
        twins = {self.digests[p] for p in other.tolist() if p in self.digests}
        return sum(self.digests.get(p) in twins for p in one.tolist())

    def duplicates(self) -> int:
        """How many samples repeat an earlier one."""
        return sum(count - 1 for count in Counter(self.digests.values()).values())


@dataclass
class _Chunk:
    """What a worker tells of some samples: sums, not arrays."""

    count: int
    bad: list[tuple[int, str, str, int | None]] = field(default_factory=list)
    digests: dict[int, bytes] = field(default_factory=dict)
    absent: Counter[str] = field(default_factory=Counter)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    moments: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)
    """Per (partition, modality): count, sum and sum of squares of each channel, `[3, C]`."""


class _Reader(TorchDataset[_Chunk]):
    def __init__(self, dataset: Dataset, inputs: dict[str, InputSpec], positions: np.ndarray, train: np.ndarray):
        self.dataset, self.inputs, self.positions, self.train = dataset, inputs, positions, train

    def __len__(self) -> int:
        return -(-len(self.positions) // _CHUNK)

    def __getitem__(self, number: int) -> _Chunk:
        positions = self.positions[number * _CHUNK : (number + 1) * _CHUNK]
        chunk = _Chunk(len(positions))
        for position in positions.tolist():
            try:
                sample = read_checked(self.dataset, position, self.inputs)
                if all(value is None for value in sample.values()):
                    raise BadSample("no modality is present")
            except BadSample as bad:
                chunk.bad.append((position, bad.reason, bad.path, bad.line))
                continue
            digest = hashlib.blake2b(digest_size=16)
            for name, spec in self.inputs.items():
                value = sample[name]
                digest.update(b"\0" if value is None else f"{value.shape}{value.dtype}".encode())
                if value is None:
                    chunk.absent[name] += 1
                    continue
                digest.update(np.ascontiguousarray(value))
                low, high = chunk.ranges.get(name, (np.inf, -np.inf))
                chunk.ranges[name] = (min(low, float(value.min())), max(high, float(value.max())))
                moments = _moments(value, spec)
                for partition in np.flatnonzero(self.train[:, position]).tolist():
                    held = chunk.moments.get((partition, name))
                    chunk.moments[partition, name] = moments if held is None else held + moments
            chunk.digests[position] = digest.digest()
        return chunk


def _moments(value: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Count, sum and sum of squares of each channel, `[3, C]`."""
    channels = np.moveaxis(value, spec.channel_axis, 0).reshape(spec.channels, -1).astype(np.float64)
    count = np.full(spec.channels, channels.shape[1], dtype=np.float64)
    return np.stack([count, channels.sum(1), np.einsum("cn,cn->c", channels, channels)])


def survey(
    dataset: Dataset,
    index: Index,
    inputs: dict[str, InputSpec],
    partitions: Sequence[Partition],
    *,
    workers: int = 0,
    max_bad: float = 0.01,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Read every sample of the partitions once.

    Args:
        dataset, index: where from.
        inputs: the modalities wanted.
        partitions: who is train, for the statistics.
        workers: loader processes; the result does not depend on it.
        max_bad: the share of bad samples above which this raises.
        progress: told of (done, total).

    Raises:
        FusionkitError: too many samples are bad.
    """
    used = np.unique(np.concatenate([part for p in partitions for part in p.parts().values()]))
    train = np.zeros((len(partitions), len(index)), dtype=bool)
    for row, partition in enumerate(partitions):
        train[row, partition.train] = True
    chunks: DataLoader[_Chunk] = DataLoader(_Reader(dataset, inputs, used, train), batch_size=None, num_workers=workers)
    total = _Chunk(0)
    for chunk in chunks:
        total.count += chunk.count
        total.bad += chunk.bad
        total.digests |= chunk.digests
        total.absent += chunk.absent
        for name, (low, high) in chunk.ranges.items():
            held = total.ranges.get(name, (np.inf, -np.inf))
            total.ranges[name] = (min(held[0], low), max(held[1], high))
        for key, moments in chunk.moments.items():
            total.moments[key] = total.moments.get(key, 0) + moments
        if progress:
            progress(total.count, len(used))
    good = np.zeros(len(index), dtype=bool)
    good[list(total.digests)] = True
    bad = [_bad(index, partitions, position, *rest) for position, *rest in total.bad]
    if len(total.bad) > max_bad * len(used):
        share = len(total.bad) / len(used)
        examples = "\n".join(f"  {b.id}: {b.path + ': ' if b.path else ''}{b.reason}" for b in bad[:5])
        raise FusionkitError(
            f"{len(total.bad)} of {len(used)} samples ({share:.1%}) are bad, more than data.max_bad ({max_bad:.1%}) "
            f"allows; mend them or raise data.max_bad. The first:\n{examples}"
        )
    fingerprint = hashlib.blake2b(digest_size=16)
    for position in used[good[used]].tolist():
        fingerprint.update(str(index.ids[position]).encode() + total.digests[position])
        fingerprint.update(str(int(index.targets[position])).encode())
    return Survey(
        good=good,
        bad=[Bad(id, "", b.path, b.line, b.reason) for id, b in index.bad] + bad,
        statistics=[
            {name: _statistics(total.moments.get((row, name)), inputs[name]) for name in inputs}
            for row in range(len(partitions))
        ],
        absent={name: total.absent[name] for name in inputs},
        ranges=total.ranges,
        digests=total.digests,
        fingerprint=fingerprint.hexdigest(),
    )


def _bad(index: Index, partitions: Sequence[Partition], position: int, reason: str, path: str, line: int | None) -> Bad:
    parts = {part for p in partitions for part, held in p.parts().items() if position in held}
    return Bad(str(index.ids[position]), "+".join(sorted(parts)) if len(partitions) == 1 else "", path, line, reason)


def _statistics(moments: np.ndarray | None, spec: InputSpec) -> Statistics:
    if moments is None:  # no train sample has this modality
        return Statistics((0.0,) * spec.channels, (1.0,) * spec.channels)
    count, total, squares = moments
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0)
    # A constant channel leaves rounding noise here; dividing by that would blow it up.
    variance[variance <= 1e-12 * np.maximum(mean**2, 1e-300)] = 0
    return Statistics(tuple(mean.tolist()), tuple(np.sqrt(variance).tolist()))
