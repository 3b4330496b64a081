"""Suites that third parties inherit in their own tests, and the rules that they check.

    from fusionkit.testing import FusionSuite

    class TestMine(FusionSuite):
        component = MyFusion

Every rule is a test of its own. `fusionkit check fusion:NAME` runs the same rules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from fusionkit.contract import Augmentation, Dataset, Encoder, Fusion, Loss, Metric, Mixing
from fusionkit.flow import InputSpec
from fusionkit.registry import load_registry
from fusionkit.testing import augmentations, datasets, encoders, fusions, losses, metrics, mixings, plugins
from fusionkit.testing.augmentations import AugmentationSubject
from fusionkit.testing.encoders import EncoderSubject
from fusionkit.testing.fault import Fault, hold
from fusionkit.testing.losses import LossSubject
from fusionkit.testing.metrics import MetricSubject
from fusionkit.testing.mixings import MixingSubject
from fusionkit.testing.subjects import Subject, Trial, subjects, told

__all__ = [
    "AugmentationSuite",
    "DatasetSuite",
    "EncoderSuite",
    "Fault",
    "FusionSuite",
    "LossSuite",
    "MetricSuite",
    "MixingSuite",
    "PluginSuite",
]


T = TypeVar("T")


class FusionSuite:
    """Holds a fusion, among small encoders and heads, against every rule of `fusionkit.testing.fusions`.

    Each number of modalities is tried with inputs that have nothing in common (two maps, a padded sequence, a vector),
    and with maps of one grid where the fusion refuses those with a `ShapeError`.
    """

    component: ClassVar[type[Fusion] | str]
    """The class, or the name of an installed one as `"fusion:concat"`."""
    options: ClassVar[Mapping[str, Any]] = {}
    counts: ClassVar[tuple[int, ...] | None] = None
    """The numbers of modalities that the fusion has to take. None: all from 1 to 4 that it does not refuse."""

    _trial: ClassVar[Trial]

    @classmethod
    def trial(cls) -> Trial:
        """The fusion among its encoders, for each number of modalities; built once."""
        if "_trial" not in vars(cls):
            cls._trial = subjects(resolved(cls.component), cls.options, cls.counts or (1, 2, 3, 4))
        return cls._trial

    @classmethod
    def subjects(cls) -> dict[str, Subject]:
        return {told(subject): subject for subject in cls.trial().taken.values()}

    def test_options_are_a_schema(self) -> None:
        """The constructor's options are typed and named one by one."""
        fusions.options_are_a_schema(resolved(self.component))

    def test_modalities_are_taken_or_refused(self) -> None:
        """It runs with every number of modalities, or refuses it in words."""
        trial = self.trial()
        for fault in trial.faults:
            raise fault
        if self.counts is not None and trial.refused:
            refusals = "; ".join(f"{count}: {reason}" for count, reason in trial.refused.items())
            raise Fault(
                "some_modalities_are_taken", f"it refuses numbers of modalities that it has to take: {refusals}"
            )


class EncoderSuite:
    """Holds an encoder against every rule of `fusionkit.testing.encoders`."""

    component: ClassVar[type[Encoder] | str]
    options: ClassVar[Mapping[str, Any]] = {}
    specs: ClassVar[tuple[InputSpec, ...]]
    """Shapes that the encoder reads."""

    @classmethod
    def subjects(cls) -> dict[str, EncoderSubject]:
        make = partial(resolved(cls.component), **cls.options)
        return {str(spec): EncoderSubject.of(make, spec) for spec in cls.specs}

    def test_options_are_a_schema(self) -> None:
        """The constructor's options are typed and named one by one."""
        fusions.options_are_a_schema(resolved(self.component))


class LossSuite:
    """Holds a loss against every rule of `fusionkit.testing.losses`, with each kind of task that its `tasks` names."""

    component: ClassVar[type[Loss] | str]
    options: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def subjects(cls) -> dict[str, LossSubject]:
        return _taken(*losses.subjects(resolved(cls.component), cls.options))

    def test_options_are_a_schema(self) -> None:
        """The constructor's options are typed and named one by one."""
        fusions.options_are_a_schema(resolved(self.component))


class AugmentationSuite:
    """Holds an augmentation of samples against every rule of `fusionkit.testing.augmentations`."""

    component: ClassVar[type[Augmentation] | str]
    options: ClassVar[Mapping[str, Any]] = {}
    inputs: ClassVar[Mapping[str, InputSpec] | None] = None
    """The modalities among which it is tried. None: maps, counts, a sequence, a vector and, unless it refuses it, a
    text."""

    @classmethod
    def subjects(cls) -> dict[str, AugmentationSubject]:
        return {"": AugmentationSubject.of(partial(resolved(cls.component), **cls.options), cls.inputs)}

    def test_options_are_a_schema(self) -> None:
        """The constructor's options are typed and named one by one."""
        fusions.options_are_a_schema(resolved(self.component))


class MixingSuite:
    """Holds an augmentation of batches against every rule of `fusionkit.testing.mixings`."""

    component: ClassVar[type[Mixing] | str]
    options: ClassVar[Mapping[str, Any]] = {}
    inputs: ClassVar[Mapping[str, InputSpec] | None] = None
    """As for `AugmentationSuite`."""

    @classmethod
    def subjects(cls) -> dict[str, MixingSubject]:
        return {"": MixingSubject.of(partial(resolved(cls.component), **cls.options), cls.inputs)}

    def test_options_are_a_schema(self) -> None:
        """The constructor's options are typed and named one by one."""
        fusions.options_are_a_schema(resolved(self.component))


class MetricSuite:
    """Holds a metric against every rule of `fusionkit.testing.metrics`, with each kind of task that `tasks` names."""

    component: ClassVar[type[Metric] | str]
    options: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def subjects(cls) -> dict[str, MetricSubject]:
        return _taken(*metrics.subjects(resolved(cls.component), cls.options))

    def test_options_are_a_schema(self) -> None:
        """The constructor's options are typed and named one by one."""
        fusions.options_are_a_schema(resolved(self.component))


class DatasetSuite(ABC):
    """Holds a dataset, on a few samples that `make` writes, against every rule of `fusionkit.testing.datasets`."""

    @abstractmethod
    def make(self, folder: Path) -> Dataset:
        """Write a small set of data in the dataset's own format into the folder, and return the dataset."""

    @abstractmethod
    def damage(self, folder: Path) -> None:
        """Break one file of what `make` wrote: truncate it, for example."""

    def test_damage_is_told(self, tmp_path: Path) -> None:
        """A damaged file is refused by name, with a `BadSample` or a `DataError`, and not read as if it were whole."""
        dataset = self.make(tmp_path)
        self.damage(tmp_path)
        hold(datasets.damage_is_told, dataset)


class PluginSuite:
    """Holds a plugin module, the one that an entry point names, against every rule of `fusionkit.testing.plugins`."""

    module: ClassVar[str]
    """Its name, such as `"acme.plugin"`."""


def resolved(component: Any) -> Any:
    """The class of a component that is given as one, or by its name as `"fusion:concat"`."""
    if not isinstance(component, str):
        return component
    kind, _, name = component.partition(":")
    return load_registry().resolve(kind, name)


def _taken(taken: dict[str, T], refused: dict[str, str]) -> dict[str, T]:
    """What is tried with each kind of task that is not refused."""
    if not taken:
        reasons = "; ".join(f"{kind}: {reason}" for kind, reason in refused.items())
        raise Fault("some_task_is_taken", f"it refuses every kind of task: {reasons}")
    return taken


def _for_each_subject(check: Callable[[Any], None]) -> Callable[[Any], None]:
    def test(self: Any) -> None:
        for what, subject in self.subjects().items():
            hold(check, subject, what)

    test.__doc__ = check.__doc__
    return test


def _for_a_dataset(check: Callable[[Dataset], None]) -> Callable[[Any, Path], None]:
    def test(self: Any, tmp_path: Path) -> None:
        hold(check, self.make(tmp_path))

    test.__doc__ = check.__doc__
    return test


def _for_a_plugin(check: Callable[[str], None]) -> Callable[[Any], None]:
    def test(self: Any) -> None:
        hold(check, self.module)

    test.__doc__ = check.__doc__
    return test


def _add(suite: type, checks: Iterable[Callable[[Any], None]], make: Callable[[Any], Any]) -> None:
    for check in checks:
        setattr(suite, f"test_{check.__name__.removeprefix('test_')}", make(check))


_add(FusionSuite, fusions.CHECKS, _for_each_subject)
_add(EncoderSuite, encoders.CHECKS, _for_each_subject)
_add(LossSuite, losses.CHECKS, _for_each_subject)
_add(MetricSuite, metrics.CHECKS, _for_each_subject)
_add(AugmentationSuite, augmentations.CHECKS, _for_each_subject)
_add(MixingSuite, mixings.CHECKS, _for_each_subject)
_add(DatasetSuite, datasets.CHECKS, _for_a_dataset)
_add(PluginSuite, plugins.CHECKS, _for_a_plugin)
