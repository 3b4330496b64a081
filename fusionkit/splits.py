"""Divides the samples of a dataset into train, val and test, without letting groups or pixels leak."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from fusionkit.contract import Index
from fusionkit.errors import DataError, suggestion
from fusionkit.randomness import generator
from fusionkit.sections import Scalar, Split

PARTS = ("train", "val", "test")


@dataclass
class Partition:
    """One division of the samples; several where folds are pooled.

    Args:
        train, val, test: positions in the index, sorted.
        fold: which fold is test; None without folds.
        left_out: samples dropped because their window shares pixels with a window on another side.
        shared_pixels: test samples whose window shares pixels with a window of train or val.
        overlap: pixels of the scene that windows of test and windows of train or val show alike.
        shared_groups: test samples of a group (`Index.groups`) that train or val has samples of.
        apart: of windows of one scene, the pixels from the centre of a test window to the nearest one of train or val.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    fold: str | None = None
    left_out: int = 0
    shared_pixels: int = 0
    overlap: int = 0
    shared_groups: int = 0
    apart: float | None = None

    def parts(self) -> dict[str, np.ndarray]:
        return {part: getattr(self, part) for part in PARTS}

    def keep(self, good: np.ndarray) -> Partition:
        """The same without the samples that are not `good` (a mask over the index)."""
        return replace(self, **{part: positions[good[positions]] for part, positions in self.parts().items()})


def divide(index: Index, split: Split | None, *, folds: bool = False) -> list[Partition]:
    """Divide the labelled samples as the recipe says.

    Args:
        index: the samples.
        split: what the recipe says; None, or one without `column` and `test`, means the official split.
        folds: every value of `split.column` is test once.

    Raises:
        DataError: the division is impossible, leaves a part empty, or puts a sample, or a group that the recipe keeps
            together, on two sides.
    """
    split = split or Split()
    labelled = np.flatnonzero(index.labelled)
    if len(labelled) == 0:
        raise DataError("the dataset has no labelled samples" if len(index) else "the dataset has no samples")
    if split.column is None and split.train is not None:
        raise DataError("without `column`, train is all that is neither test nor val", option=("split", "train"))
    if not folds:
        return [_divide_once(index, split, None)]
    column = _column(index, split.column or "", "column")[labelled]
    if blank := int(np.isin(column.astype(str), ["", "nan", "None"]).sum()):
        message = f"{blank} labelled samples have no value in column {split.column!r}: they are of no fold"
        raise DataError(message, option=("split", "column"))
    values = np.unique(column).tolist()
    if len(values) < 2:
        raise DataError(f"column {split.column!r} has one value only: no folds", option=("split", "column"))
    return [_divide_once(index, split, value) for value in values]


def _divide_once(index: Index, split: Split, fold: Scalar | None) -> Partition:
    labelled = np.flatnonzero(index.labelled)
    groups, strata = _groups(index, split), _strata(index)
    if split.column is not None:
        train, val, test = _by_column(index, split, fold)
    elif split.test is None:
        train, val, test = _official(index)
    else:
        share = _fraction(split.test)
        if share is None:
            raise DataError("without `column`, test is a fraction such as 0.2", option=("split", "test"))
        test = _draw(share, labelled, strata, groups, split.seed, "test")
        train, val = np.setdiff1d(labelled, test), labelled[:0]
    train, val, test = (np.intersect1d(part, labelled) for part in (train, val, test))
    partition = Partition(train, val, test, None if fold is None else str(fold))
    _refuse_overlap(index, split, partition)
    if split.blocks:
        _clear(index, partition, "train", partition.test, split.buffer)
        _clear(index, partition, "val", partition.test, split.buffer)
    if len(partition.val) == 0 and split.val is not None:
        share = _fraction(split.val)
        if share is None:
            raise DataError("without `column`, val is a fraction such as 0.15", option=("split", "val"))
        partition.val = _draw(share, partition.train, strata, groups, split.seed, "val")
        partition.train = np.setdiff1d(partition.train, partition.val)
    if split.blocks:
        _clear(index, partition, "train", partition.val, split.buffer)
    for part, positions in partition.parts().items():
        if len(positions) == 0:
            where = f" in fold {partition.fold}" if partition.fold else ""
            raise DataError(f"no sample is left for {part}{where}", option=("split", part))
    _count_shared(index, partition)
    return partition


def _clear(index: Index, partition: Partition, part: str, others: np.ndarray, buffer: int) -> None:
    """Leave out the samples of a part whose windows share pixels with a window of `others`, or lie too near."""
    held = getattr(partition, part)
    shared = _shares_pixels(index, held, others, buffer)
    setattr(partition, part, held[~shared])
    partition.left_out += int(shared.sum())


def _count_shared(index: Index, partition: Partition) -> None:
    """Tell what a division that is given (an official split, a column) has on two sides."""
    rest = np.concatenate([partition.train, partition.val])
    shared = _shares_pixels(index, partition.test, rest)
    partition.shared_pixels = int(shared.sum())
    if partition.shared_pixels and index.positions is not None and index.window is not None:
        touched = rest[_shares_pixels(index, rest, partition.test)]
        windows = index.positions[partition.test[shared]], index.positions[touched]
        partition.overlap = _overlap(*windows, *index.window)
    if index.positions is not None:
        distance, _ = KDTree(index.positions[rest]).query(index.positions[partition.test])
        partition.apart = float(distance.min())
    if index.groups is not None:
        groups = np.asarray(index.groups)
        partition.shared_groups = int(np.isin(groups[partition.test], groups[rest]).sum())


def _refuse_overlap(index: Index, split: Split, partition: Partition) -> None:
    named = named_groups(index, split)
    for (one, held), (other, others) in combinations(partition.parts().items(), 2):
        if both := len(np.intersect1d(held, others)):
            raise DataError(f"{one} and {other} overlap in {both} samples", option=("split", other))
        if named is not None and len(shared := np.intersect1d(named[held], named[others])):
            raise DataError(
                f"{len(shared)} values of {split.group!r}, such as {str(shared[0])!r}, are in both {one} and {other} "
                "as the split is given, so they cannot be kept together",
                option=("split", "group"),
            )


def _official(index: Index) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if index.split is None:
        raise DataError(
            "this dataset has no official split; say how, for example `split: {test: 0.2}` or "
            "`split: {column: fold, test: 0}`",
            option=("split",),
        )
    train, val, test = (np.flatnonzero(index.split == part) for part in PARTS)
    return train, val, test


def _by_column(index: Index, split: Split, fold: Scalar | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the values of the column say; val is empty where it is to be drawn."""
    name = split.column or ""
    column = _column(index, name, "column")
    wanted = fold if fold is not None else split.test
    if wanted is None:
        raise DataError("say which value of the column is test", option=("split", "test"))
    test, val = _with_value(column, wanted, name, "test"), np.array([], dtype=int)
    if split.val is not None and _fraction(split.val) is None:
        val = _with_value(column, split.val, name, "val")
    if split.train is not None:
        return _with_value(column, split.train, name, "train"), val, test
    return np.setdiff1d(np.arange(len(index)), np.concatenate([test, val])), val, test


def _column(index: Index, name: str, key: str) -> np.ndarray:
    if name == "id" and name not in index.columns:
        return np.asarray(index.ids).astype(str)
    if name not in index.columns:
        known = suggestion(name, index.columns) or "; the dataset has none"
        raise DataError(f"there is no column {name!r}{known}", option=("split", key))
    column = np.asarray(index.columns[name])
    return column.astype(str) if column.dtype.kind == "O" else column


def _with_value(column: np.ndarray, wanted: Scalar | list[Scalar], name: str, part: str) -> np.ndarray:
    """The samples that have this value, or one of these."""
    found = []
    for value in wanted if isinstance(wanted, list) else [wanted]:
        if column.dtype.kind in "biuf" and not isinstance(value, str):
            same = column == value
        elif isinstance(value, bool):
            same = np.char.lower(column.astype(str)) == str(value).lower()
        else:
            same = column.astype(str) == str(value)
        if not same.any():
            values = np.unique(column).astype(str)
            listed = ", ".join(values[:12]) + (", ..." if len(values) > 12 else "")
            raise DataError(f"column {name!r} has no value {value!r}; it has {listed}", option=("split", part))
        found.append(np.flatnonzero(same))
    return np.unique(np.concatenate(found)) if found else np.array([], dtype=int)


def _fraction(value: object) -> float | None:
    """A number with a point, between 0 and 1, is a fraction; anything else is a value of the column."""
    return value if isinstance(value, float) and 0 < value < 1 else None


def named_groups(index: Index, split: Split | None) -> np.ndarray | None:
    """The values of `split.group`, which keep samples together; None where the recipe names no group."""
    if split is None or split.group is None:
        return None
    column = _column(index, split.group, "group")
    if split.group_pattern is None:
        return column
    try:
        pattern = re.compile(split.group_pattern)
    except re.error as error:
        message = f"{split.group_pattern!r} is no regular expression: {error}"
        raise DataError(message, option=("split", "group_pattern")) from None
    if pattern.groups < 1:
        raise DataError("the pattern needs a bracket around the group", option=("split", "group_pattern"))
    found = [pattern.search(str(value)) for value in column]
    if None in found:
        value = column[found.index(None)]
        raise DataError(f"the pattern does not match {str(value)!r}", option=("split", "group_pattern"))
    return np.array([match[1] or "" for match in found if match])


def _groups(index: Index, split: Split) -> np.ndarray | None:
    """One group number a sample: samples that share a value of any grouping are of one group."""
    groupings: list[np.ndarray] = []
    if index.groups is not None:
        groupings.append(index.groups)
    named = named_groups(index, split)
    if named is not None:
        groupings.append(named)
    if split.blocks:
        if index.positions is None or index.window is None:
            raise DataError("blocks need windows of one scene, which this dataset has not", option=("split", "blocks"))
        groupings.append(np.unique(index.positions // split.blocks, axis=0, return_inverse=True)[1])
    if not groupings:
        return None
    numbers = [np.unique(grouping, return_inverse=True)[1] for grouping in groupings]
    combined = numbers[0]
    for other in numbers[1:]:
        size = combined.max() + 1
        links = coo_array((np.ones(len(combined)), (combined, size + other)), shape=[size + other.max() + 1] * 2)
        combined = connected_components(links, directed=False)[1][combined]
    return combined


def _strata(index: Index) -> np.ndarray:
    """A class for each sample, by which parts are drawn alike: of several labels its rarest, of quantities the first
    one's tenth; -1 where a sample has no label."""
    if index.task == "classification":
        return index.targets
    if index.task == "retrieval":
        return index.targets[:, 1] + 1  # those without a class are drawn alike too
    strata = np.full(len(index), -1, dtype=np.int64)
    known = index.targets[index.labelled]
    if index.task == "multilabel":
        rarity = np.where(known > 0, known.sum(0), np.inf)
        strata[index.labelled] = np.where(known.any(1), rarity.argmin(1), known.shape[1])
    else:
        edges = np.quantile(known[:, 0], np.linspace(0, 1, 11)[1:-1])
        strata[index.labelled] = np.searchsorted(edges, known[:, 0])
    return strata


def _draw(
    share: float, among: np.ndarray, targets: np.ndarray, groups: np.ndarray | None, seed: int, part: str
) -> np.ndarray:
    """A share of the samples, as nearly as can be the same of each class; whole groups where there are groups.

    Not by scikit-learn's stratified folds: a class rarer than there are folds lies in the first ones, so that the same
    rare classes would be in test whole.
    """
    _, number, count = np.unique(among if groups is None else groups[among], return_inverse=True, return_counts=True)
    if len(count) < 2:
        what = "sample" if groups is None else "group of samples"
        raise DataError(f"there is one {what} to draw {part} from, which leaves no other", option=("split", part))
    random = generator("split", seed, part)
    alone = count[number] == 1
    taken = _draw_singles(share, among[alone], targets, random)
    taken = np.union1d(taken, _draw_groups(share, among[~alone], number[~alone], targets, random))
    fewest = among[number == count.argmin()]
    if len(taken) == 0:
        return fewest
    return taken if len(taken) < len(among) else np.setdiff1d(taken, fewest)


def _draw_singles(share: float, among: np.ndarray, targets: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Every so manieth of the samples in the order of their classes: of no class more than one off its share."""
    wanted = round(share * len(among)) or min(1, len(among))
    order = random.permutation(among)
    order = order[np.argsort(targets[order], kind="stable")]
    repeated = np.bincount(targets[order])[targets[order]] > 1
    if repeated.sum() > wanted:  # then the only sample of a class stays where it is, with train
        order = order[repeated]
    return order[(np.arange(wanted) * len(order) + random.integers(len(order) or 1)) // max(1, wanted)]


def _draw_groups(
    share: float, among: np.ndarray, group: np.ndarray, targets: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Whole groups, in random order; each is taken if that brings classes and total nearer to their share so far.

    Of some such orders the one that ends nearest to the share: few groups need many tries, and many need none.
    """
    if len(among) == 0:
        return among
    _, group = np.unique(group, return_inverse=True)
    classes, label = np.unique(targets[among], return_inverse=True)
    shape = (int(group.max()) + 1, len(classes))
    counts = np.bincount(group * shape[1] + label, minlength=shape[0] * shape[1]).reshape(shape).astype(float)
    counts = np.column_stack([counts, counts.sum(1)])
    weight = 1 / counts.sum(0)  # as in a chi-square, so that rare classes count too
    weight[-1] *= len(classes)
    best, least = np.zeros(shape[0], dtype=bool), np.inf
    for _ in range(max(1, min(50, 20_000 // shape[0]))):
        chosen = np.zeros(shape[0], dtype=bool)
        above = np.zeros(counts.shape[1])  # what was taken less what should have been
        for one in random.permutation(shape[0]).tolist():
            above -= share * counts[one]
            chosen[one] = weight @ (above + counts[one]) ** 2 < weight @ above**2
            above += counts[one] * chosen[one]
        if chosen.any() and weight @ above**2 < least:
            best, least = chosen, float(weight @ above**2)
    return among[best[group]]


def _shares_pixels(index: Index, samples: np.ndarray, others: np.ndarray, buffer: int = 0) -> np.ndarray:
    """For each of the samples, whether fewer than `buffer` pixels lie between its window and one of the others, or, of
    no buffer, whether they share a pixel."""
    if index.positions is None or index.window is None or len(samples) == 0 or len(others) == 0:
        return np.zeros(len(samples), dtype=bool)
    window = np.asarray(index.window) + buffer
    # Scaled by the window, two windows share pixels exactly where both centres are less than 1 apart.
    tree = KDTree(index.positions[others] / window)
    distance, _ = tree.query(index.positions[samples] / window, p=np.inf, distance_upper_bound=1)
    return distance < 1 - 1e-9


def _overlap(one: np.ndarray, other: np.ndarray, height: int, width: int) -> int:
    """How many pixels are both in a window of the one and in a window of the other, by the windows' centres `[n, 2]`.

    Strip by strip as high as a window, and in each row by row: of sorted beginnings and ends of windows, the pixels
    between two neighbours count where windows of both are open.
    """
    count = 0
    mine, others = (np.concatenate([c[:, 0] // height, (c[:, 0] + height - 1) // height]) for c in (one, other))
    for strip in np.intersect1d(mine, others).tolist():
        rows = np.arange(strip * height, (strip + 1) * height)
        events = []
        for side, centres in enumerate((one, other)):
            near = centres[(centres[:, 0] // height == strip) | ((centres[:, 0] + height - 1) // height == strip)]
            row, number = np.nonzero((near[:, 0] <= rows[:, None]) & (rows[:, None] < near[:, 0] + height))
            start = near[number, 1]
            for column, opened in ((start, 1), (start + width, -1)):
                change = np.zeros((len(column), 2), np.int64)
                change[:, side] = opened
                events.append(np.column_stack([row, column, change]))
        found = np.concatenate(events)
        found = found[np.lexsort((found[:, 1], found[:, 0]))]
        opened_of = np.cumsum(found[:, 2:], 0)  # back to 0 at the end of each row
        both = (opened_of[:-1, 0] > 0) & (opened_of[:-1, 1] > 0)
        count += int(np.diff(found[:, 1])[both].sum())
    return count
