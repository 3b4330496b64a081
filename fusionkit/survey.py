"""Reads every sample once before training: what is bad, missing or there twice, and the training split's statistics.

A sample that cannot be read in time, or that ends the process which reads it, is bad like any other.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fusionkit.contract import Dataset, Index
from fusionkit.errors import BadSample, DataError, FusionkitError
from fusionkit.flow import InputSpec
from fusionkit.loading import read_checked
from fusionkit.normalization import QUANTILES, Statistics
from fusionkit.processes import forks, in_processes
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
        absent_in_train: the same of those that are train in any partition.
        ranges: per modality, the least and greatest value.
        digests: a hash of each usable sample's content.
        texts: for each partition, per modality of text, what its train samples say.
        fingerprint: one hash of all content.
    """

    good: np.ndarray
    bad: list[Bad]
    statistics: list[dict[str, Statistics]]
    absent: dict[str, int]
    ranges: dict[str, tuple[float, float]]
    digests: dict[int, bytes] = field(repr=False)
    absent_in_train: dict[str, int] = field(default_factory=dict)
    texts: list[dict[str, list[str]]] = field(default_factory=list, repr=False)
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
    absent_in_train: Counter[str] = field(default_factory=Counter)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    moments: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)
    """Per (partition, modality): count and mean of each channel, and the squared deviations from it, `[3, C]`, or
    their products where the modality is to be whitened, `[2 + C, C]`."""
    texts: dict[tuple[int, str], str] = field(default_factory=dict)
    """Per (position, modality)."""
    values: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)
    """Per (position, modality): the training values `[n, C]` of what is ranked. All of them are held in the end."""

    def add_range(self, name: str, low: float, high: float) -> None:
        held = self.ranges.get(name, (np.inf, -np.inf))
        self.ranges[name] = (min(held[0], low), max(held[1], high))

    def add_moments(self, key: tuple[int, str], moments: np.ndarray) -> None:
        held = self.moments.get(key)
        self.moments[key] = moments if held is None else _merged(held, moments)

    def add(self, other: _Chunk) -> None:
        self.count += other.count
        self.bad += other.bad
        self.digests |= other.digests
        self.absent += other.absent
        self.absent_in_train += other.absent_in_train
        for name, (low, high) in other.ranges.items():
            self.add_range(name, low, high)
        for key, moments in other.moments.items():
            self.add_moments(key, moments)
        self.values |= other.values
        self.texts |= other.texts


class _Reader:
    """Reads chunks of samples and sums them up."""

    def __init__(
        self,
        dataset: Dataset,
        inputs: dict[str, InputSpec],
        positions: np.ndarray,
        train: np.ndarray,
        whitened: frozenset[str],
        ranked: frozenset[str],
        timeout: float,
    ):
        self.dataset, self.inputs, self.positions, self.train = dataset, inputs, positions, train
        self.whitened, self.ranked, self.timeout = whitened, ranked, timeout

    def __len__(self) -> int:
        return -(-len(self.positions) // _CHUNK)

    def __call__(self, number: int, lost: Mapping[int, str], begins: Callable[[int], None]) -> _Chunk:
        positions = self.positions[number * _CHUNK : (number + 1) * _CHUNK]
        chunk = _Chunk(len(positions))
        for position in positions.tolist():
            try:
                if position in lost:
                    raise BadSample(lost[position])
                begins(position)
                sample = read_checked(self.dataset, position, self.inputs, self.timeout)
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
                    chunk.absent_in_train[name] += bool(self.train[:, position].any())
                    continue
                if spec.text:
                    digest.update(str(value).encode(errors="surrogatepass"))
                    chunk.texts[position, name] = str(value)
                    continue
                digest.update(np.ascontiguousarray(np.ma.filled(value, 0)).data)
                if np.ma.is_masked(value):
                    digest.update(np.packbits(np.ma.getmaskarray(value)).data)
                chunk.add_range(name, float(value.min()), float(value.max()))
                if self.train[:, position].any():
                    if name in self.ranked:
                        chunk.values[position, name] = value.reshape(-1, spec.channels).copy()
                    moments = _moments(value, spec, name in self.whitened)
                    for partition in np.flatnonzero(self.train[:, position]).tolist():
                        chunk.add_moments((partition, name), moments)
            chunk.digests[position] = digest.digest()
        return chunk


def _moments(value: np.ndarray, spec: InputSpec, products: bool) -> np.ndarray:
    """Count and mean of each channel and the sums of squared deviations, `[3, C]`, or of their products.

    Of masked arrays each channel counts what was measured in it; products, the pixels measured in all channels.
    """

    def by_channel(values: np.ndarray) -> np.ndarray:
        return np.moveaxis(values, spec.channel_axis, 0).reshape(spec.channels, -1)

    channels = by_channel(np.ma.filled(value, 0)).astype(np.float64)
    if np.ma.is_masked(value):
        measured = by_channel(~np.ma.getmaskarray(value))
        if products:
            measured = np.broadcast_to(measured.all(0), measured.shape)
        count = measured.sum(1, dtype=np.float64)
        mean = (channels * measured).sum(1) / np.maximum(count, 1)
        apart = (channels - mean[:, None]) * measured
    else:
        count = np.full(spec.channels, channels.shape[1], dtype=np.float64)
        mean = channels.mean(1)
        apart = channels - mean[:, None]
    spread = apart @ apart.T if products else np.square(apart).sum(1)[np.newaxis]
    return np.concatenate([count[np.newaxis], mean[np.newaxis], spread])


def _merged(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The moments of two sets together (Chan, Golub and LeVeque 1983): no small difference of large sums."""
    total = one[0] + other[0]
    count = np.maximum(total, 1)  # a channel may be masked in both
    apart = other[1] - one[1]
    mean = one[1] + apart * other[0] / count
    between = np.outer(apart, apart) if len(one) > 3 else np.square(apart)[np.newaxis]
    spread = one[2:] + other[2:] + between * one[0] * other[0] / count
    return np.concatenate([total[np.newaxis], mean[np.newaxis], spread])


def survey(
    dataset: Dataset,
    index: Index,
    inputs: dict[str, InputSpec],
    partitions: Sequence[Partition],
    *,
    whitened: frozenset[str] = frozenset(),
    ranked: frozenset[str] = frozenset(),
    workers: int = 0,
    max_bad: float = 0.01,
    timeout: float = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Read every sample of the partitions once.

    Args:
        dataset, index: where from.
        inputs: the modalities wanted.
        partitions: who is train, for the statistics.
        whitened: the modalities whose covariance is wanted.
        ranked: the vectors and sequences whose quantiles are wanted; their training values are held in memory.
        workers: processes that read; the result does not depend on it. 0 is one too where processes are forks, and
            this process elsewhere.
        max_bad: the share of bad samples above which this raises.
        timeout: seconds that one sample may take to read; 0 is no limit.
        progress: told of (done, total).

    Raises:
        FusionkitError: too many samples are bad.
        DataError: no train sample has one of the modalities.
    """
    used = np.unique(np.concatenate([part for p in partitions for part in p.parts().values()]))
    train = np.zeros((len(partitions), len(index)), dtype=bool)
    for row, partition in enumerate(partitions):
        train[row, partition.train] = True
    reader = _Reader(dataset, inputs, used, train, whitened, ranked, timeout)
    chunks: Iterable[_Chunk]
    if workers or forks():
        chunks = in_processes(reader, len(reader), max(1, workers), timeout)
    else:
        chunks = (reader(number, {}, lambda _: None) for number in range(len(reader)))
    total = _Chunk(0)
    for chunk in chunks:
        total.add(chunk)
        if progress:
            progress(total.count, len(used))
    good = np.zeros(len(index), dtype=bool)
    good[list(total.digests)] = True
    bad = [_bad(index, partitions, *found) for found in total.bad]
    listed = [Bad(id, "", found.path, found.line, found.reason) for id, found in index.bad]
    # What was found while listing may be a part of a sample (a line of a file), which is then still used without it.
    unlisted = {found.id: found for found in listed if found.id not in set(map(str, index.ids))}
    _refuse_if_many([*bad, *unlisted.values()], len(used) + len(unlisted), max_bad)
    measured = [name for name, spec in inputs.items() if not spec.text]
    texts = [_texts(total.texts, inputs, partition.train) for partition in partitions]
    for row, partition in enumerate(partitions):
        for name in inputs:
            if (row, name) not in total.moments and not texts[row].get(name):
                where = f" of fold {partition.fold}" if partition.fold else ""
                raise DataError(f"no good train sample{where} has the modality {name}")
    fingerprint = hashlib.blake2b(digest_size=16)
    for position in used[good[used]].tolist():
        fingerprint.update(str(index.ids[position]).encode() + total.digests[position])
        fingerprint.update(str(index.targets[position].tolist()).encode())
    return Survey(
        good=good,
        bad=listed + bad,
        statistics=[
            {
                name: replace(_statistics(total.moments[row, name], name in whitened), quantiles=quantiles)
                for name in measured
                for quantiles in [_quantiles(total.values, name, partition.train) if name in ranked else None]
            }
            for row, partition in enumerate(partitions)
        ],
        absent={name: total.absent[name] for name in inputs},
        absent_in_train={name: total.absent_in_train[name] for name in inputs},
        ranges=total.ranges,
        digests=total.digests,
        texts=texts,
        fingerprint=fingerprint.hexdigest(),
    )


def _bad(index: Index, partitions: Sequence[Partition], position: int, reason: str, path: str, line: int | None) -> Bad:
    parts = {part for p in partitions for part, held in p.parts().items() if position in held}
    return Bad(str(index.ids[position]), "+".join(sorted(parts)) if len(partitions) == 1 else "", path, line, reason)


def _refuse_if_many(bad: list[Bad], of: int, max_bad: float) -> None:
    if len(bad) <= max_bad * of:
        return
    examples = "\n".join(f"  {b.id}: {b.path + ': ' if b.path else ''}{b.reason}" for b in bad[:5])
    raise FusionkitError(
        f"{len(bad)} of {of} samples ({len(bad) / of:.1%}) are bad, more than data.max_bad ({max_bad:.1%}) allows; "
        f"mend them or raise data.max_bad. The first:\n{examples}"
    )


def _texts(
    held: Mapping[tuple[int, str], str], inputs: Mapping[str, InputSpec], train: np.ndarray
) -> dict[str, list[str]]:
    """Per modality of text, what the training samples say."""
    return {
        name: [held[position, name] for position in train.tolist() if (position, name) in held]
        for name, spec in inputs.items()
        if spec.text
    }


def _quantiles(
    values: dict[tuple[int, str], np.ndarray], name: str, train: np.ndarray
) -> tuple[tuple[float, ...], ...]:
    """Of each channel, over the training samples."""
    held = [values[position, name] for position in train.tolist() if (position, name) in values]
    found = np.quantile(np.concatenate(held).astype(np.float64), np.linspace(0, 1, QUANTILES), axis=0)
    return tuple(map(tuple, np.maximum.accumulate(found, axis=0).T.tolist()))


def _statistics(moments: np.ndarray, products: bool) -> Statistics:
    count, mean, spread = np.maximum(moments[0], 1), moments[1], moments[2:]
    std = np.sqrt((np.diagonal(spread) if products else spread[0]) / count)
    # A constant channel leaves rounding noise here; dividing by that would blow it up.
    std[std <= 8 * np.finfo(np.float64).eps * np.abs(mean)] = 0
    covariance = tuple(map(tuple, (spread / count).tolist())) if products else None
    return Statistics(tuple(mean.tolist()), tuple(std.tolist()), covariance)
