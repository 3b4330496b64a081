"""Divides the samples of a dataset into train, val and test, without letting groups or pixels leak."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from fusionkit.contract import Index
from fusionkit.errors import DataError, suggestion
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
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    fold: str | None = None
    left_out: int = 0
    shared_pixels: int = 0

    def parts(self) -> dict[str, np.ndarray]:
        return {part: getattr(self, part) for part in PARTS}

    def keep(self, good: np.ndarray) -> Partition:
        """The same without the samples that are not `good` (a mask over the index)."""
        kept = {part: positions[good[positions]] for part, positions in self.parts().items()}
        return Partition(**kept, fold=self.fold, left_out=self.left_out, shared_pixels=self.shared_pixels)


def divide(index: Index, split: Split | None, *, folds: bool = False) -> list[Partition]:
    """Divide the labelled samples as the recipe says.

    Args:
        index: the samples.
        split: what the recipe says; None, or one without `column` and `test`, means the official split.
        folds: every value of `split.column` is test once.

    Raises:
        DataError: the division is impossible, leaves a part empty, or val and test overlap.
    """
    split = split or Split()
    if len(index) == 0:
        raise DataError("the dataset has no samples")
    if not (index.targets >= 0).any():
        raise DataError("the dataset has no labelled samples")
    if not folds:
        return [_divide_once(index, split, None)]
    column = _column(index, split.column or "", "column")
    values = [value for value in np.unique(column[index.targets >= 0]).tolist() if value != ""]
    if len(values) < 2:
        raise DataError(f"column {split.column!r} has one value only: no folds", option=("split", "column"))
    return [_divide_once(index, split, value) for value in values]


def _divide_once(index: Index, split: Split, fold: Scalar | None) -> Partition:
    labelled = np.flatnonzero(index.targets >= 0)
    groups = _groups(index, split)
    official = split.column is None and split.test is None
    if official:
        train, val, test = _official(index)
    elif split.column is not None:
        column = _column(index, split.column, "column")
        wanted = fold if fold is not None else split.test
        if wanted is None:
            raise DataError("say which value of the column is test", option=("split", "test"))
        test = _with_value(column, wanted, split.column, "test")
        if split.train is None:
            train = np.setdiff1d(labelled, test)
        else:
            train = _with_value(column, split.train, split.column, "train")
        val = np.array([], dtype=int)
        if split.val is not None and _fraction(split.val) is None:
            val = _with_value(column, split.val, split.column, "val")
            train = np.setdiff1d(train, val) if split.train is None else train
    else:
        share = _fraction(split.test)
        if share is None:
            raise DataError("without `column`, test is a fraction such as 0.2", option=("split", "test"))
        test = _draw(share, labelled, index.targets, groups, (split.seed, 1), "test")
        train, val = np.setdiff1d(labelled, test), np.array([], dtype=int)
    train, val, test = (part[index.targets[part] >= 0] for part in (train, val, test))
    left_out = 0
    if split.blocks:
        train, left_out = _away_from(index, train, test)
    if len(val) == 0 and split.val is not None:
        share = _fraction(split.val)
        if share is None:
            raise DataError("without `column`, val is a fraction such as 0.15", option=("split", "val"))
        val = _draw(share, train, index.targets, groups, (split.seed, 2), "val")
        train = np.setdiff1d(train, val)
    if split.blocks:
        train, more = _away_from(index, train, val)
        left_out += more
    partition = Partition(*map(np.sort, (train, val, test)), None if fold is None else str(fold), left_out)
    _refuse_overlap(partition)
    _, partition.shared_pixels = _away_from(index, test, np.concatenate([train, val]))
    return partition


def _refuse_overlap(partition: Partition) -> None:
    for part, positions in partition.parts().items():
        if len(positions) == 0:
            fold = f" in fold {partition.fold}" if partition.fold else ""
            option = ("split", part) if part != "train" else ("split",)
            raise DataError(f"no sample is left for {part}{fold}", option=option)
    for one, other in (("val", "test"), ("train", "test"), ("train", "val")):
        both = np.intersect1d(getattr(partition, one), getattr(partition, other))
        if len(both):
            raise DataError(f"{one} and {other} overlap in {len(both)} samples", option=("split", one))


def _official(index: Index) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if index.split is None:
        raise DataError(
            "this dataset has no official split; say how, for example `split: {test: 0.2}` or "
            "`split: {column: fold, test: 0}`",
            option=("split",),
        )
    train, val, test = (np.flatnonzero(index.split == part) for part in PARTS)
    return train, val, test


def _column(index: Index, name: str, key: str) -> np.ndarray:
    if name == "id" and name not in index.columns:
        return np.asarray(index.ids).astype(str)
    if name not in index.columns:
        known = suggestion(name, index.columns) or "; the dataset has none"
        raise DataError(f"there is no column {name!r}{known}", option=("split", key))
    return np.asarray(index.columns[name])


def _with_value(column: np.ndarray, wanted: Scalar | list[Scalar], name: str, part: str) -> np.ndarray:
    found: list[np.ndarray] = []
    for value in wanted if isinstance(wanted, list) else [wanted]:
        same = column == value if column.dtype.kind in "biuf" and not isinstance(value, str) else None
        same = column.astype(str) == str(value) if same is None else same
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
    groupings: list[Sequence] = []
    if index.groups is not None:
        groupings.append(index.groups)
    named = named_groups(index, split)
    if named is not None:
        groupings.append(named)
    if split.blocks:
        if index.positions is None:
            raise DataError("blocks need windows of one scene, which this dataset has not", option=("split", "blocks"))
        rows, columns = (index.positions // split.blocks).T
        groupings.append(rows * (columns.max() + 1) + columns)
    if not groupings:
        return None
    numbers = [np.unique(np.asarray(grouping), return_inverse=True)[1] for grouping in groupings]
    combined = numbers[0]
    for other in numbers[1:]:
        size = combined.max() + 1
        links = coo_array((np.ones(len(combined)), (combined, size + other)), shape=[size + other.max() + 1] * 2)
        combined = connected_components(links, directed=False)[1][combined]
    return combined


def _draw(
    share: float,
    among: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray | None,
    seed: tuple[int, int],
    part: str,
) -> np.ndarray:
    """A stratified share of the samples; whole groups where there are groups."""
    alone = np.ones(len(among), dtype=bool)
    if groups is not None:
        _, number, count = np.unique(groups[among], return_inverse=True, return_counts=True)
        alone = count[number] == 1
    singles, shared = among[alone], among[~alone]
    state = int(np.random.SeedSequence(seed).generate_state(1)[0])
    drawn = [_stratified(StratifiedKFold, share, singles, targets, singles, state)]
    if groups is not None:
        # Groups of one need no group-wise search, which takes half a minute for 40,000 of them.
        drawn.append(_stratified(StratifiedGroupKFold, share, shared, targets, groups[shared], state))
    taken = np.concatenate(drawn)
    if len(taken) == 0:
        raise DataError(f"too few samples or groups to draw {part} from", option=("split", part))
    return taken


def _stratified(
    splitter: type, share: float, among: np.ndarray, targets: np.ndarray, groups: np.ndarray, state: int
) -> np.ndarray:
    pieces = min(20, len(np.unique(groups)))  # shares are met to the nearest twentieth
    if pieces < 2:
        return among[:0]
    labels = targets[among]
    # Where no class has as many samples as there are pieces, there is nothing to stratify by.
    strata = labels if np.bincount(labels).max() >= pieces else np.zeros_like(labels)
    wanted = max(1, min(pieces - 1, round(share * pieces)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes rarer than the pieces are spread as far as they go
        folds = splitter(pieces, shuffle=True, random_state=state).split(among, strata, groups)
        taken = [chosen for (_, chosen), _ in zip(folds, range(wanted), strict=False)]
    return among[np.concatenate(taken)]


def _away_from(index: Index, samples: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, int]:
    """The samples whose windows share no pixel with a window of the others, and how many did."""
    if index.positions is None or index.window is None or len(samples) == 0 or len(others) == 0:
        return samples, 0
    window = np.asarray(index.window)
    # Scaled by the window, two windows share pixels exactly where both centres are less than 1 apart.
    tree = KDTree(index.positions[others] / window)
    distance, _ = tree.query(index.positions[samples] / window, p=np.inf, distance_upper_bound=1)
    apart = ~(distance < 1 - 1e-9)
    return samples[apart], int((~apart).sum())
