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
from typing import Any, ClassVar

from fusionkit.contract import Dataset, Encoder, Fusion, Loss
from fusionkit.flow import InputSpec
from fusionkit.testing import datasets, encoders, fusions, losses
from fusionkit.testing.encoders import EncoderSubject
from fusionkit.testing.fault import Fault
from fusionkit.testing.losses import LossSubject
from fusionkit.testing.subjects import Subject, subjects

__all__ = ["DatasetSuite", "EncoderSuite", "Fault", "FusionSuite", "LossSuite"]


class FusionSuite:
    """Holds a fusion, among small encoders and heads, against every rule of `fusionkit.testing.fusions`.

    Each number of modalities is tried with inputs that have nothing in common (two maps, a padded sequence, a vector),
    and with maps of one grid where the fusion refuses those.
    """

    component: ClassVar[type[Fusion]]
    options: ClassVar[Mapping[str, Any]] = {}
    counts: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)
    """The numbers of modalities that the fusion has to take."""

    _subjects: ClassVar[dict[int, Subject] | None] = None

    @classmethod
    def subjects(cls) -> dict[int, Subject]:
        """The fusion among its encoders, for each number of modalities; built once."""
        if "_subjects" not in vars(cls):
            taken, refused = subjects(cls.component, cls.options, cls.counts)
            if refused:
                told = "; ".join(f"{count}: {reason}" for count, reason in refused.items())
                raise Fault("modalities_are_taken", f"it refuses numbers of modalities that it should take: {told}")
            cls._subjects = taken
        return cls._subjects or {}

    def test_options_are_a_schema(self) -> None:
        fusions.options_are_a_schema(self.component)


class EncoderSuite:
    """Holds an encoder against every rule of `fusionkit.testing.encoders`."""

    component: ClassVar[type[Encoder]]
    options: ClassVar[Mapping[str, Any]] = {}
    specs: ClassVar[tuple[InputSpec, ...]]
    """Shapes that the encoder reads."""

    @classmethod
    def subjects(cls) -> dict[int, EncoderSubject]:
        make = partial(cls.component, **cls.options)
        return {number: EncoderSubject.of(make, spec) for number, spec in enumerate(cls.specs)}


class LossSuite:
    """Holds a loss for classification against every rule of `fusionkit.testing.losses`."""

    component: ClassVar[type[Loss]]
    options: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def subjects(cls) -> dict[int, LossSubject]:
        return {0: LossSubject.of(partial(cls.component, **cls.options))}


class DatasetSuite(ABC):
    """Holds a dataset, on a few samples that `make` writes, against every rule of `fusionkit.testing.datasets`."""

    @abstractmethod
    def make(self, folder: Path) -> Dataset:
        """Write a small set of data in the dataset's own format into the folder, and return the dataset."""

    @abstractmethod
    def damage(self, folder: Path) -> None:
        """Break one file of what `make` wrote: truncate it, for example."""

    def test_damage_is_told(self, tmp_path: Path) -> None:
        dataset = self.make(tmp_path)
        self.damage(tmp_path)
        datasets.damage_is_told(dataset)


def _for_each_subject(check: Callable[[Any], None]) -> Callable[[Any], None]:
    def test(self: Any) -> None:
        for subject in self.subjects().values():
            check(subject)

    test.__doc__ = check.__doc__
    return test


def _for_a_dataset(check: Callable[[Dataset], None]) -> Callable[[Any, Path], None]:
    def test(self: Any, tmp_path: Path) -> None:
        check(self.make(tmp_path))

    test.__doc__ = check.__doc__
    return test


def _add(suite: type, checks: Iterable[Callable[[Any], None]], make: Callable[[Any], Any]) -> None:
    for check in checks:
        setattr(suite, f"test_{check.__name__.removeprefix('test_')}", make(check))


_add(FusionSuite, fusions.CHECKS, _for_each_subject)
_add(EncoderSuite, encoders.CHECKS, _for_each_subject)
_add(LossSuite, losses.CHECKS, _for_each_subject)
_add(DatasetSuite, datasets.CHECKS, _for_a_dataset)
