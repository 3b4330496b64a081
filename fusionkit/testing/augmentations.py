"""What every augmentation of samples has to keep, rule by rule. Each check takes an `AugmentationSubject` and raises a
`Fault`. Those of batches are in `fusionkit.testing.mixings`."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from fusionkit.contract import Augmentation, Sample
from fusionkit.errors import BadSample, RequestError
from fusionkit.flow import InputSpec
from fusionkit.loading import hold_against
from fusionkit.randomness import generator
from fusionkit.testing.fault import Fault

NUMBERS = {
    "hsi": InputSpec((20, 6, 6)),
    "rgb": InputSpec((3, 12, 12)),
    "dem": InputSpec((1, 6, 6)),
    "visits": InputSpec((7, 6, 8), counts=True),
    "series": InputSpec((9, 4), ragged=True),
    "vector": InputSpec((5,)),
}
"""Maps of several sizes and types, a cube of counts, a sequence that is shorter than it may be, a vector."""
INPUTS = NUMBERS | {"caption": InputSpec((), text=True)}
DRAWS = range(8)
"""So many samples are changed, each with a generator of its own."""
MOST_DRAWS = range(200)
"""After so many that nothing came of, nothing ever will."""


@dataclass
class AugmentationSubject:
    """An augmentation and the modalities among which it is tried.

    Args:
        augmentation: the augmentation.
        inputs: the shapes of the modalities.
    """

    augmentation: Augmentation
    inputs: Mapping[str, InputSpec]

    @classmethod
    def of(
        cls, make: Callable[..., Augmentation], inputs: Mapping[str, InputSpec] | None = None
    ) -> AugmentationSubject:
        """The augmentation among these modalities; by default among `INPUTS`, without the text where that is refused.

        Raises:
            RequestError: it refuses them.
        """
        return cls(*among(make, inputs))

    def sample(self) -> Sample:
        """One sample in its own units and types: 8 bits of three channels, 16 of more, counts, floats, words."""
        return {name: _value(spec, generator("sample", name)) for name, spec in self.inputs.items()}

    def masked(self, under: float) -> Sample:
        """The sample with most of each map masked; `under` stands under the masks of floats, its whole part of others.

        Cubes of counts have no masks.
        """
        sample = self.sample()
        for name, spec in self.inputs.items():
            value = sample[name]
            if value is not None and value.ndim >= 3 and not spec.counts:
                mask = generator("mask", name).random(value.shape[-2:]) < 0.6
                filling = under if value.dtype.kind == "f" else np.nan_to_num(under)
                data = np.where(mask, np.array(filling).astype(value.dtype), value)
                sample[name] = np.ma.MaskedArray(data, np.broadcast_to(mask, value.shape))
        return sample

    def run(self, sample: Sample, draw: int = 0, elsewhere: int = 0) -> Sample:
        """What becomes of a copy, with the process's own generators seeded by `elsewhere`, so that writing to it, or
        drawing from them, spoils its own check alone."""
        with seeded(elsewhere):
            return self.augmentation(copy.deepcopy(sample), generator("draw", draw))


def among(
    make: Callable[..., Any], inputs: Mapping[str, InputSpec] | None, *further: object
) -> tuple[Any, Mapping[str, InputSpec]]:
    """An augmentation made for these modalities, and they; see `AugmentationSubject.of`.

    Raises:
        RequestError: it refuses them.
    """
    if inputs is not None:
        return make(inputs, *further), inputs
    try:
        return make(INPUTS, *further), INPUTS
    except RequestError as refusal:
        try:
            return make(NUMBERS, *further), NUMBERS
        except RequestError as other:
            raise RequestError(f"{refusal}; without the text: {other}") from other


def the_generator_decides(subject: AugmentationSubject) -> None:
    """The same generator gives the same result, whatever was drawn elsewhere and whichever samples came before."""
    decided_by_the_generator(partial(subject.run, subject.sample()), _same)


def shapes_and_types_are_kept(subject: AugmentationSubject) -> None:
    """Every modality keeps its shape, except the length of what is ragged, and its type, unless it becomes float32."""
    for sample in (subject.sample(), subject.masked(0)):
        for draw in DRAWS:
            for name, value in _answer(subject, sample, draw).items():
                given = sample[name]
                if value is None or given is None:
                    continue
                if not isinstance(value, np.ndarray):
                    told = type(value).__name__
                    raise Fault("shapes_and_types_are_kept", f"{name} becomes a {told}; return NumPy arrays")
                try:
                    hold_against(name, value, subject.inputs[name])
                except BadSample as bad:
                    raise Fault("shapes_and_types_are_kept", str(bad)) from bad
                if value.dtype not in (given.dtype, np.float32) and value.dtype.kind != "U":
                    raise Fault(
                        "shapes_and_types_are_kept",
                        f"{name} is {given.dtype} and becomes {value.dtype}; keep the type, or make it float32",
                    )


def modalities_are_kept(subject: AugmentationSubject) -> None:
    """It hands back the modalities that it is given, be it one alone: baselines read their own modality only."""
    sample = subject.sample()
    for part in (sample, *({name: value} for name, value in sample.items())):
        if (found := set(subject.run(part))) != set(part):
            told = ", ".join(sorted(found)) or "nothing"
            raise Fault("modalities_are_kept", f"of {', '.join(part)} it makes {told}; a sample may hold any of them")


def inputs_are_left_alone(subject: AugmentationSubject) -> None:
    """The sample that it is given is not written to."""
    for given in (subject.sample(), subject.masked(0)):
        for draw in DRAWS:
            sample = copy.deepcopy(given)
            with _refusal_is_no_fault():
                subject.augmentation(sample, generator("draw", draw))
            if not _same(sample, given):
                raise Fault("inputs_are_left_alone", "the sample is changed in place; copy what is to be changed")


def absent_stays_absent(subject: AugmentationSubject) -> None:
    """What is absent stays so: nothing is made up for it."""
    sample = subject.sample()
    for given in (dict.fromkeys(sample), *(sample | {name: None} for name in sample)):
        for draw in DRAWS:
            made = [name for name, value in subject.run(given, draw).items() if value is not None]
            if made_up := [name for name in made if given.get(name) is None]:
                raise Fault("absent_stays_absent", f"{made_up[0]} is absent and gets a value; leave None as it is")


def what_is_left_out_is_said(subject: AugmentationSubject) -> None:
    """Modalities that it leaves out are in `makes_absent`, which says what the model has learned to do without."""
    sample = subject.sample()
    gone = {name for draw in DRAWS for name, value in subject.run(sample, draw).items() if value is None}
    if unsaid := sorted(gone - subject.augmentation.makes_absent):
        raise Fault("what_is_left_out_is_said", f"it leaves out {', '.join(unsaid)}; say so in `makes_absent`")


def masked_values_mean_nothing(subject: AugmentationSubject) -> None:
    """What stands under the mask of a map changes nothing."""
    with _refusal_is_no_fault():
        for draw in DRAWS:
            one, other = (subject.run(subject.masked(under), draw) for under in (np.nan, 7.0))
            if read := [name for name in one if not _same({name: one[name]}, {name: other[name]})]:
                raise Fault("masked_values_mean_nothing", f"what stands under the mask of {read[0]} is read")


def masked_values_stay_masked(subject: AugmentationSubject) -> None:
    """A map that is masked in most places is masked somewhere afterwards."""
    with _refusal_is_no_fault():
        given = subject.masked(0)
        for draw in DRAWS:
            for name, value in subject.run(given, draw).items():
                if np.ma.is_masked(given.get(name)) and value is not None and not np.ma.is_masked(value):
                    raise Fault(
                        "masked_values_stay_masked",
                        f"{name} loses its mask, and what is missing counts as measured; return an np.ma.MaskedArray",
                    )


def it_changes_something(subject: AugmentationSubject) -> None:
    """Some samples come back changed."""
    sample = subject.sample()
    if all(_same(subject.run(sample, draw), sample) for draw in MOST_DRAWS):
        raise Fault("it_changes_something", f"{len(MOST_DRAWS)} samples come back as they were")


def it_travels_to_workers(subject: AugmentationSubject) -> None:
    """A copy in a loader process does what the original does."""
    try:
        copied = pickle.loads(pickle.dumps(subject.augmentation))  # noqa: S301 - its own copy
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise Fault("it_travels_to_workers", f"it cannot be copied to a loader process: {error}") from error
    sample, other = subject.sample(), AugmentationSubject(copied, subject.inputs)
    if not all(_same(other.run(sample, draw), subject.run(sample, draw)) for draw in DRAWS):
        raise Fault("it_travels_to_workers", "a copy in a loader process does something else")


CHECKS: tuple[Callable[[AugmentationSubject], None], ...] = (
    the_generator_decides,
    shapes_and_types_are_kept,
    modalities_are_kept,
    inputs_are_left_alone,
    absent_stays_absent,
    what_is_left_out_is_said,
    masked_values_mean_nothing,
    masked_values_stay_masked,
    it_changes_something,
    it_travels_to_workers,
)


def decided_by_the_generator(run: Callable[..., Any], same: Callable[[Any, Any], bool]) -> None:
    """Hold `run(draw, elsewhere=seed)` to giving the same for the same draw, in any order and by any other seed."""
    forward = [run(draw, elsewhere=1) for draw in DRAWS]
    backward = [run(draw, elsewhere=2) for draw in reversed(DRAWS)]
    if not all(same(one, other) for one, other in zip(forward, reversed(backward), strict=True)):
        raise Fault(
            "the_generator_decides",
            "the same generator gives another result; draw from the one that is handed over, and keep no state",
        )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The generators of this process as this seed leaves them; afterwards as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@contextmanager
def _refusal_is_no_fault() -> Iterator[None]:
    """Masked maps may be refused in words."""
    try:
        yield
    except RequestError:
        return


def _answer(subject: AugmentationSubject, sample: Sample, draw: int) -> Sample:
    """What becomes of the modalities of a sample; of one that is refused, nothing."""
    with _refusal_is_no_fault():
        found = subject.run(sample, draw)
        return {name: found[name] for name in sample if name in found}
    return {}


def _value(spec: InputSpec, random: np.random.Generator) -> np.ndarray:
    if spec.text:
        return np.array("a small field beside the river")
    shape = (spec.shape[0] - 2, *spec.shape[1:]) if spec.ragged else spec.shape
    if spec.counts:
        return random.poisson(3.0, shape).astype(np.uint16)
    if len(shape) < 3 or spec.channels < 3:
        return random.normal(5, 2, shape).astype(np.float32)
    if spec.channels == 3:
        return random.integers(0, 256, shape).astype(np.uint8)
    return random.integers(0, 10_000, shape).astype(np.int16)


def _same(one: Sample, other: Sample) -> bool:
    if one.keys() != other.keys():
        return False
    return all(_equal(one[name], other[name]) for name in one)


def _equal(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return one is other
    if one.dtype.kind == "U":
        return np.array_equal(one, other)
    return np.array_equal(np.ma.getmaskarray(one), np.ma.getmaskarray(other)) and np.array_equal(
        np.ma.filled(one, 0), np.ma.filled(other, 0), equal_nan=True
    )
