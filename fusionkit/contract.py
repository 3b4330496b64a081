"""The base classes of components: what a plugin's class is given and what it owes.

Keyword-only arguments of a constructor are the component's options in a recipe (see `fusionkit.options`);
positional ones are handed over by the core.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int32, Shaped
from torch import Tensor, nn

from fusionkit.checkpointing import run_stage
from fusionkit.errors import BadSample, DataError
from fusionkit.flow import Batch, Features, FeatureSpec, Fused, Input, InputSpec, Output, Task, TaskKind
from fusionkit.stages import in_step

if TYPE_CHECKING:
    from fusionkit.scene import SceneWindows

Sample: TypeAlias = dict[str, "np.ndarray | None"]
"""One sample: per modality an array of the spec's shape (shorter along time if ragged), or None where absent. Text is
an array without axes: `np.array("a caption")`. A map may be an `np.ma.MaskedArray`: what stands in masked values means
nothing, and a map of them alone is absent."""


class Encoder(nn.Module, ABC):
    """Turns one modality into features, stage by stage.

    A subclass sets `self.stages` and implements `embed`. Where the features have a grid, a stage is a module from map
    `[B, D, H, W]` to map; where they have none, from tokens `[B, N, D]` to tokens. Override `step` for anything else.
    Everything must run on the meta device: no `.item()`, no branch on values.

    Args:
        spec: the shape of the modality.
    """

    stages: nn.ModuleList
    checkpointing: bool = False
    """Whether what goes on inside a stage is not kept for the way back but computed again; see `checkpoint`."""

    def __init__(self, spec: InputSpec):
        super().__init__()
        self.spec = spec
        self.stages = nn.ModuleList()

    @abstractmethod
    def embed(self, value: Float[Tensor, "B ..."], valid: Bool[Tensor, "B T"] | None) -> Features:
        """Turn the input `[B, *spec.shape]` into the features that the first stage reads."""

    def step(self, stage: int, features: Features) -> Features:
        """Run one stage."""
        module = self.stages[stage]
        if features.grid is not None:
            return features.with_map(module(features.map))
        return features.with_tokens(module(features.tokens))

    def finish(self, features: Features) -> Features:
        """Run after the last stage, for example a final norm."""
        return features

    def checkpoint(self) -> None:
        """Called where a recipe asks for `train.gradient_checkpointing`: a stage then runs twice for each step.

        Override it to cut finer than by stages. What a stage draws and writes to its buffers is taken care of, and
        anything else has to be the same both times.
        """
        self.checkpointing = True

    def forward(self, value: Shaped[Tensor, "B ..."], valid: Bool[Tensor, "B T"] | None = None) -> Features:
        features = self.embed(value, valid)
        for stage in range(len(self.stages)):
            features = run_stage(self, stage, features)
        return self.finish(features)


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


class TextEncoder(Encoder):
    """An encoder of token ids `[B, T]`; `valid` says which are real."""

    @classmethod
    @abstractmethod
    def tokenizer(cls, **options: Any) -> Tokenizer:
        """The tokenizer that belongs to an encoder of these options, which are those of its constructor.

        Raises:
            RequestError: it cannot be had: a vocabulary that is not on this machine, for example.
        """


class Fusion(nn.Module, ABC):
    """Combines the features of all modalities into one vector a sample, or their predictions into one.

    The core calls, in this order: `arrange` (early fusion), `encode` with `exchange` between the encoders' stages
    (middle fusion), `forward` (late fusion), and `decide` (decision fusion). Most methods implement `forward` alone.

    Absent modalities: `features[m].present` says which samples have modality m, and what stands in the slots of the
    others must change nothing. `Features.pooled` and `Features.token_mask` already honour it.

    Args:
        inputs: per modality, the shape of its features, in the order of the recipe.
    """

    decision: Literal["fused", "branches", "both"] = "fused"
    """What `decide` reads: a main head on the fused vector, a head for each branch, or both. Heads that are not read
    do not exist. A constructor may set it."""
    shares_branch_head: bool = False
    """True where all branches have one head, which needs one width."""
    supervises_branches: bool = False
    """True where `decide` hands no gradient to the branches, so that each branch's prediction has to meet the losses
    by itself; see `Loss.reads_logits_alone`."""
    reads_stages: bool = False
    """True where `forward` reads `Features.stages`."""
    embeds: bool = False
    """True where `embed_pair` tells the embeddings of two modalities, each made without the other."""

    def __init__(self, inputs: Mapping[str, FeatureSpec]):
        super().__init__()
        self.inputs = dict(inputs)

    @classmethod
    def arrange(cls, inputs: dict[str, Input]) -> dict[str, Input]:
        """Rearrange the inputs before the encoders: early fusion. The keys that remain name the encoders used.

        Raises:
            ShapeError: the inputs cannot be brought together.
        """
        return inputs

    def join(self, encoders: nn.ModuleDict) -> nn.ModuleDict:
        """Couple the encoders once, when the model is built: shared weights, private norms.

        Where they become one module, it stands under a key of its own, and `encode` knows how to run it.
        """
        return encoders

    def encode(self, encoders: nn.ModuleDict, inputs: dict[str, Input]) -> dict[str, Features]:
        """Run what `join` handed back; by default each modality's own encoder, all of them in step."""
        return in_step(encoders, inputs, self.exchange, keep_stages=self.reads_stages)

    def exchange(self, stage: int, features: dict[str, Features]) -> dict[str, Features]:
        """Exchange between the modalities after each stage but the last. Middle and multi-level fusion live here.

        `fusionkit.stages.exchange_specs(self.inputs)` tells the shapes that each call is given.
        """
        return features

    @abstractmethod
    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"] | Fused:
        """Fuse the features of the last stage into `[B, D]`."""

    def decide(
        self,
        logits: Float[Tensor, "B K"] | None,
        branches: dict[str, Float[Tensor, "B K"]],
        features: dict[str, Features],
    ) -> Float[Tensor, "B K"]:
        """The prediction, from that of the main head and those of the branches, as far as `decision` asks for them.

        Args:
            logits: of the main head; None where there is none.
            branches: per modality, of its branch head.
            features: as given to `forward`; they tell which modalities are present.
        """
        if logits is None:
            raise NotImplementedError(f"{type(self).__name__} has no main head and does not implement `decide`")
        return logits

    def embed_pair(
        self,
        vector: Float[Tensor, "B D"],
        branches: dict[str, Float[Tensor, "B K"]],
        features: dict[str, Features],
    ) -> Float[Tensor, "B _"]:
        """What a retrieval compares by inner product: two embeddings of one width side by side; zero where absent.

        Args:
            vector: what `forward` made; by default it is those embeddings.
            branches, features: as for `decide`.
        """
        return vector

    def figures(self) -> dict[str, float]:
        """Figures of the fusion's state, logged after every epoch as `fusion/NAME`."""
        return {}

    @staticmethod
    def remarks(history: Sequence[Mapping[str, float]]) -> list[str]:
        """What a user should be told of a finished training, from its rows of figures: one an epoch."""
        return []


class Loss(nn.Module, ABC):
    """One named term of the training objective.

    Args:
        task: what is predicted, with the class counts of the training split.
    """

    tasks: tuple[TaskKind, ...] = ("classification", "multilabel", "regression", "grounding")
    """The kinds of task that the term is for; a recipe of another is refused. Those that read no target are for
    `"retrieval"` too."""
    needs_branches: bool = False
    """True where the term reads `Output.branch_logits`: the model then builds a head for each modality. This and what
    follows may be set by a constructor, from its options."""
    needs_stages: bool = False
    """True where the term reads `Output.stage_logits`: the model then builds a head for each intermediate stage of the
    fusion, and a fusion that has none is refused."""
    reads_logits_alone: bool = False
    """True where the term depends on `output.logits` and the batch alone, so that it can be asked of any prediction:
    where a fusion `supervises_branches`, the term is the sum over the main prediction and those of the branches."""
    compares_samples: bool = False
    """True where the term compares the samples of a batch with each other, so that the terms of its parts do not add
    up: `train.accumulate` is refused beside it."""
    takes_mixed: bool = True
    """False where mixed samples mean nothing to the term: MixUp and CutMix are refused beside it."""
    needs_penalty: str | None = None
    """The name in `Output.penalties` that the term reads; a fusion without it is refused."""
    teacher: str | None = None
    """The run whose model's output the term reads, in `Output.teachers` under this name."""

    def __init__(self, task: Task):
        super().__init__()
        self.task = task

    def fit_to(self, output: Output) -> None:
        """Make what depends on the model's shapes: adaptation layers, projections. Called once, before the optimiser.

        Args:
            output: of the model, on the meta device: shapes without content.

        Raises:
            ShapeError: the term cannot be asked of this model.
        """

    def after_step(self) -> None:
        """Called after every step of the optimiser, for example to clamp a parameter."""

    @abstractmethod
    def forward(self, output: Output, batch: Batch) -> Float[Tensor, ""]:
        """The term's value, a mean over the samples of the batch."""

    def count(self, batch: Batch) -> float | Tensor:
        """What that mean is over, so that parts of a batch, and processes, add up to the whole.

        Its samples; override it for a weighted mean (the sum of the weights), or for one over some of the samples.
        """
        return float(len(batch))


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

    def __post_init__(self) -> None:
        facts = {"targets": self.targets, "split": self.split, "groups": self.groups, "positions": self.positions}
        for name, values in (facts | {f"column {name!r}": column for name, column in self.columns.items()}).items():
            if values is not None and len(values) != len(self.ids):
                raise DataError(f"{len(self.ids)} samples have {len(values)} values of {name}")
        names = len(self.class_names)
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
