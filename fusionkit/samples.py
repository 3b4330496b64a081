"""The base classes of what brings samples: datasets, augmentations, mixings, tokenizers; and what an index holds.

As in `fusionkit.contract`, keyword-only arguments of a constructor are options in a recipe.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jaxtyping import Int32

from fusionkit.errors import BadSample, DataError
from fusionkit.flow import Batch, InputSpec, Task, TaskKind

if TYPE_CHECKING:
    from fusionkit.scene import SceneWindows

Sample: TypeAlias = dict[str, "np.ndarray | None"]
"""One sample: per modality an array of the spec's shape (shorter along time if ragged), or None where absent. Text is
an array without axes: `np.array("a caption")`. A map may be an `np.ma.MaskedArray`: what stands in masked values means
nothing, and a map of them alone is absent."""


class Mixing(ABC):
    """Mixes the samples of a training batch with each other, before they are normalised. An augmentation of batches.

    Args:
        inputs: per modality, the shape of its arrays. A batch may hold fewer: a baseline reads its own modality alone.
        task: what is predicted.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], task: Task):
        self.inputs, self.task = dict(inputs), task

    @abstractmethod
    def __call__(self, batch: Batch, random: np.random.Generator) -> Batch:
        """Return the mixed batch; the tensors given are not to be written to. Draw from `random` alone."""


class Augmentation(ABC):
    """Changes a training sample at random, before it is normalised.

    Args:
        inputs: per modality, the shape of its arrays. A sample may hold fewer: a baseline reads its own modality alone.
    """

    makes_absent: frozenset[str] = frozenset()
    """The modalities that it leaves out of some samples, so that the model learns to do without; a constructor may
    set it."""
    moves: bool = False
    """True where it moves what a map shows: refused in a grounding, whose boxes would stay where they were. A
    constructor may set it."""

    def __init__(self, inputs: Mapping[str, InputSpec]):
        self.inputs = dict(inputs)

    @abstractmethod
    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        """Return the changed sample; the arrays given are not to be written to. Draw from `random` alone."""


@dataclass
class Index:
    """Every sample of a dataset, by name.

    Args:
        ids: unique, one a sample.
        targets: class index of each sample `[n]`; or integers `[n, K]`, 1 where it has the label and 0 where not; or
            floats `[n, K]`, quantities. A sample with -1, or with NaN, is without a label and used in no split. In a
            retrieval integers `[n, 2]`: the number of the thing that a sample shows, and of its class or -1. In a
            grounding the boxes `[n, 4]`: left, top, right, bottom, as shares of the image.
        class_names: of the classes, labels or quantities.
        columns: further facts of each sample that a split can go by (a fold, a plot, a site).
        split: the official split, `"train"`, `"val"`, `"test"` or `""` (unused); None where there is none.
        groups: samples with equal values stay on one side wherever the core divides them; where the division is given
            (an official split, a column), those on both sides are counted and reported. None where there are none.
        positions: `[n, 2]` row and column of each sample's window centre, where samples are windows of one scene.
        window: height and width of that window in pixels.
        bad: what was found bad already while listing.
        units: of the quantities.
        retrieval: whether the targets are those of a retrieval. Datasets leave it out: the core makes such an index of
            one with classes, or without any, where a recipe asks for it.
        grounding: whether they are those of a grounding; of an index with four quantities alike.
        raters: of a classification, the class that each of several people named, `[n, A]`, -1 for an answer that is no
            class and -2 where fewer were asked; models are then judged by their agreement, see `fusionkit.raters`.
    """

    ids: Sequence[str]
    targets: np.ndarray
    class_names: tuple[str, ...]
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    split: np.ndarray | None = None
    groups: np.ndarray | None = None
    positions: np.ndarray | None = None
    window: tuple[int, int] | None = None
    bad: list[tuple[str, BadSample]] = field(default_factory=list)
    units: tuple[str, ...] = ()
    retrieval: bool = False
    grounding: bool = False
    raters: np.ndarray | None = None

    def __post_init__(self) -> None:
        facts = {"targets": self.targets, "split": self.split, "groups": self.groups, "positions": self.positions}
        facts["raters"] = self.raters
        for name, values in (facts | {f"column {name!r}": column for name, column in self.columns.items()}).items():
            if values is not None and len(values) != len(self.ids):
                raise DataError(f"{len(self.ids)} samples have {len(values)} values of {name}")
        names = len(self.class_names)
        if self.raters is not None and not (
            self.targets.ndim == 1 == self.raters.ndim - 1 and ((self.raters >= -2) & (self.raters < names)).all()
        ):
            raise DataError("raters are [n, A] beside targets [n]: a class index, -1 for another answer or -2 for none")
        if self.retrieval:
            return
        if self.targets.ndim == 2 and self.targets.shape[1] != names:
            raise DataError(f"the targets are {self.targets.shape[1]} a sample, and there are {names} names of them")
        if self.targets.dtype.kind == "f":
            if self.targets.ndim != 2:
                raise DataError("quantities are targets [n, K]")
            if np.isinf(self.targets).any():
                raise DataError("a target is infinite")
            if self.grounding:
                self._hold_boxes()
        elif len(self.ids) and not -1 <= self.targets.min() <= self.targets.max() < (
            names if self.targets.ndim == 1 else 2
        ):
            counted = f"count from 0 to {names - 1}, with -1 for no label" if self.targets.ndim == 1 else "hold 0 and 1"
            raise DataError(f"the targets do not {counted}")

    @property
    def task(self) -> TaskKind:
        """The kind of task that the targets are for."""
        if self.retrieval:
            return "retrieval"
        if self.grounding:
            return "grounding"
        if self.targets.ndim == 1:
            return "classification"
        return "regression" if self.targets.dtype.kind == "f" else "multilabel"

    @property
    def labelled(self) -> np.ndarray:
        """Mask over the samples: whose target is known, whole."""
        if self.retrieval:
            return np.ones(len(self), bool)
        known: np.ndarray = ~np.isnan(self.targets) if self.targets.dtype.kind == "f" else self.targets >= 0
        return known if known.ndim == 1 else np.logical_and.reduce(known, axis=1)

    def _hold_boxes(self) -> None:
        known = self.targets[self.labelled]
        if self.targets.shape[1] != 4:
            raise DataError(f"a box is four quantities: left, top, right, bottom; there are {self.targets.shape[1]}")
        wrong = (known.min(1) < 0) | (known.max(1) > 1) | (known[:, :2] >= known[:, 2:]).any(1)
        if wrong.any():
            first = int(np.flatnonzero(self.labelled)[wrong.argmax()])
            box = ", ".join(f"{corner:g}" for corner in self.targets[first])
            raise DataError(
                f"{wrong.sum()} targets are no boxes (left, top, right, bottom, as shares of the image from 0 to 1); "
                f"the first, of {self.ids[first]}: {box}"
            )

    def __len__(self) -> int:
        return len(self.ids)


class Dataset(ABC):
    """A source of samples. Its constructor reads nothing; it only keeps its options.

    A dataset is copied into loader workers, so open files lazily and per process.

    One that can make data up has a classmethod `make(cls, folder, progress, *, ...)`, with `progress(done, total)`:
    `fusionkit data make NAME FOLDER` calls it, with its keyword-only arguments as options, and prints what it returns.
    One that reads faster from a store of its own has a classmethod `prepare(cls, root, progress, *, ...)`, with
    `progress(step, done, total)`, for `fusionkit data prepare NAME ROOT`.
    """

    task: TaskKind = "classification"
    """What its targets are for; a constructor may set it."""

    @abstractmethod
    def inputs(self) -> dict[str, InputSpec]:
        """The modalities on offer, from options or file headers alone, without reading samples.

        Raises:
            DataError: a file is missing or its header is broken.
        """

    @abstractmethod
    def index(self, progress: Callable[[int, int], None] | None = None) -> Index:
        """List the samples. Called once, before any `read`; `progress(done, total)` may be told of long work.

        Raises:
            DataError: labels are missing or do not fit.
        """

    @abstractmethod
    def read(self, i: int) -> Sample:
        """Read the sample at position `i` of the index, in its own units.

        A read that takes longer than the recipe's `data.timeout` is interrupted by an exception; one that becomes a
        `BadSample` on its way out lends it its path.

        Raises:
            BadSample: it cannot be used; the core quarantines and lists it.
        """

    def class_names(self) -> tuple[str, ...] | None:
        """The names of classes, labels or quantities, where they are known without reading data."""
        return None

    def windows_of(self, files: Mapping[str, Path], inputs: Mapping[str, InputSpec]) -> SceneWindows | None:
        """Windows of a new scene, of which `fusionkit predict` makes a map; None where the dataset cannot cut any.

        It is asked of a dataset whose own files may be gone: only its options are there.

        Args:
            files: of the new scene, by modality; some of the modalities may have none.
            inputs: the shapes of the modalities that the run was trained with, whether they have a file or not.

        Raises:
            DataError: a file is missing or damaged, or is not as those were that the run was trained with.
        """
        return None


class Tokenizer(ABC):
    """Turns text into token ids. What it learns, it learns from the texts of the training samples."""

    length: int
    """The most tokens of a text; what is behind them is cut off."""
    vocabulary: int
    """Ids are below this, known before any text is read."""

    @abstractmethod
    def fit(self, texts: Sequence[str]) -> None:
        """Learn the tokens, in a way that does not depend on anything but the texts and their order."""

    @abstractmethod
    def __call__(self, text: str) -> Int32[np.ndarray, " t"]:
        """The ids of a text: one or more, at most `length`."""

    @abstractmethod
    def words(self, ids: Int32[np.ndarray, " t"]) -> list[str]:
        """What each id stands for, to be printed beside it."""

    @abstractmethod
    def state(self) -> str:
        """All that was learned, as text that `restore` reads; it is kept with the run."""

    @abstractmethod
    def restore(self, state: str) -> None:
        """Learn what another one of the same options learned.

        Raises:
            DataError: the state is damaged.
        """

    @property
    def spec(self) -> InputSpec:
        """What the encoder reads."""
        return InputSpec((self.length,), ragged=True, text=True, vocabulary=self.vocabulary)
