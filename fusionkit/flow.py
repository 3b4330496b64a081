"""What flows from dataset to loss: InputSpec, Batch, Features, Output.

Letters in shapes: B batch, N tokens, D width, C channels, H height, W width, T time, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class InputSpec:
    """What a dataset promises of one modality, without the batch axis.

    Args:
        shape: `(D,)` for vectors, `(T, D)` for sequences, `(C, H, W)` for maps and cubes.
        counts: True for non-negative event counts, which are not standardised unless a recipe asks for it.
        ragged: True where samples may be shorter than `shape` says and carry a mask of valid steps.
        text: True where a sample's value is text, an array of no axes that holds a `str`; a dataset's `shape` is then
            `()`. What a model reads of it are the token ids `(T,)`, ragged, that its encoder's tokenizer makes.
        vocabulary: of these, how many there are; 0 where nothing is tokenized.
    """

    shape: tuple[int, ...]
    counts: bool = False
    ragged: bool = False
    text: bool = False
    vocabulary: int = 0

    @property
    def channel_axis(self) -> int:
        """The axis (without batch) that holds channels: first for maps, last for sequences and vectors."""
        return 0 if len(self.shape) >= 3 else len(self.shape) - 1

    @property
    def channels(self) -> int:
        return self.shape[self.channel_axis]

    def __str__(self) -> str:
        if self.text:
            return f"text of {self.shape[0]} tokens" if self.shape else "text"
        return " x ".join(map(str, self.shape)) or "a number"


@dataclass
class Batch:
    """Some samples.

    Args:
        inputs: per modality `[B, *spec.shape]`; what stands in the slot of an absent input means nothing.
        present: per modality, whether the input was there.
        target: of a classification class indices `[B]`, or, where samples are mixed, shares of the classes `[B, K]`;
            of several labels `[B, K]`, 1 where a sample has the label; of a regression `[B, K]`, each quantity with
            zero mean and unit deviation over the training samples; of a grounding a box `[B, 4]`: its centre, width and
            height as shares of the image; of a retrieval class indices or -1 `[B]`.
        index: positions of the samples in the dataset.
        valid: for ragged modalities, which steps are real, `[B, T]`; for maps, which values were measured, each channel
            by itself, `[B, C, H, W]`. A map that is not here was measured everywhere.
        group: samples with equal numbers show the same thing: captions of one image, twins; None where nobody says.
    """

    inputs: dict[str, Shaped[Tensor, "B ..."]]
    present: dict[str, Bool[Tensor, " B"]]
    target: Int64[Tensor, " B"] | Float[Tensor, "B K"]
    index: Int64[Tensor, " B"]
    valid: dict[str, Bool[Tensor, "B ..."]] = field(default_factory=dict)
    group: Int64[Tensor, " B"] | None = None

    def __len__(self) -> int:
        return len(self.index)

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor changed alike, for example `batch.map(lambda tensor: tensor[rows])`."""

        def each(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: change(tensor) for name, tensor in tensors.items()}

        group = None if self.group is None else change(self.group)
        target, index = change(self.target), change(self.index)
        return Batch(each(self.inputs), each(self.present), target, index, each(self.valid), group)

    def pin_memory(self) -> Batch:
        """Called by a loader that feeds a GPU: copies from pinned memory run beside the computation."""
        return self.map(Tensor.pin_memory)


@dataclass(frozen=True)
class Input:
    """One modality on its way into an encoder: normalised, or ids of tokens; zero where absent or not measured.

    Args:
        value, present: as in a batch.
        valid: of a sequence, which steps are real.
        measured: of a map, the pixels with a measurement in any channel; None means everywhere.
    """

    value: Shaped[Tensor, "B ..."]
    present: Bool[Tensor, " B"]
    valid: Bool[Tensor, "B T"] | None = None
    measured: Bool[Tensor, "B H W"] | None = None


@dataclass(frozen=True)
class Features:
    """What an encoder makes of one modality.

    Args:
        tokens: `[B, N, D]`.
        grid: `(H, W)` with `H * W == N` where the tokens are the cells of a map, row by row.
        mask: True for tokens that are real; None means all are.
        present: True for samples that have this modality; None means all have.
        stages: what each stage of the encoder made, the last one included, for fusions that read them.
    """

    tokens: Float[Tensor, "B N D"]
    grid: tuple[int, int] | None = None
    mask: Bool[Tensor, "B N"] | None = None
    present: Bool[Tensor, " B"] | None = None
    stages: tuple[Features, ...] = ()

    @classmethod
    def from_map(cls, map: Float[Tensor, "B D H W"], present: Bool[Tensor, " B"] | None = None) -> Features:
        height, width = map.shape[-2:]
        return cls(map.flatten(2).transpose(1, 2), (height, width), present=present)

    @classmethod
    def from_vector(cls, vector: Float[Tensor, "B D"], present: Bool[Tensor, " B"] | None = None) -> Features:
        return cls(vector.unsqueeze(1), present=present)

    @property
    def map(self) -> Float[Tensor, "B D H W"]:
        """The tokens as a map; a view where they came from one."""
        if self.grid is None:
            raise ValueError("these features are a sequence and have no map")
        # Not a transposition of tokens: of a single sample its strides would lead torch to a slow convolution.
        return self.tokens.unflatten(1, self.grid).permute(0, 3, 1, 2)

    @property
    def pooled(self) -> Float[Tensor, "B D"]:
        """The mean of the real tokens; zero where the modality is absent."""
        keep = self.token_mask
        if keep is None:
            return self.tokens.mean(1)
        # A fill and not a product: what stands in an absent slot may be infinite.
        total = self.tokens.masked_fill(~keep.unsqueeze(-1), 0).sum(1)
        return total / keep.sum(1, keepdim=True).clamp(min=1)

    @property
    def token_mask(self) -> Bool[Tensor, "B N"] | None:
        """`mask` and `present` as one: True where a token may be attended to. None means everywhere."""
        if self.present is None:
            return self.mask
        present = self.present.unsqueeze(1).expand(self.tokens.shape[:2])
        return present if self.mask is None else self.mask & present

    def with_tokens(self, tokens: Float[Tensor, "B N E"]) -> Features:
        """The same cells or steps with other content. Another number of tokens is no longer the grid.

        Raises:
            ValueError: another number of tokens, and a mask that nobody has carried over to them.
        """
        if tokens.shape[1] == self.tokens.shape[1]:
            return replace(self, tokens=tokens)
        if self.mask is not None:
            raise ValueError(
                f"a stage makes {tokens.shape[1]} tokens of {self.tokens.shape[1]} and leaves their mask behind; "
                "override Encoder.step and say which of the new ones are real"
            )
        return Features(tokens, present=self.present)

    def with_map(self, map: Float[Tensor, "B E h w"]) -> Features:
        """The map after another stage; a mask follows to the new grid (a cell is real if any part of it was)."""
        after = Features.from_map(map, self.present)
        if self.mask is None or self.grid is None:
            return after
        return replace(after, mask=_any_of(self.mask.unflatten(1, self.grid), map.shape[-2:]))

    def on_ground(self, measured: Bool[Tensor, "B H W"] | None) -> Features:
        """The same, where tokens are masked whose cells have no measured pixel; as they are without a grid, or with a
        mask of their own.

        The grid is laid evenly over the pixels; what a receptive field sees beyond its cell does not count.
        """
        if measured is None or self.grid is None or self.mask is not None:
            return self
        return replace(self, mask=_any_of(measured, self.grid))


def _any_of(mask: Bool[Tensor, "B H W"], grid: Sequence[int]) -> Bool[Tensor, "B N"]:
    """Whether anything is true in each cell of a grid that is laid over the mask."""
    height, width = grid
    return F.adaptive_max_pool2d(mask.float().unsqueeze(1), (height, width)).flatten(1) > 0


FeatureDict: TypeAlias = dict[str, Features]


@dataclass(frozen=True)
class FeatureSpec:
    """The shape of one encoder's features, found by running it on the meta device.

    Args:
        dim: D.
        tokens: N.
        grid: `(H, W)` or None.
        stages: the same after each of the encoder's stages; after the last one `Encoder.finish` still follows.
    """

    dim: int
    tokens: int
    grid: tuple[int, int] | None = None
    stages: tuple[FeatureSpec, ...] = ()

    @classmethod
    def of(cls, features: Features, stages: tuple[FeatureSpec, ...] = ()) -> FeatureSpec:
        return cls(features.tokens.shape[2], features.tokens.shape[1], features.grid, stages)


@dataclass(frozen=True)
class Fused:
    """What a fusion makes of the features of all modalities, where it has more to say than the vector.

    Args:
        vector: the fused representation, which the main head reads.
        branches: per modality, what its branch head reads; empty: the pooled features that the fusion was given.
        attention: named attention weights; only where an option asks for them.
        penalties: named scalars that a loss of the recipe may add to the objective.
        stages: named intermediate representations on the way to the vector, for deep supervision.
    """

    vector: Float[Tensor, "B D"]
    branches: dict[str, Float[Tensor, "B _"]] = field(default_factory=dict)
    attention: dict[str, Tensor] = field(default_factory=dict)
    penalties: dict[str, Float[Tensor, ""]] = field(default_factory=dict)
    stages: dict[str, Float[Tensor, "B _"]] = field(default_factory=dict)


@dataclass
class Output:
    """What a model says of a batch.

    Args:
        logits: the main prediction; of a retrieval the embeddings of two modalities side by side. Of a grounding they,
            and those of branches and stages, are centre, width and height of a box, each between 0 and 1.
        fused: the fused representation.
        embeddings: per modality, what its branch head reads: by default the pooled features.
        branch_logits: per modality, the branch head's prediction; empty unless a loss or the fusion needs branches.
        attention: named attention weights; empty unless asked for.
        penalties: named scalars of the fusion's own; see `Fused`.
        stage_logits: per intermediate stage of the fusion, its head's prediction; empty unless a loss needs them.
        teachers: per run that a loss names as its teacher, what that run's model says of the same samples, detached.
    """

    logits: Float[Tensor, "B L"]
    fused: Float[Tensor, "B D"]
    embeddings: dict[str, Float[Tensor, "B _"]] = field(default_factory=dict)
    branch_logits: dict[str, Float[Tensor, "B K"]] = field(default_factory=dict)
    attention: dict[str, Tensor] = field(default_factory=dict)
    penalties: dict[str, Float[Tensor, ""]] = field(default_factory=dict)
    stage_logits: dict[str, Float[Tensor, "B K"]] = field(default_factory=dict)
    teachers: dict[str, Output] = field(default_factory=dict)

    def map(self, change: Callable[[Tensor], Tensor]) -> Output:
        """The prediction with every tensor of a sample a row changed alike: not attention, penalties and teachers."""

        def each(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: change(tensor) for name, tensor in tensors.items()}

        return replace(
            self,
            logits=change(self.logits),
            fused=change(self.fused),
            embeddings=each(self.embeddings),
            branch_logits=each(self.branch_logits),
            stage_logits=each(self.stage_logits),
        )


TaskKind: TypeAlias = Literal["classification", "multilabel", "regression", "grounding", "retrieval"]


@dataclass(frozen=True)
class Task:
    """What is to be predicted, as losses and heads need to know it.

    Args:
        kind: one class a sample, any number of labels, quantities, the box of what a phrase names, or which samples of
            two modalities belong together.
        class_names: of the classes, labels, quantities or corners: one a column of the logits. In a retrieval the
            classes that some figures and losses go by, if there are any; its logits are the embeddings of the two
            modalities.
        class_counts: samples of each class, or with each label, in the training split; empty for numbers.
        samples: how many the training split has.
        mean, std: of each quantity over the training split; empty unless it is a regression.
    """

    kind: TaskKind
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...] = ()
    samples: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def outputs(self) -> int:
        """Width of the logits, and of those of branches and stages."""
        return len(self.class_names)
