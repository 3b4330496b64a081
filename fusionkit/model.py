"""The model that composes encoders, fusion and heads, and proves its shapes on the meta device before it exists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusionkit.contract import Encoder, Fusion
from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import Batch, Features, FeatureSpec, Fused, Input, InputSpec, Output, Task
from fusionkit.normalization import Quantile, Standardize, Statistics, Whiten
from fusionkit.randomness import seed_torch
from fusionkit.stand_in import StandIn


class Alone(Fusion):
    """No fusion: the pooled features of the only modality. For unimodal baselines of fusions that need several."""

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        (only,) = features.values()
        return only.pooled


class FusionModel(nn.Module):
    """Encoders, stage by stage in step; a fusion between and after them; a linear head; other heads where asked for.

    Args:
        task: what it predicts.
        normalizers: a `Standardize` for each modality; text passes as it is.
        encoders: an encoder for each key that `fusion.arrange` leaves, or what `fusion.join` made of them.
        fusion: what combines them.
        head: from the fused representation to logits; None in a retrieval, or where the fusion decides by the branches
            alone.
        branches: per modality, a head on its own representation; may be empty.
        stand_ins: per modality, what stands in its place where it is absent; modalities without one are masked.
        penalties: the names that `Output.penalties` will have.
        stage_heads: per intermediate stage of the fusion, a head on its representation; may be empty.
    """

    target_mean: Tensor
    target_std: Tensor

    def __init__(
        self,
        task: Task,
        normalizers: nn.ModuleDict,
        encoders: nn.ModuleDict,
        fusion: Fusion,
        head: nn.Linear | None,
        branches: nn.ModuleDict,
        stand_ins: nn.ModuleDict,
        penalties: frozenset[str] = frozenset(),
        stage_heads: nn.ModuleDict | None = None,
    ):
        super().__init__()
        self.task = task
        if task.kind == "regression":  # they travel with the weights: another run's quantities are scaled otherwise
            self.register_buffer("target_mean", torch.tensor(task.mean))
            self.register_buffer("target_std", torch.tensor(task.std))
        self.normalizers, self.encoders, self.fusion = normalizers, encoders, fusion
        self.head, self.branches, self.stand_ins = head, branches, stand_ins
        self.penalties = penalties
        self.stage_heads = nn.ModuleDict() if stage_heads is None else stage_heads

    def forward(self, batch: Batch) -> Output:
        inputs = self.fusion.arrange(self.prepare(batch))
        features = self.fusion.encode(self.encoders, inputs)
        # A fusion that runs the encoders in its own way need not know that a map can have holes.
        features |= {name: features[name].on_ground(held.measured) for name, held in inputs.items() if name in features}
        features |= {name: stand_in(features[name]) for name, stand_in in self.stand_ins.items() if name in features}
        return self.conclude(features)

    def conclude(self, features: dict[str, Features]) -> Output:
        """From the features of the last stage to the prediction: fusion, heads, decision."""
        fused = whole(self.fusion(features))
        embeddings = branch_inputs(fused, features)
        logits = None if self.head is None else self.head(fused.vector)
        branch_logits = {name: branch(embeddings[name]) for name, branch in self.branches.items()}
        if self.task.kind == "retrieval":
            logits = self.fusion.embed_pair(fused.vector, branch_logits, features)
        else:
            logits = self.fusion.decide(logits, branch_logits, features)
        output = Output(
            logits=logits,
            fused=fused.vector,
            embeddings=embeddings,
            branch_logits=branch_logits,
            stage_logits={name: head(fused.stages[name]) for name, head in self.stage_heads.items()},
            attention=fused.attention,
            penalties=fused.penalties,
        )
        return _bounded(output) if self.task.kind == "grounding" else output

    def in_scale_of(self, other: FusionModel, logits: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """This model's logits as another one would say the same: quantities in its standardisation."""
        if self.task.kind != "regression":
            return logits
        return (logits * self.target_std + self.target_mean - other.target_mean) / other.target_std

    def prepare(self, batch: Batch) -> dict[str, Input]:
        """Normalise; put zero, the training mean, wherever there is no value.

        An absent sequence is one of zeros, all of them valid: attention over no valid step at all would be NaN. Maps
        alike; one without any measured value is absent.
        """
        prepared = {}
        for name, normalize in self.normalizers.items():
            given, present, valid = batch.inputs[name], batch.present[name], batch.valid.get(name)
            if valid is not None and valid.dim() > 2:  # a map
                present = present & valid.flatten(1).any(1)
                value = normalize(given, valid).masked_fill(~_like(present, given), 0)
                prepared[name] = Input(value, present, measured=valid.any(1) | ~_like(present, valid[:, 0]))
                continue
            value = normalize(given)
            value = value.masked_fill(~_like(present, value), 0)
            if valid is not None:
                value, valid = value.masked_fill(~_like(valid, value), 0), valid | ~present.unsqueeze(1)
            prepared[name] = Input(value, present, valid)
        return prepared


def _bounded(output: Output) -> Output:
    """Any four numbers as centre, width and height of a box, so that every prediction is one."""

    def box(logits: Tensor) -> Tensor:
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()

    def boxes(several: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: box(logits) for name, logits in several.items()}

    branches, stages = boxes(output.branch_logits), boxes(output.stage_logits)
    return replace(output, logits=box(output.logits), branch_logits=branches, stage_logits=stages)


def _like(mask: Bool[Tensor, "..."], value: Tensor) -> Bool[Tensor, "..."]:
    return mask.reshape(*mask.shape, *[1] * (value.dim() - mask.dim()))


def whole(fused: Tensor | Fused) -> Fused:
    """What a fusion returned; most return the vector alone."""
    return Fused(fused) if isinstance(fused, Tensor) else fused


def branch_inputs(fused: Fused, features: dict[str, Features]) -> dict[str, Float[Tensor, "B _"]]:
    """What the branch heads read: the fusion's own representations, else the pooled features."""
    return fused.branches or {name: feature.pooled for name, feature in features.items()}


@dataclass
class Blueprint:
    """What a model is to be made of. `prove` shows that it fits together; `build` makes it.

    Args:
        inputs: shape of each modality.
        encoders: makes an encoder for a modality, given its shape.
        fusion: the fusion's class.
        make_fusion: makes the fusion, given the shapes of the features.
        task: what is predicted.
        normalized: the modalities that are standardised.
        whitened: those of them whose channels are also decorrelated.
        ranked: those of them whose values are replaced by their ranks.
        stood_in: the modalities in whose place a learned token stands where they are absent.
        branches: whether each modality gets a head of its own, even if the fusion needs none.
        stages: whether each intermediate stage of the fusion gets one.
        seed: of the initial weights.
    """

    inputs: dict[str, InputSpec]
    encoders: dict[str, Callable[[InputSpec], Encoder]]
    fusion: type[Fusion]
    make_fusion: Callable[[Mapping[str, FeatureSpec]], Fusion]
    task: Task
    normalized: frozenset[str] = frozenset()
    whitened: frozenset[str] = frozenset()
    ranked: frozenset[str] = frozenset()
    stood_in: frozenset[str] = frozenset()
    branches: bool = False
    stages: bool = False
    seed: int = 0

    def prove(self) -> tuple[FusionModel, Batch, dict[str, FeatureSpec]]:
        """Build the model on the meta device and run one batch through it: no data, no memory, no arithmetic.

        Returns:
            the model and the batch, both on the meta device, and the shape of each encoder's features.

        Raises:
            ShapeError: something does not fit; `modality` is None where it is the fusion.
        """
        with torch.device("meta"):
            batch = meta_batch(self.inputs)
            streams = self._streams(batch)
            encoders, specs = nn.ModuleDict(), {}
            for name, spec in streams.items():
                with _explained(f"the encoder of {name} cannot read {spec}", name):
                    encoder = self.encoders[name](spec)
                    specs[name] = feature_spec(encoder, spec)
                    encoders[name] = encoder
            shapes = ", ".join(f"{name} {spec.tokens} tokens x {spec.dim}" for name, spec in specs.items())
            with _explained(f"{self.fusion.__name__} cannot fuse {shapes}", None):
                fusion = self.make_fusion(specs)
                encoders = fusion.join(encoders)
                prepared = {name: _meta_input(spec) for name, spec in self.inputs.items()}
                features = fusion.encode(encoders, fusion.arrange(prepared))
                fused = fusion(features)
                vector = fused if isinstance(fused, Tensor) else fused.vector
                if vector.dim() != 2 or vector.shape[0] != len(batch):
                    raise ShapeError(f"it returns {list(vector.shape)} for a batch of {len(batch)}, not [B, D]")
                model = self._compose(encoders, fusion, _Widths.of(whole(fused), features), {})
            with _explained("the model does not run", None):
                model(batch)
        return model, batch, specs

    def build(self, statistics: Mapping[str, Statistics]) -> FusionModel:
        """Build the model for real, with initial weights that depend on the seed and each part's name alone.

        Args:
            statistics: of each modality; those in `normalized` are used.

        Raises:
            ShapeError: something does not fit, or cannot be had: weights to begin with, for example.
        """
        proven, batch, specs = self.prove()
        with torch.device("meta"):
            features = proven.fusion.encode(proven.encoders, proven.fusion.arrange(proven.prepare(batch)))
            widths = _Widths.of(whole(proven.fusion(features)), features)
        encoders = self._encoders(batch)
        seed_torch(self.seed, "weights", "fusion")
        fusion = self.make_fusion(specs)
        encoders = fusion.join(encoders)
        seed_torch(self.seed, "weights", "head")
        wanted = {name: statistics[name] for name in self.normalized}
        return self._compose(encoders, fusion, widths, wanted)

    def restore(self) -> FusionModel:
        """The model without weights of its own, for a checkpoint that holds them and the statistics.

        Raises:
            ShapeError: as `build`.
        """
        return replace(self, normalized=frozenset()).build({})

    def fresh_fusion(self, epoch: int) -> tuple[Fusion, nn.ModuleDict]:
        """The fusion and the stand-ins with other initial weights, for a reset at the start of this epoch.

        They depend on the seed and the epoch alone. What the fusion has put into the encoders is not among them.
        """
        proven, batch, specs = self.prove()
        encoders = self._encoders(batch)  # `join` reads them, and may make parts of the fusion
        seed_torch(self.seed, "weights", "fusion", epoch)
        fusion = self.make_fusion(specs)
        fusion.join(encoders)
        stand_ins = cast("dict[str, StandIn]", dict(proven.stand_ins.items()))
        return fusion, nn.ModuleDict({name: StandIn(len(held.token)) for name, held in stand_ins.items()})

    def _encoders(self, batch: Batch) -> nn.ModuleDict:
        """The encoders with their initial weights, before the fusion joins them."""
        encoders = nn.ModuleDict()
        for name, spec in self._streams(batch).items():
            seed_torch(self.seed, "weights", "encoder", name)
            with _explained(f"the encoder of {name} cannot be built", name):
                encoders[name] = self.encoders[name](spec)
        return encoders

    def _streams(self, batch: Batch) -> dict[str, InputSpec]:
        """The shape that each encoder reads, after early fusion."""
        with torch.device("meta"), _explained("the inputs cannot be arranged", None):
            arranged = self.fusion.arrange({name: _meta_input(spec) for name, spec in self.inputs.items()})
            if not arranged or not arranged.keys() <= self.inputs.keys():
                raise ShapeError(f"it leaves {sorted(arranged)}, and there are encoders for {sorted(self.inputs)}")
        return {
            name: replace(self.inputs[name], shape=tuple(i.value.shape[1:]), ragged=i.valid is not None)
            for name, i in arranged.items()
        }

    def _scaling(self, name: str) -> type[Standardize]:
        """What scales a modality."""
        return Whiten if name in self.whitened else Quantile if name in self.ranked else Standardize

    def _compose(
        self, encoders: nn.ModuleDict, fusion: Fusion, widths: _Widths, statistics: Mapping[str, Statistics]
    ) -> FusionModel:
        outputs = self.task.outputs
        scaling = {
            name: nn.Identity() if spec.text else self._scaling(name)(spec, statistics.get(name))
            for name, spec in self.inputs.items()
        }
        headless = self.task.kind == "retrieval"
        if headless and not fusion.embeds:
            raise ShapeError("it mixes the modalities; a retrieval compares two that are embedded apart")
        head = None if headless or fusion.decision == "branches" else nn.Linear(widths.fused, outputs)
        branches: dict[str, nn.Module] = {}
        if self.branches or fusion.decision != "fused":
            if fusion.shares_branch_head and len(set(widths.branches.values())) > 1:
                raise ShapeError(f"its branches share one head and differ in width: {widths.branches}")
            for name, width in widths.branches.items():
                shared = fusion.shares_branch_head and branches
                branches[name] = next(iter(branches.values())) if shared else nn.Linear(width, outputs)
        stage_heads = {name: nn.Linear(width, outputs) for name, width in widths.stages.items() if self.stages}
        stand_ins = {name: StandIn(width) for name, width in widths.features.items() if name in self.stood_in}
        return FusionModel(
            self.task,
            nn.ModuleDict(scaling),
            encoders,
            fusion,
            head,
            nn.ModuleDict(branches),
            nn.ModuleDict(stand_ins),
            widths.penalties,
            nn.ModuleDict(stage_heads),
        )


@dataclass(frozen=True)
class _Widths:
    """What the heads have to fit, found on the meta device."""

    fused: int
    branches: dict[str, int]
    stages: dict[str, int]
    features: dict[str, int]
    penalties: frozenset[str]

    @classmethod
    def of(cls, fused: Fused, features: dict[str, Features]) -> _Widths:
        return cls(
            fused.vector.shape[1],
            {name: value.shape[1] for name, value in branch_inputs(fused, features).items()},
            {name: value.shape[1] for name, value in fused.stages.items()},
            {name: feature.tokens.shape[2] for name, feature in features.items()},
            frozenset(fused.penalties),
        )


def feature_spec(encoder: Encoder, spec: InputSpec) -> FeatureSpec:
    """The shapes of an encoder's features after every stage, by running it on the meta device."""
    value = _meta_input(spec)
    features = encoder.embed(value.value, value.valid)
    stages = []
    for stage in range(len(encoder.stages)):
        features = encoder.step(stage, features)
        stages.append(FeatureSpec.of(features))
    return FeatureSpec.of(encoder.finish(features), tuple(stages))


def meta_batch(inputs: Mapping[str, InputSpec], size: int = 2) -> Batch:
    """A batch of these shapes without any content."""
    meta = {name: _meta_input(spec, size) for name, spec in inputs.items()}
    return Batch(
        inputs={name: i.value for name, i in meta.items()},
        present={name: i.present for name, i in meta.items()},
        target=torch.zeros(size, dtype=torch.int64, device="meta"),
        index=torch.zeros(size, dtype=torch.int64, device="meta"),
        valid={name: i.valid for name, i in meta.items() if i.valid is not None},
    )


def _meta_input(spec: InputSpec, size: int = 2) -> Input:
    present = torch.ones(size, dtype=torch.bool, device="meta")
    valid = torch.ones(size, spec.shape[0], dtype=torch.bool, device="meta") if spec.ragged else None
    kind = torch.int64 if spec.vocabulary else None  # ids of tokens
    return Input(torch.zeros(size, *spec.shape, dtype=kind, device="meta"), present, valid)


@contextmanager
def _explained(doing: str, modality: str | None) -> Iterator[None]:
    """Turn the complaints of torch and of components into a ShapeError that says what was being done."""
    try:
        yield
    except ShapeError as error:
        message = str(error) if error.modality else f"{doing}: {error}"
        raise ShapeError(message, modality=error.modality or modality) from error
    except RequestError as error:  # an option that only the constructor can judge
        raise ShapeError(str(error), modality=modality) from error
    except (RuntimeError, ValueError, IndexError, AssertionError, TypeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ShapeError(f"{doing}: {lines[0]}", modality=modality) from error
