"""The core's own part of a recipe: which sections there are and what stands in them.

Components (fusion, losses, encoders, dataset, augmentations) describe their options themselves, see
`fusionkit.options`; here they are only named.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from fusionkit import requirements
from fusionkit.flow import TaskKind
from fusionkit.headlines import LABELS

Scalar: TypeAlias = bool | int | float | str
Fraction = Annotated[float, Field(gt=0, lt=1)]


def _matches(pattern: str, rule: str) -> AfterValidator:
    """Text of this pattern; `rule` says in words what that is."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{value!r} is not allowed here; {rule}")
        return value

    return AfterValidator(check)


RunName = Annotated[
    str,
    _matches(r"[\w.-]+", "use letters, digits, `_`, `-` and `.`"),
    WithJsonSchema({"type": "string", "pattern": r"^[\w.-]+$"}),
]
ModalityName = Annotated[
    str,
    _matches(r"[A-Za-z]\w*", "the name of a modality is a letter, then letters, digits and `_`"),
    WithJsonSchema({"type": "string", "pattern": r"^[A-Za-z]\w*$"}),
]


def _is_requirement(value: str) -> str:
    requirements.parse(value)
    return value


class Section(BaseModel):
    """Strict and closed: an unknown key, a number in quotes or an infinite one is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Split(Section):
    """How the samples are divided into train, val and test."""

    column: str | None = None
    """The column (or key) of the dataset whose values say where a sample goes."""
    test: Scalar | list[Scalar] | None = None
    """With `column`: the value or values that are test. Without: the fraction of the samples, for example 0.2."""
    val: Scalar | list[Scalar] | None = 0.15
    """A fraction (a number with a point between 0 and 1) of what is not test, or with `column` the value or values
    that are val. Where the official split has val samples, those are taken."""
    train: Scalar | list[Scalar] | None = None
    """With `column`: the value or values that are train; default all that are neither test nor val."""
    group: str | None = None
    """A column whose equal values are kept on one side: plots, videos, scenes. `id` is always there."""
    group_pattern: str | None = None
    """A regular expression; what its first bracket finds in the text of `group` is the group: `(.+)_\\d+` makes
    `plotA_17` one of `plotA`."""
    blocks: PositiveInt | None = None
    """For windows of one scene: the side in pixels of the square blocks that are kept on one side; windows of
    train and val that share pixels with test (and of train with val) are left out."""
    buffer: NonNegativeInt = 0
    """With `blocks`: so many pixels, at least, lie between windows of different parts; those nearer are left out."""

    @field_validator("buffer")
    @classmethod
    def _with_blocks(cls, value: int, info: ValidationInfo) -> int:
        if value and info.data.get("blocks") is None:
            raise ValueError("a buffer goes with `blocks`, the square blocks that are kept on one side")
        return value

    seed: NonNegativeInt = 0
    """Seed of the division; apart from the recipe's `seed`, so that runs with several seeds share their test set."""


def _named_split(value: Any) -> Any:
    if isinstance(value, str) and value != "official":
        raise ValueError(
            f"there is no split {value!r}; write `official`, or a mapping such as {{column: fold, test: 0}}"
        )
    return {} if value == "official" else value


class Data(Section):
    """Where the samples come from. Every other key here is an option of the dataset."""

    source: str
    """The dataset component."""
    split: (
        Annotated[Split, BeforeValidator(_named_split, json_schema_input_type=Literal["official"] | Split)] | None
    ) = None
    """`official`, or a mapping. Default: the official split of the dataset."""
    folds: Literal["all"] | None = None
    """`all`: every value of `split.column` is test once, and the predictions are pooled into one result."""
    class_names: list[str] | None = None
    """Names to print, in the order of the classes; must be as many as the data have classes."""
    batch_size: PositiveInt = 64
    """The most samples of one optimiser step, over all devices; the batches of an epoch are of nearly equal size."""
    num_workers: NonNegativeInt = 0
    """Loader processes. The results do not depend on it."""
    max_bad: Annotated[float, Field(ge=0, le=1)] = 0.01
    """The share of samples that may be quarantined before the run refuses to go on."""
    timeout: NonNegativeFloat = 300
    """Seconds that one sample may take to read. One that takes longer is quarantined before training and ends it
    later. 0 is no limit."""


def _encoder_alone(value: Any) -> Any:
    if not isinstance(value, str | dict):
        raise ValueError("name its encoder here, or write a mapping with `encoder`")
    return {"encoder": value} if isinstance(value, str) else value


class ModalityKeys(Section):
    """One modality: its encoder and how its values are scaled. The name of an encoder alone is as good."""

    encoder: Any
    """The encoder component: its name, or a mapping with `name` and its options."""
    normalize: Literal["auto", "standard", "whiten", "quantile", "none"] = "auto"
    """By statistics of the training split alone. `standard`: zero mean and unit deviation per channel. `whiten`:
    also decorrelated (principal components of even variance), for hyperspectral bands, whose differences are small
    beside what they share. `quantile`: by rank, so that all values are equally likely, for vectors and sequences of odd
    distributions. `auto`: standard, except for counts."""
    absent: Literal["mask", "token"] = "mask"
    """What the fusion sees where the modality is absent: nothing, or a learned token in its place, at test too."""
    shape: list[PositiveInt] | None = None
    """The shape of one sample. Optional; lets `fusionkit check` work where the data are not at hand, and is compared
    with the data where they are."""


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


FigureName = Annotated[str, WithJsonSchema({"enum": ["loss", *LABELS]})]
"""Whether the task has such a figure is for `fusionkit.validation` to say."""
Precision: TypeAlias = Literal["32", "bf16", "16", "64"]


class Balance(Section):
    """OGM-GE (Peng et al., CVPR 2022): slow down the encoder of a modality that runs ahead of the others."""

    alpha: PositiveFloat = 0.5
    """How much: gradients are multiplied by 1 - tanh(alpha * ratio), where its score is `ratio` > 1 times theirs."""
    noise: bool = True
    """Add Gaussian noise of each gradient's own deviation, for better generalisation."""
    first_epoch: PositiveInt = 1
    """Epochs are counted from 1."""
    last_epoch: PositiveInt | None = None
    """Default: to the end."""

    @field_validator("last_epoch")
    @classmethod
    def _not_before_the_first(cls, value: int | None, info: ValidationInfo) -> int | None:
        first = info.data.get("first_epoch", 1)
        if value is not None and value < first:
            raise ValueError(f"{value} comes before first_epoch, {first}")
        return value


class Stage(Section):
    """Some epochs in which parts of the model learn at rates of their own."""

    epochs: PositiveInt | None = None
    """How many; of the last stage it may be left out: all that remain."""
    lr_scale: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """Factors on `lr` for parts, on top of those of `train.lr_scale`. What 0 freezes learns again in a later stage."""


class Train(Section):
    """How the model is trained."""

    epochs: PositiveInt = 30
    """How often every training sample is seen."""
    optimizer: str = "adamw"
    """Any optimiser that timm knows: adamw, adam, sgd, lamb, lion, ..."""
    lr: PositiveFloat = 1e-3
    """The learning rate, at the end of the warm-up."""
    weight_decay: NonNegativeFloat = 0.01
    """Not applied to biases and norms."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """For optimisers that have one."""
    lr_scale: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """Factors on `lr` for parts: `encoder.image: 0.1`, `encoder`, `fusion`, `head`, `branches`. 0 freezes a part."""
    stages: list[Stage] = Field(default_factory=list)
    """Parts at other rates for the first epochs, for example the text encoder slowly first, then all together:
    `[{epochs: 5, lr_scale: {encoder.text: 0.1}}, {}]`. Schedule and warm-up go on across them."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """From `lr` down to zero over the epochs, or constant; after the warm-up."""
    warmup_epochs: NonNegativeFloat = 0
    """Linear warm-up."""
    warmup_steps: NonNegativeInt = 0
    """The same in steps; whichever of the two is longer."""
    precision: Annotated[
        Precision, BeforeValidator(_number_as_text, json_schema_input_type=Precision | Literal[32, 16, 64])
    ] = "32"
    """In bits; `16` and `bf16` are mixed with 32."""
    grad_clip: PositiveFloat | None = None
    """Greatest norm of the gradient."""
    accumulate: PositiveInt = 1
    """The parts into which a batch is cut to save memory; the gradients are those of the whole batch, except for
    batch norms."""
    gradient_checkpointing: bool = False
    """Save memory: what goes on inside the stages of the encoders is computed again going back, instead of kept; the
    gradients are the same, for about a third more time."""
    one_per_group: bool | None = None
    """An epoch sees one sample of each group, such as one caption of each image, drawn anew. Default: in a
    retrieval."""
    balance: Balance | None = None
    """Balance of the encoders' gradients between the modalities; `{}` for its defaults."""
    reset_fusion: list[Annotated[int, Field(ge=2)]] = Field(default_factory=list)
    """Epochs, counted from 1, at whose start the fusion gets new initial weights; encoders and heads keep theirs."""
    early_stopping: PositiveInt | None = None
    """Epochs without a better validation figure after which training ends."""
    select: FigureName | None = None
    """The validation figure by which the best epoch is chosen: the loss, one of the task's, or a metric of the
    recipe. Default: oa of classification, map of multilabel, rmse of regression, acc_50 of grounding, mean_recall of
    retrieval."""
    accelerator: str = "auto"
    """This and the next three are handed to Lightning Fabric."""
    devices: PositiveInt | Literal["auto"] | list[NonNegativeInt] = 1
    """How many, or which."""
    strategy: str = "auto"
    """How several devices go together."""
    num_nodes: PositiveInt = 1
    """How many machines."""

    @field_validator("reset_fusion", "balance")
    @classmethod
    def _within_the_epochs(cls, value: Any, info: ValidationInfo) -> Any:
        epochs = info.data.get("epochs")
        begins = [value.first_epoch] if isinstance(value, Balance) else value or []
        if epochs is not None and (late := [epoch for epoch in begins if epoch > epochs]):
            raise ValueError(f"there is no epoch {late[0]}; the last one is {epochs}")
        return value

    def stage(self, epoch: int) -> int:
        """The stage, counted from 0, to which an epoch, counted from 0, belongs; 0 where there are no stages."""
        ends = accumulate(stage.epochs or 0 for stage in self.stages[:-1])
        return sum(epoch >= end for end in ends)

    def scales(self, stage: int) -> tuple[dict[str, float], ...]:
        """The mappings of factors that count in a stage; the factor of a part is the product over them."""
        return (self.lr_scale, self.stages[stage].lr_scale) if self.stages else (self.lr_scale,)


class RecipeKeys(Section):
    """A whole recipe."""

    name: RunName | None = None
    """Starts the name of the run folder; default: the file's name."""
    base: str | None = None
    """Another recipe whose keys this one changes, relative to this file."""
    requires: list[Annotated[str, AfterValidator(_is_requirement)]] = Field(default_factory=list)
    """Packages that the recipe needs, each a name and the versions that are right, as `fusionkit-film>=0.2`. As with
    every list, that of a recipe takes the place of its base's."""
    task: TaskKind = "classification"
    """One class a sample, any number of labels, quantities; grounding: the box of what a phrase names in an image; or
    retrieval: finding what belongs to a sample of one modality among those of another."""
    seed: NonNegativeInt = 0
    """Of every random choice but the division of the samples, which has its own."""
    data: Data
    modalities: dict[ModalityName, Annotated[ModalityKeys, BeforeValidator(_encoder_alone)]] = Field(min_length=1)
    """Which modalities of the dataset are used, each with its encoder."""
    fusion: Any
    """The fusion component: its name, or a mapping with `name` and its options."""
    loss: Any = None
    """A loss, a mapping from losses to weights, or a list of mappings with `name`, `weight` and options. A weight is a
    number, a schedule over epochs, or `uncertainty` or `dwa`, which are learned. Default: cross_entropy for
    classification, binary_cross_entropy for multilabel, mse for regression, l1 for grounding, info_nce for
    retrieval."""
    augment: list[Any] = Field(default_factory=list)
    """Augmentations of training samples, applied in this order."""
    metrics: list[Any] = Field(default_factory=list)
    """Metrics beside the headline figures of the task, each a name, or a mapping with `name` and options."""
    train: Train = Field(default_factory=lambda: Train())
    baselines: bool = False
    """Also train every modality alone, and the early stack where shapes allow, and answer whether fusion helps."""


def keys_beside(kind: str) -> set[str]:
    """The keys of the core that stand beside the options of a component of this kind."""
    return {"name", *{"dataset": Data.model_fields.keys(), "loss": {"weight"}}.get(kind, ())}


def default_loss(task: object) -> str:
    """The loss of a recipe that names none."""
    named = {"multilabel": "binary_cross_entropy", "regression": "mse", "grounding": "l1", "retrieval": "info_nce"}
    return named.get(str(task), "cross_entropy")


_SECTIONS: dict[str, type[Section]] = {
    "data.split": Split,
    "data": Data,
    "train.balance": Balance,
    "train.stages": Stage,
    "train": Train,
    "the top level": RecipeKeys,
}


def home(key: str) -> str | None:
    """The section of the core to which a key belongs; the highest where several have it."""
    return next((name for name, model in reversed(_SECTIONS.items()) if key in model.model_fields), None)
