"""Small components for tests of the core: each is as plain as its contract allows."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.components import Component, Kind
from fusionkit.contract import Augmentation, Dataset, Encoder, Fusion, Index, Loss, Sample
from fusionkit.errors import BadSample, DataError, ShapeError
from fusionkit.flow import Batch, Features, FeatureSpec, Input, InputSpec, Output, Task
from fusionkit.options import options_model
from fusionkit.registry import Entry, Plugin, Registry, load_registry
from fusionkit.sections import Split
from fusionkit.splits import Partition, divide


class Held(Dataset):
    """Arrays that a test gives, one list a modality; an exception in the place of a value is raised by `read`."""

    def __init__(self, specs: Mapping[str, InputSpec], values: Mapping[str, list], index: Index):
        self.specs, self.values, self.listed = dict(specs), values, index

    def inputs(self) -> dict[str, InputSpec]:
        return self.specs

    def index(self, progress: Any = None) -> Index:
        return self.listed

    def read(self, i: int) -> Sample:
        for values in self.values.values():
            if isinstance(values[i], Exception):
                raise values[i]
        return {name: values[i] for name, values in self.values.items()}


class Toy(Dataset):
    """A map and a vector that each tell a part of the class; counted, so that the same everywhere.

    Args:
        samples: how many.
        names: known without reading.
        gone: its folder, which is not there.
    """

    def __init__(
        self, *, samples: PositiveInt = 60, names: bool = False, gone: str | None = None, side: PositiveInt = 6
    ):
        self.samples, self.names, self.gone, self.side = samples, names, gone, side

    def inputs(self) -> dict[str, InputSpec]:
        if self.gone:
            raise DataError("there is no such folder", self.gone, option=("gone",))
        return {
            "image": InputSpec((2, self.side, self.side)),
            "vector": InputSpec((5,)),
            "steps": InputSpec((4, 3), ragged=True),
        }

    def class_names(self) -> tuple[str, ...] | None:
        return ("a", "b", "c") if self.names else None

    def index(self, progress: Any = None) -> Index:
        self.inputs()
        targets = np.arange(self.samples) % 3
        split = np.array(["train", "train", "train", "val", "test"])[np.arange(self.samples) // 3 % 5]
        return Index([f"s{i}" for i in range(self.samples)], targets, ("a", "b", "c"), split=split)

    def read(self, i: int) -> Sample:
        random = np.random.default_rng(i)
        image = random.normal(size=(2, self.side, self.side)).astype(np.float32)
        image[0] += i % 3 == 1
        vector = random.normal(size=5).astype(np.float32)
        vector[0] += 2 * (i % 3 == 2)
        return {"image": image, "vector": vector, "steps": random.normal(size=(1 + i % 4, 3)).astype(np.float32)}


class Twins(Toy):
    """Two maps of one shape."""

    def inputs(self) -> dict[str, InputSpec]:
        return dict.fromkeys(("one", "two"), super().inputs()["image"])


class ToyLabels(Toy):
    """Two labels, of which the map tells one and the vector the other; every tenth sample is without any knowledge."""

    task = "multilabel"

    def index(self, progress: Any = None) -> Index:
        classes = super().index().targets
        targets = np.stack([classes == 1, classes == 2], 1).astype(np.int64)
        targets[::10] = -1
        return replace(super().index(), targets=targets, class_names=("bright", "long"))


class ToyQuantities(Toy):
    """Two quantities in units of their own, of which the map tells one and the vector the other; every tenth sample
    lacks the second."""

    task = "regression"

    def index(self, progress: Any = None) -> Index:
        classes = super().index().targets
        noise = np.random.default_rng(0).normal(size=(self.samples, 2))
        targets = 100 + 20 * np.stack([classes == 1, -1.0 * (classes == 2)], 1) + noise
        targets[::10, 1] = np.nan
        return replace(super().index(), targets=targets, class_names=("light", "length"), units=("W", ""))


class Unreadable(Toy):
    """Fails the test that reads a sample."""

    def read(self, i: int) -> Sample:
        raise AssertionError("a sample was read")


class Perilous(Toy):
    """Some samples cannot be read without harm.

    Args:
        folder: where a pipe is that nobody writes to.
        perils: what happens at which sample: `plainly bad` is told at once, `pipe` blocks, `deaf` blocks and hears no
            signal, `crash` kills the process, `crash once` does so the first time alone.
        from_when: a file; nothing happens until it is there.
    """

    def __init__(self, folder: Path, perils: Mapping[int, str], from_when: Path | None = None):
        super().__init__(samples=60)
        self.folder, self.perils, self.from_when = folder, dict(perils), from_when
        self.pipe = folder / "pipe"
        os.mkfifo(self.pipe)

    def read(self, i: int) -> Sample:
        peril = self.perils.get(i, "") if self.from_when is None or self.from_when.exists() else ""
        if peril == "pipe":
            try:
                self.pipe.read_bytes()
            except Exception as error:
                raise BadSample(f"cannot be read: {error}", self.pipe) from error
        elif peril == "plainly bad":
            raise BadSample("is bad")
        elif peril == "deaf":
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
            time.sleep(600)
        elif peril == "crash" or (peril == "crash once" and not (self.folder / "crashed").exists()):
            (self.folder / "crashed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(i)


class Linear(Encoder):
    """A vector or a sequence, step by step, through linear layers.

    Args:
        dim: width.
        depth: how many stages.
    """

    def __init__(self, spec: InputSpec, *, dim: PositiveInt = 4, depth: NonNegativeInt = 1, dropout: float = 0.0):
        super().__init__(spec)
        if len(spec.shape) > 2:
            raise ShapeError(f"a vector or a sequence is needed, not {spec}")
        self.enter = nn.Linear(spec.shape[-1], dim)
        self.stages.extend(nn.Sequential(nn.Tanh(), nn.Dropout(dropout), nn.Linear(dim, dim)) for _ in range(depth))

    def embed(self, value: Tensor, valid: Tensor | None) -> Features:
        entered = self.enter(value)
        return Features.from_vector(entered) if entered.dim() == 2 else Features(entered, mask=valid)


class Conv(Encoder):
    """A map through 3 x 3 convolutions, the later ones with stride 2.

    Args:
        dim: width.
        depth: how many stages.
        norm: with batch norms.
        forgets: makes its features anew at every step, without what it was told of absence.
    """

    def __init__(
        self,
        spec: InputSpec,
        *,
        dim: PositiveInt = 4,
        depth: NonNegativeInt = 2,
        norm: bool = False,
        forgets: bool = False,
    ):
        super().__init__(spec)
        channels, _, _ = spec.shape
        self.forgets = forgets
        self.enter = nn.Conv2d(channels, dim, 3, padding=1)
        for _ in range(depth):
            norms = [nn.BatchNorm2d(dim)] if norm else []
            self.stages.append(
                nn.Sequential(nn.Conv2d(dim, dim, 3, stride=2, padding=1, bias=False), *norms, nn.Tanh())
            )

    def embed(self, value: Tensor, valid: Tensor | None) -> Features:
        return Features.from_map(self.enter(value))

    def step(self, stage: int, features: Features) -> Features:
        return self._anew(super().step(stage, features))

    def finish(self, features: Features) -> Features:
        return self._anew(features)

    def _anew(self, features: Features) -> Features:
        return Features.from_map(features.map) if self.forgets else features


class Fixed(Encoder):
    """Takes 8 x 8 maps alone, and says so the way that timm does."""

    def embed(self, value: Tensor, valid: Tensor | None) -> Features:
        torch._assert(value.shape[-1] == 8, "Input width doesn't match model (8).")
        return Features.from_map(value)


class Shorten(Encoder):
    """Halves a sequence in a plain stage and so loses its mask."""

    def __init__(self, spec: InputSpec):
        super().__init__(spec)
        self.stages.append(_EveryOther())

    def embed(self, value: Tensor, valid: Tensor | None) -> Features:
        return Features(value, mask=valid)


class _EveryOther(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, ::2]


class Cat(Fusion):
    """Concatenates what is pooled.

    Args:
        dim: width of the fused vector.
    """

    def __init__(self, inputs: Mapping[str, FeatureSpec], *, dim: PositiveInt = 6):
        super().__init__(inputs)
        self.mix = nn.Linear(sum(spec.dim for spec in inputs.values()), dim)

    def forward(self, features: dict[str, Features]) -> Tensor:
        return self.mix(torch.cat([feature.pooled for feature in features.values()], 1))


class Plus(Fusion):
    """Adds what is pooled, which all has to be of one width."""

    def forward(self, features: dict[str, Features]) -> Tensor:
        return torch.stack([feature.pooled for feature in features.values()]).sum(0)


class Talk(Cat):
    """Adds the other modalities' mean to each after every stage but the last, and keeps a diary."""

    def __init__(self, inputs: Mapping[str, FeatureSpec], *, dim: PositiveInt = 6):
        super().__init__(inputs, dim=dim)
        self.diary: list[tuple[int, dict[str, tuple[int, ...]]]] = []
        self.joined = 0

    def join(self, encoders: nn.ModuleDict) -> nn.ModuleDict:
        self.joined += 1
        return encoders

    def exchange(self, stage: int, features: dict[str, Features]) -> dict[str, Features]:
        self.diary.append((stage, {name: tuple(feature.tokens.shape[1:]) for name, feature in features.items()}))
        pooled = {name: feature.pooled.mean(1) for name, feature in features.items()}
        said = torch.stack(list(pooled.values())).sum(0)
        return {
            name: feature.with_tokens(feature.tokens + 0.1 * (said - pooled[name])[:, None, None])
            for name, feature in features.items()
        }


class Stack(Cat):
    """Early fusion: maps of one size become one map under the first name."""

    @classmethod
    def arrange(cls, inputs: dict[str, Input]) -> dict[str, Input]:
        first, *_ = inputs
        sizes = {tuple(held.value.shape[2:]) for held in inputs.values()}
        if len(sizes) > 1:
            raise ShapeError("the maps differ in size")
        present = torch.stack([held.present for held in inputs.values()]).any(0)
        return {first: Input(torch.cat([held.value for held in inputs.values()], 1), present)}


class Share(Cat):
    """All encoders enter through the first one's layer."""

    def join(self, encoders: nn.ModuleDict) -> nn.ModuleDict:
        first, *others = encoders.values()
        for other in others:
            other.enter = first.enter
        return encoders


class Flat(Fusion):
    """Breaks its contract: no vector."""

    def forward(self, features: dict[str, Features]) -> Tensor:
        return next(iter(features.values())).tokens


class Entropy(Loss):
    """Cross-entropy.

    Args:
        poison: NaN at this call.
    """

    def __init__(self, task: Task, *, poison: PositiveInt | None = None):
        super().__init__(task)
        self.poison, self.calls = poison, 0

    def forward(self, output: Output, batch: Batch) -> Tensor:
        self.calls += self.training
        value = F.cross_entropy(output.logits, batch.target)
        return value * float("nan") if self.training and self.calls == self.poison else value


class Weighted(Entropy):
    """Cross-entropy in which each class weighs otherwise: a mean over weights."""

    weights = (0.2, 1.0, 5.0)

    def forward(self, output: Output, batch: Batch) -> Tensor:
        return F.cross_entropy(output.logits, batch.target, output.logits.new_tensor(self.weights))

    def count(self, batch: Batch) -> float:
        return sum(self.weights[label] for label in batch.target.tolist())


class Branches(Loss):
    """Cross-entropy of the branch heads."""

    needs_branches = True

    def forward(self, output: Output, batch: Batch) -> Tensor:
        return torch.stack([F.cross_entropy(logits, batch.target) for logits in output.branch_logits.values()]).mean()


class Binary(Loss):
    """Binary cross-entropy, a mean over the labels."""

    tasks = ("multilabel",)

    def forward(self, output: Output, batch: Batch) -> Tensor:
        return F.binary_cross_entropy_with_logits(output.logits, batch.target)


class Squares(Loss):
    """Squared error, a mean over the quantities."""

    tasks = ("regression",)

    def forward(self, output: Output, batch: Batch) -> Tensor:
        return F.mse_loss(output.logits, batch.target)


class Size(Loss):
    """Mean square of the fused vector, for any task."""

    def forward(self, output: Output, batch: Batch) -> Tensor:
        return output.fused.square().mean()


class Picky(Loss):
    """Cannot be made."""

    def __init__(self, task: Task):
        raise ValueError("this loss needs four classes")

    def forward(self, output: Output, batch: Batch) -> Tensor:
        raise NotImplementedError


class Jitter(Augmentation):
    """Adds noise.

    Args:
        drop: the probability that the vector goes.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], *, drop: float = 0.0):
        super().__init__(inputs)
        self.drop = drop
        self.makes_absent = frozenset({"vector"} if drop else ())

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        changed: Sample = {
            name: None if value is None else (value + random.normal(size=value.shape)).astype(np.float32)
            for name, value in sample.items()
        }
        if random.random() < self.drop:
            changed["vector"] = None
        return changed


class Crooked(Augmentation):
    """Returns another shape than it was given."""

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        return {name: None if value is None else value[:1] for name, value in sample.items()}


_KINDS: dict[Kind, tuple[type, ...]] = {
    "dataset": (Toy, ToyLabels, ToyQuantities, Twins, Unreadable),
    "encoder": (Linear, Conv, Fixed, Shorten),
    "fusion": (Cat, Plus, Talk, Stack, Share, Flat),
    "loss": (Entropy, Branches, Binary, Squares, Size, Picky),
    "augmentation": (Jitter, Crooked),
}


def registry(*, losses: tuple[type[Loss], ...] = ()) -> Registry:
    """All of these, and further losses, under their names in small letters."""
    plugin = Plugin("fakes", "fusionkit-fakes", "1")
    made = [
        Entry(Component(kind, made.__name__.lower(), f"{made.__module__}:{made.__name__}"), plugin)
        for kind, classes in (_KINDS | {"loss": (*_KINDS["loss"], *losses)}).items()
        for made in classes
    ]
    return Registry([plugin], made)


def recipe(**changes: Any) -> dict[str, Any]:
    """A recipe of these components as plain data."""
    return {
        "name": "toy",
        "data": {"source": "toy", "batch_size": 8},
        "modalities": {"image": {"encoder": "conv"}, "vector": {"encoder": "linear"}},
        "fusion": "cat",
        "loss": "entropy",
    } | changes


def index_of(targets: Any, **facts: Any) -> Index:
    """An index of samples with these targets."""
    targets = np.asarray(targets)
    return Index(
        [f"s{i}" for i in range(len(targets))], targets, tuple(map(str, range(int(targets.max()) + 1))), **facts
    )


def once(index: Index, **split: object) -> Partition:
    """The samples divided by the keys of `split`, without folds."""
    (partition,) = divide(index, Split(**split))
    return partition


def fusions_with_defaults() -> list[str]:
    """The registered fusions that can be built without options; the others hold to the rules in their own tests."""
    installed = load_registry()
    return [
        name
        for name in installed.names("fusion")
        if not any(o.is_required() for o in options_model(installed.resolve("fusion", name)).model_fields.values())
    ]
