"""The base classes of components: what a plugin's class is given and what it owes.

Keyword-only arguments of a constructor are the component's options in a recipe (see `fusionkit.options`);
positional ones are handed over by the core.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from fusionkit.checkpointing import run_stage
from fusionkit.flow import Batch, Features, FeatureSpec, Fused, Input, InputSpec, Output, Task, TaskKind
from fusionkit.samples import Augmentation, Dataset, Index, Mixing, Sample, Tokenizer
from fusionkit.stages import in_step

__all__ = [
    "Augmentation",
    "Dataset",
    "Encoder",
    "Fusion",
    "Index",
    "Loss",
    "Metric",
    "Mixing",
    "Sample",
    "TextEncoder",
    "Tokenizer",
]


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
    compares_modalities: bool = False
    """True where the term compares embeddings of modalities with each other, which `compared` tells: they are watched
    for a collapse."""
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

    def compared(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, "B _"]]:
        """Per modality the vectors of one width that the term compares, if it `compares_modalities`."""
        return {}

    def figures(self) -> dict[str, float]:
        """Figures of the term's state, logged after every epoch as `loss/TERM/NAME`. One that is called `temperature`,
        of a softmax over similarities, is looked at where embeddings collapse."""
        return {}

    def count(self, batch: Batch) -> float | Tensor:
        """What that mean is over, so that parts of a batch, and processes, add up to the whole.

        Its samples; override it for a weighted mean (the sum of the weights), or for one over some of the samples.
        """
        return float(len(batch))


class Metric(ABC):
    """A figure of a model's answers beside the headline figures of its task.

    It is asked of the validation samples after every epoch, of the test samples once, and of 2,000 resamples of these
    for its interval: it should take milliseconds. The order of the samples means nothing to it, and what it is given it
    leaves as it is.

    Args:
        task: what is predicted, with the class counts of the training split.
    """

    tasks: ClassVar[tuple[TaskKind, ...]] = ("classification",)
    """The kinds of task that the metric is for; a recipe of another is refused."""
    higher_is_better: ClassVar[bool] = True
    """False where less is better, as of an error."""

    def __init__(self, task: Task):
        self.task = task

    @abstractmethod
    def compute(self, target: np.ndarray, answers: np.ndarray) -> float:
        """The figure of one sample or more, NaN where it is undefined.

        Args:
            target: a row a sample, as the classes of `fusionkit.kinds` say for each kind of task: of a classification,
                class indices `[n]`.
            answers: the model's, likewise: of a classification, probabilities `[n, K]`.
        """
