"""What `fusionkit data describe RECIPE` tells of a recipe's data before anything is trained."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fusionkit.flow import TaskKind
from fusionkit.loading import read_checked
from fusionkit.opened import Opened, open_data
from fusionkit.progress import Progress
from fusionkit.recipe import Recipe
from fusionkit.splits import Partition


@dataclass
class Description:
    """Sizes, classes, missing inputs, ranges, duplicates, and an example of each modality.

    Args:
        recipe: its name.
        source: the dataset component.
        sizes: samples of each part, a row a partition: `(fold or "", {"train": n, "val": n, "test": n})`.
        unlabelled: samples without a label, which no part holds.
        classes: per class or label, its name and its samples in each part of the first partition; per quantity its
            mean, deviation and range there.
        modalities: per modality: shape, absent samples, least and greatest value, an example.
        findings: duplicates, shared pixels, samples left out, bad samples by reason.
    """

    recipe: str
    source: str
    sizes: list[tuple[str, dict[str, int]]]
    unlabelled: int
    classes: list[tuple[str, dict[str, int | str]]]
    modalities: list[dict[str, Any]]
    findings: list[str] = field(default_factory=list)
    task: TaskKind = "classification"

    @property
    def called(self) -> str:
        """What `classes` are."""
        return {"multilabel": "labels", "regression": "quantities", "grounding": "corners"}.get(self.task, "classes")

    def __str__(self) -> str:
        lines = [f"{self.recipe}: data from {self.source}"]
        for fold, sizes in self.sizes:
            parts = ", ".join(f"{part} {count}" for part, count in sizes.items())
            lines.append(f"  {f'fold {fold}: ' if fold else ''}{parts}")
        lines += [f"  unlabelled {self.unlabelled}"] if self.unlabelled else []
        lines.append(self.called + (f" (fold {self.sizes[0][0]} as test)" if self.sizes[0][0] else ""))
        width = max((len(name) for name, _ in self.classes), default=0)
        for name, counts in self.classes:
            lines.append(f"  {name:<{width}}  " + "  ".join(f"{part} {count:>6}" for part, count in counts.items()))
        lines.append("modalities")
        for row in self.modalities:
            low, high = row["range"]
            span = "" if np.isnan(low) else f" {low:g} to {high:g},"
            lines.append(f"  {row['name']}: {row['shape']},{span} absent in {row['absent']} samples")
            lines.append(f"    {row['example']}")
        return "\n".join([*lines, "findings", *(f"  {finding}" for finding in self.findings)])


def describe(recipe: Recipe, progress: Progress | None = None) -> Description:
    """Read through the data of a recipe and tell what is there.

    Raises:
        RecipeError: the data are missing or do not fit the recipe.
        FusionkitError: too many samples are bad.
    """
    return describe_opened(recipe, open_data(recipe, progress or Progress()))


def describe_opened(recipe: Recipe, opened: Opened) -> Description:
    """The same of data that are open already."""
    first = opened.partitions[0]
    told = {part: _targets(opened, positions) for part, positions in first.parts().items()}
    return Description(
        recipe=recipe.name,
        source=recipe.dataset.name,
        sizes=[
            (partition.fold or "", {part: len(held) for part, held in partition.parts().items()})
            for partition in opened.partitions
        ],
        unlabelled=opened.unlabelled,
        classes=[
            (name, {part: held[number] for part, held in told.items()})
            for number, name in enumerate(opened.class_names)
        ],
        modalities=[_modality(opened, name, int(first.train[0])) for name in opened.inputs],
        findings=findings(opened),
        task=opened.index.task,
    )


def _targets(opened: Opened, positions: np.ndarray) -> list[int] | list[str]:
    """Per class or label how many of these samples have it, per quantity what it is like."""
    targets = opened.index.targets[positions]
    if opened.index.task in ("regression", "grounding"):
        columns = (targets[:, k] for k in range(targets.shape[1]))
        return [f"{c.mean():.4g} ± {c.std():.3g} ({c.min():.4g} to {c.max():.4g})" for c in columns]
    if opened.index.task == "multilabel":
        return [int(count) for count in targets.sum(0)]
    if opened.index.task == "retrieval":
        targets = targets[targets[:, 1] >= 0, 1]
    return [int(count) for count in np.bincount(targets, minlength=len(opened.class_names))]


def findings(opened: Opened) -> list[str]:
    """What a careful reader should know of the data: leaks first, then what was left out."""
    told = []
    for partition in opened.partitions:
        where = f"fold {partition.fold}: " if partition.fold else ""
        rest = np.concatenate([partition.train, partition.val])
        if twins := opened.survey.identical(partition.test, rest):
            told.append(f"{where}{twins} test samples are identical to a sample of train or val")
        if partition.shared_pixels:
            leak = f"{partition.shared_pixels} test samples share pixels with a sample of train or val"
            told.append(f"{where}{leak}: {partition.overlap} pixels of the scene in all")
        if partition.shared_groups:
            told.append(
                f"{where}{partition.shared_groups} test samples are of a group that train or val has samples of"
            )
        if partition.apart is not None:
            told.append(
                f"{where}from a test window's centre to the nearest of train or val: {partition.apart:.0f} pixels"
            )
        if partition.left_out:
            told.append(f"{where}{partition.left_out} samples left out to keep windows apart")
        told += [where + finding for finding in _unlike_train(opened, partition)]
    if repeats := opened.survey.duplicates():
        told.append(f"{repeats} samples repeat another one")
    reasons = Counter(bad.reason for bad in opened.survey.bad)
    told += [f"{count} bad: {reason}" for reason, count in reasons.most_common(20)]
    return told or ["no duplicates, no shared pixels, no bad samples"]


def _unlike_train(opened: Opened, partition: Partition) -> list[str]:
    """What test asks for that train does not show."""
    targets, names, task = opened.index.targets, opened.class_names, opened.index.task
    if task in ("retrieval", "grounding"):  # no class needs to be known, and boxes lie anywhere
        return []
    train, test = targets[partition.train], targets[partition.test]
    if task == "regression":
        low, high = train.min(0), train.max(0)
        beyond = ((test < low) | (test > high)).sum(0)
        return [
            f"{count} test samples lie beyond the {name} of train ({low[k]:.4g} to {high[k]:.4g})"
            for k, (name, count) in enumerate(zip(names, beyond.tolist(), strict=True))
            if count
        ]
    there = (lambda t: np.flatnonzero(t.any(0))) if task == "multilabel" else np.unique
    unseen = np.setdiff1d(there(test), there(train))
    listed = ", ".join(names[number] for number in unseen.tolist())
    called = "labels" if task == "multilabel" else "classes"
    return [f"{called} of test that train has no sample of: {listed}"] if listed else []


def _modality(opened: Opened, name: str, position: int) -> dict[str, Any]:
    spec = opened.inputs[name]
    value = read_checked(opened.dataset, position, {name: spec})[name]
    example = f"{opened.index.ids[position]}: absent"
    if value is not None and spec.text:
        example = f"{opened.index.ids[position]}: {value}"
    elif value is not None:
        flat = np.asarray(value).ravel()
        shown = " ".join(f"{number:g}" for number in flat[:: max(1, len(flat) // 8)][:8].tolist())
        shape = " x ".join(map(str, value.shape))
        example = f"{opened.index.ids[position]}: {value.dtype} {shape}, mean {flat.mean():g}, every so often {shown}"
    return {
        "name": name,
        "shape": str(spec),
        "absent": opened.survey.absent[name],
        "range": opened.survey.ranges.get(name, (float("nan"), float("nan"))),
        "example": example,
    }
