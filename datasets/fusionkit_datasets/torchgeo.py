"""`torchgeo`: a dataset of the package TorchGeo by its name, its bands grouped into modalities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from fusionkit.contract import Dataset, Index, Sample
from fusionkit.errors import BadSample, DataError, suggestion
from fusionkit.flow import InputSpec
from fusionkit.options import DataPath
from fusionkit_datasets import labels as labelling
from fusionkit_datasets import torchgeo_classes as classes
from fusionkit_datasets.readers.common import by, listed
from fusionkit_datasets.references import Keys, Splits

_TRIED = 64
"""Samples of which one has to be readable, to know the shapes."""

Plain: TypeAlias = bool | int | float | str


class Bands(Keys):
    """One modality. Short forms: a list of bands of the key `image`; or a key, with all its bands."""

    key: str = "image"
    """The key of the package's samples."""
    bands: list[PositiveInt | str] | None = Field(None, min_length=1)
    """Bands by their names, or by number from 1. Default: all."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, list):
            return {"bands": value}
        return {"key": value} if isinstance(value, str) else value


class TorchGeo(Dataset):
    """A dataset of TorchGeo (https://torchgeo.readthedocs.io) whose samples have a label: scenes, not maps.

    Needs `pip install 'fusionkit-geo[torchgeo]'`. Only classes that `torchgeo.datasets` exports can be named, and of
    those the ones with samples (`NonGeoDataset`); a `GeoDataset` has rasters, which `source: rasters` reads. Nothing is
    downloaded: without data a message says how to. Bands come as the package reads them, mostly as 32-bit floats.

    The package's own parts are the official split and the column `split`, so that `split: {column: split, ...}` can
    divide them in another way. Files that the list of a part names and that are not there are listed as bad. Where the
    package keeps no list of labels, each sample is read once more while listing.

    Args:
        dataset: the name of the class: `EuroSAT`, `BigEarthNetV2`, `So2Sat`, `TreeSatAI`, `USAVars`, ...
        inputs: per modality, its bands: `[B02, B03, B04]`, a key of the samples (`image_s1`, `dem`), or both as
            `{key: image_s2, bands: [B02, B03]}`.
        root: folder of the data, as TorchGeo lays them out.
        target: the key of the label, or of the quantities.
        several_labels: the label holds any number of ones: for the task multilabel.
        quantities: the target is these numbers, in this order: for the task regression.
        units: of the quantities, by their names.
        options: further arguments of the class, such as `{num_classes: 43}` or `{version: 3_culture_10}`.
        splits: the package's names of the parts, `{train: trainval, test: test}`; default: train, val (or validation,
            or dev) and test, as far as the class has them.
    """

    def __init__(
        self,
        *,
        dataset: str,
        inputs: Annotated[dict[str, Bands], Field(min_length=1)],
        root: DataPath = Path("."),
        target: str = "label",
        several_labels: bool = False,
        quantities: Annotated[list[str], Field(min_length=1)] | None = None,
        units: dict[str, str] | None = None,
        options: dict[str, Plain | list[Plain]] | None = None,
        splits: Splits[str] | None = None,
    ):
        if quantities and several_labels:
            raise DataError("give either `quantities` or `several_labels`")
        self.dataset, self.sources, self.root, self.target = dataset, inputs, root, target
        self.quantities, self.units = quantities, labelling.units_of(quantities or (), units)
        self.task = "regression" if quantities else "multilabel" if several_labels else "classification"
        self.options, self.splits = options or {}, splits.parts() if splits else None
        self._parts: dict[str, Any] | None = None
        self._taken: dict[str, _Taken] = {}
        self._where: list[tuple[str, int]] = []

    def inputs(self) -> dict[str, InputSpec]:
        sample = self._first()
        found = classes.find(self.dataset)
        for name, bands in self.sources.items():
            value = sample.get(bands.key)
            if value is None or not (array := _array(value)).size:
                message = f"{self.dataset} has no {bands.key!r} in its samples, but {listed(sorted(sample))}"
                raise DataError(message, option=("inputs", name))
            if array.ndim > 3:
                message = f"{bands.key!r} is {by(array.shape)}; a modality is a vector, a sequence or a map"
                raise DataError(message, option=("inputs", name))
            told = classes.band_names(found, bands.key, self.options)
            self._taken[name] = _Taken(name, bands, array.shape, told)
        return {name: InputSpec(taken.shape) for name, taken in self._taken.items()}

    def class_names(self) -> tuple[str, ...] | None:
        if self.quantities:
            return tuple(self.quantities)
        found = classes.find(self.dataset)
        # Of folders of classes the folders decide.
        by_folder = issubclass(found, classes.package().NonGeoClassificationDataset)
        return None if by_folder else classes.class_names(found, self.options)

    def index(self, progress: Callable[[int, int], None] | None = None) -> Index:
        self.inputs()
        parts = self._open()
        ids, raw, bad = [], [], []
        self._where = []
        done, total = 0, sum(map(len, parts.values()))
        for part, opened in parts.items():
            bad += classes.unfound(opened, self.root, (self.splits or {}).get(part, part))
            files = self._files(opened)
            for i in range(len(opened)):
                id = str(Path(files[i][0]).relative_to(opened.root)) if files else f"{part}/{i}" if part else str(i)
                try:
                    label = np.asarray(files[i][1]) if files else self._label(opened, i)
                except BadSample as error:
                    bad.append((id, error))
                else:
                    ids.append(id)
                    raw.append(label)
                    self._where.append((part, i))
                done += 1
                if progress:
                    progress(done, total)
        targets, names = self._encoded(raw)
        split = np.array([part for part, _ in self._where])
        return Index(
            labelling.unique(ids),
            targets,
            names,
            columns={"split": split} if len(parts) > 1 else {},
            split=split if len(parts) > 1 else None,
            bad=bad,
            units=self.units,
        )

    def read(self, i: int) -> Sample:
        part, position = self._where[i]
        opened = self._open()[part]
        sample = _read(opened, position, self.root)
        path = _path(opened, position, self.root)
        return {name: taken(sample.get(taken.key), path) for name, taken in self._taken.items()}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_parts": None}  # a worker opens the files itself

    def _open(self) -> dict[str, Any]:
        if self._parts is None:
            self._parts = classes.open_parts(classes.find(self.dataset), self.root, self.splits, self.options)
        return self._parts

    def _first(self) -> dict[str, Any]:
        """The first sample that can be read."""
        failure: BadSample | None = None
        for opened in self._open().values():
            for i in range(min(len(opened), _TRIED)):
                try:
                    return _read(opened, i, self.root)
                except BadSample as error:
                    failure = failure or error
        message = f"no sample of {self.dataset} can be read"
        raise DataError(f"{message}; the first: {failure}" if failure else f"{self.dataset} has no samples", self.root)

    def _files(self, opened: Any) -> list[tuple[str, int]] | None:
        """Path and class of each sample, where the package keeps a list of them."""
        listed_there = isinstance(opened, classes.package().NonGeoClassificationDataset)
        return opened.samples if listed_there and self.target == "label" and self.task == "classification" else None

    def _label(self, opened: Any, i: int) -> np.ndarray:
        sample = _read(opened, i, self.root)
        if self.target not in sample:
            message = f"the samples of {self.dataset} have no {self.target!r}, but {listed(sorted(sample))}"
            raise DataError(message, option=("target",))
        label = _array(sample[self.target])
        if label.ndim > 1:
            kinds = "a class, several labels or quantities"
            raise DataError(f"{self.target!r} is {by(label.shape)}; this is for {kinds} a sample", option=("target",))
        return label

    def _encoded(self, raw: list[np.ndarray]) -> tuple[np.ndarray, tuple[str, ...]]:
        """The targets, and the names of classes, labels or quantities."""
        if not raw:
            raise DataError(f"no sample of {self.dataset} can be read", self.root)
        sizes = {label.size for label in raw}
        if len(sizes) > 1:
            raise DataError(f"the samples have {listed(sorted(sizes))} labels", option=("target",))
        rows = np.stack([label.reshape(-1) for label in raw])
        if self.quantities:
            if rows.shape[1] != len(self.quantities):
                message = f"{self.dataset} has {rows.shape[1]} of them in {self.target!r}, not {len(self.quantities)}"
                raise DataError(message, option=("quantities",))
            return labelling.encode_quantities(dict(zip(self.quantities, rows.T, strict=True)))
        names = classes.class_names(next(iter(self._open().values())), self.options)
        if self.task == "multilabel":
            return labelling.encode_several(rows, names if names and len(names) == rows.shape[1] else None)
        if rows.shape[1] > 1:
            message = f"{self.target!r} has {rows.shape[1]} values a sample; set several_labels or name `quantities`"
            raise DataError(message, option=("target",))
        numbers = rows[:, 0]
        if len(strange := numbers[(numbers != np.round(numbers)) | (numbers < 0)]):
            raise DataError(f"{self.target!r} holds {strange[0]}, which is no class", option=("target",))
        targets = numbers.astype(np.int64)
        count = int(targets.max()) + 1
        return targets, names if names and len(names) >= count else tuple(map(str, range(count)))


class _Taken:
    """One modality, taken from the package's samples.

    Args:
        name: of the modality.
        bands: what the recipe says.
        shape: of the key's values in the first sample.
        told: the names of its bands; None where the package does not tell.
    """

    def __init__(self, name: str, bands: Bands, shape: tuple[int, ...], told: Sequence[str] | None):
        self.key = bands.key
        self._axis = InputSpec(shape).channel_axis
        self._channels = shape[self._axis]
        self._positions = None if bands.bands is None else [self._position(name, band, told) for band in bands.bands]
        count = self._channels if self._positions is None else len(self._positions)
        self.shape = (*shape[: self._axis], count, *shape[self._axis + 1 :])

    def __call__(self, value: Any, path: object) -> np.ndarray | None:
        """The bands of one sample; None where it has none, or nothing but NaN."""
        if value is None:
            return None
        array = _array(value)
        if array.ndim != len(self.shape) or array.shape[self._axis] != self._channels:
            reason = f"{self.key!r} is {by(array.shape)}, not of {self._channels} bands as in the first sample"
            raise BadSample(reason, path)
        if self._positions is not None:
            array = array.take(self._positions, self._axis)
        lacks = array.dtype.kind == "f" and array.size > 0 and isnan(array.item(0)) and np.isnan(array).all()
        return None if lacks else array

    def _position(self, name: str, band: int | str, told: Sequence[str] | None) -> int:
        option = ("inputs", name)
        if isinstance(band, int):
            if band > self._channels:
                raise DataError(f"there is no band {band}; {self.key!r} has {self._channels}", option=option)
            return band - 1
        if told is None or len(told) != self._channels:
            message = f"TorchGeo names no bands of {self.key!r}; give their numbers, 1 to {self._channels}"
            raise DataError(message, option=option)
        if band not in told:
            raise DataError(f"there is no band {band!r}{suggestion(band, told)}", option=option)
        return list(told).index(band)


def _read(opened: Any, i: int, root: Path) -> dict[str, Any]:
    """One sample of the package.

    Raises:
        BadSample: whatever goes wrong with it.
    """
    try:
        return dict(opened[i])
    except Exception as error:  # damaged files make the libraries raise almost anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadSample(f"TorchGeo cannot read sample {i}: {reason}", _path(opened, i, root)) from error


def _path(opened: Any, i: int, root: Path) -> object:
    """The file of a sample where the package keeps a list of them, else the folder of the data."""
    samples = getattr(opened, "samples", None)
    return samples[i][0] if samples else root


def _array(value: Any) -> np.ndarray:
    """A tensor, or a number, as an array of at least one axis."""
    return np.atleast_1d(np.asarray(value))
