"""`arrays`: samples that lie in arrays of npy, npz, MATLAB, HDF5 or text files, one entry a modality."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from math import isnan
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from fusionkit.contract import Dataset, Index, Sample
from fusionkit.errors import DataError, suggestion
from fusionkit.flow import InputSpec
from fusionkit.options import DataPath
from fusionkit_datasets import labels as labelling
from fusionkit_datasets.layout import SAMPLES, Layout, LayoutError, lay_out, take
from fusionkit_datasets.readers import header, load_facts, load_or_leave
from fusionkit_datasets.readers.common import blamed_on, by
from fusionkit_datasets.readers.hdf5 import ChunkedArray
from fusionkit_datasets.references import ArrayRef, Arrays, Facts, FileRef, as_list, by_part


class ArrayDataset(Dataset):
    """Samples that lie in arrays, one entry a modality.

    An array is named `file.npz:key` (npz, MATLAB, HDF5), `file.npy`, or `file.csv:column` (text), or by a mapping
    that says more: a slice of an axis, the order of the axes, a delimiter. A list of arrays is stacked along the
    channels. Where the official split is one of files or arrays, write `{train: ..., val: ..., test: ...}` for each.
    A sample whose values of a modality are all NaN does not have that modality.

    MATLAB's axes are in MATLAB's order for both generations of files. Arrays in npy files, and in HDF5 files where
    they are stored in one piece, are mapped and not loaded, so they may be larger than the memory; so may compressed
    arrays of HDF5 files, which are read sample by sample from 1 GiB on.

    Args:
        inputs: per modality, its array.
        labels: class of each sample: whole numbers in any base, words, or one-hot rows. null where there are none, as
            of samples that a finished run is to predict.
        several_labels: the rows of `labels` hold any number of ones: for the task multilabel.
        quantities: in place of `labels`, by name, a number of each sample: for the task regression. A sample that
            lacks one, NaN, is in no part.
        units: of the quantities, by their names.
        root: folder that paths are relative to.
        classes: raw label values in the order of the class indices; default: all that occur, sorted.
        ignore_labels: raw label values that mean "no label".
        label_names: names of the classes, in their order: an array, or a text file with a name a line.
        columns: further facts to split by: a fold, a plot, a site.
        ids: a name of each sample; default: its number, after its part of the split. A name that is there again
            becomes `name#2`.
        counts: modalities that hold event counts, which are not standardised.
    """

    def __init__(
        self,
        *,
        inputs: Annotated[dict[str, Arrays], Field(min_length=1)],
        labels: Facts | None = None,
        several_labels: bool = False,
        quantities: Annotated[dict[str, Facts], Field(min_length=1)] | None = None,
        units: dict[str, str] | None = None,
        root: DataPath = Path("."),
        classes: list[int | str] | None = None,
        ignore_labels: Sequence[int | str] = (),
        label_names: FileRef | None = None,
        columns: dict[str, Facts] | None = None,
        ids: Facts | None = None,
        counts: Sequence[str] = (),
    ):
        if labels is not None and quantities is not None:
            raise DataError("give either `labels` or `quantities`")
        if quantities:
            labelling.hold_for_classes(several_labels=several_labels, label_names=label_names)
        if quantities or several_labels:
            labelling.hold_for_classes(classes=classes, ignore_labels=ignore_labels)
        self.sources, self.root = inputs, root
        self.targets: dict[tuple[str, ...], Any] = {("labels",): labels} if labels is not None else {}
        self.targets |= {("quantities", name): source for name, source in (quantities or {}).items()}
        self.units = labelling.units_of(list(quantities or ()), units)
        self.task = "regression" if quantities else "multilabel" if several_labels else "classification"
        self.classes, self.ignore_labels, self.label_names = classes, ignore_labels, label_names
        self.columns, self.ids, self.counts = columns or {}, ids, counts
        self._modalities: dict[str, _Modality] | None = None

    def inputs(self) -> dict[str, InputSpec]:
        for name in self.counts:
            if name not in self.sources:
                raise DataError(f"there is no modality {name!r}{suggestion(name, self.sources)}", option=("counts",))
        specs = {}
        for name, source in self.sources.items():
            shapes = {}
            for part, references in by_part(source).items():
                with blamed_on("inputs", name, *([part] if part else [])):
                    shapes[part] = self._shape(as_list(references))
            first, *others = shapes
            for part in others:
                if shapes[part] != shapes[first]:
                    message = f"a sample of {first} is {by(shapes[first])}, one of {part} is {by(shapes[part])}"
                    raise DataError(message, option=("inputs", name, part))
            specs[name] = InputSpec(shapes[first], counts=name in self.counts)
        return specs

    def class_names(self) -> tuple[str, ...] | None:
        if self.task == "regression":
            return tuple(name for _, name in self.targets)
        if self.label_names is not None:
            return tuple(labelling.read_names(self.root, self.label_names))
        return None if self.classes is None else tuple(map(str, self.classes))

    def index(self, progress: Callable[[int, int], None] | None = None) -> Index:
        self.inputs()
        sizes, targets, class_names = self._targets()
        facts = {name: self._facts_like(sizes, source, ("columns", name)) for name, source in self.columns.items()}
        self._modalities = self._open()
        for name, modality in self._modalities.items():
            self._compare(sizes, modality.sizes, self.sources[name], ("inputs", name))
        split = np.repeat(list(sizes), list(sizes.values())) if "" not in sizes else None
        return Index(self._ids(sizes), targets, class_names, columns=facts, split=split, units=self.units)

    def read(self, i: int) -> Sample:
        if self._modalities is None:  # in a worker that was not forked
            self._modalities = self._open()
        return {name: modality.read(i) for name, modality in self._modalities.items()}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_modalities": None}  # a worker opens the files itself

    def _targets(self) -> tuple[dict[str, int], np.ndarray, tuple[str, ...]]:
        """How many samples each part of the split has; the targets, and the names of classes, labels or quantities."""
        if not self.targets:
            sizes = next(iter(self._open().values())).sizes
            return sizes, np.full(sum(sizes.values()), -1), ()
        (option, first), *others = self.targets.items()
        raw, sizes = self._facts(first, option)
        columns = {option[-1]: raw}
        columns |= {option[-1]: self._facts_like(sizes, source, option) for option, source in others}
        with blamed_on(option[0]):
            return sizes, *self._encoded(columns)

    def _encoded(self, columns: dict[str, np.ndarray]) -> tuple[np.ndarray, tuple[str, ...]]:
        """The targets, and the names of classes, labels or quantities."""
        if self.task == "regression":
            return labelling.encode_quantities(columns)
        names = None if self.label_names is None else labelling.read_names(self.root, self.label_names)
        (raw,) = columns.values()
        if self.task == "multilabel":
            return labelling.encode_several(raw, names)
        return labelling.encode(raw, classes=self.classes, ignore=self.ignore_labels, names=names)

    def _ids(self, sizes: dict[str, int]) -> list[str]:
        if self.ids is None:
            return [f"{part}/{i}" if part else str(i) for part, size in sizes.items() for i in range(size)]
        return labelling.unique(self._facts_like(sizes, self.ids, ("ids",), words=True).tolist())

    def _facts(self, source: Any, option: tuple[str, ...], *, words: bool = False) -> tuple[np.ndarray, dict[str, int]]:
        """One value a sample, and how many samples each part of the split has."""
        parts = {}
        for part, reference in by_part(source).items():
            with blamed_on(*option, *([part] if part else [])):
                rows = option == ("labels",)
                several = rows and self.task == "multilabel"
                parts[part] = _fact(self.root, reference, one_hot=rows, several=several, words=words)
        sizes = {part: len(values) for part, values in parts.items()}
        if any(values.dtype.kind == "U" for values in parts.values()):
            return np.concatenate([values.astype(np.str_) for values in parts.values()]), sizes
        return np.concatenate(list(parts.values())), sizes

    def _facts_like(
        self, sizes: dict[str, int], source: Any, option: tuple[str, ...], *, words: bool = False
    ) -> np.ndarray:
        values, found = self._facts(source, option, words=words)
        self._compare(sizes, found, source, option)
        return values

    def _compare(self, sizes: dict[str, int], found: dict[str, int], source: Any, option: tuple[str, ...]) -> None:
        """Refuse an array that is not divided, or not as long, as the labels are."""
        if found.keys() != sizes.keys():
            mine, theirs = (" and ".join(parts) if "" not in parts else "nothing" for parts in (found, sizes))
            raise DataError(f"is divided into {mine}, the {self._called} into {theirs}", option=option)
        for part, size in sizes.items():
            if found[part] != size:
                first = next(iter(self.targets.values()))
                one, other = (as_list(by_part(source)[part])[0] for source in (source, first))
                message = f"{one} has {found[part]} samples, but the {self._called} {other} have {size}"
                raise DataError(message, option=(*option, *([part] if part else [])))

    @property
    def _called(self) -> str:
        return "quantities" if self.task == "regression" else "labels"

    def _shape(self, references: list[ArrayRef]) -> tuple[int, ...]:
        shapes = [header(self.root, reference).shape for reference in references]
        return _stacked_shape(references, _layouts(self.root, references, shapes))

    def _open(self) -> dict[str, _Modality]:
        """Load or map every array; one that several modalities take slices of, once."""
        loaded: dict[str, np.ndarray | ChunkedArray] = {}
        modalities = {}
        for name, source in self.sources.items():
            parts = {}
            for part, references in by_part(source).items():
                with blamed_on("inputs", name, *([part] if part else [])):
                    parts[part] = self._rows(as_list(references), loaded)
            modalities[name] = _Modality(parts)
        return modalities

    def _rows(self, references: list[ArrayRef], loaded: dict[str, np.ndarray | ChunkedArray]) -> list[_Rows]:
        for reference in references:
            if reference.content not in loaded:
                loaded[reference.content] = load_or_leave(self.root, reference)
        arrays = [loaded[reference.content] for reference in references]
        layouts = _layouts(self.root, references, [array.shape for array in arrays])
        rows = [_Rows(array, layout) for array, layout in zip(arrays, layouts, strict=True)]
        for reference, other in zip(references[1:], rows[1:], strict=True):
            if len(other) != len(rows[0]):
                raise DataError(f"{references[0]} has {len(rows[0])} samples, {reference} has {len(other)}")
        return rows


class _Rows:
    """The samples of one array, each arranged."""

    def __init__(self, array: np.ndarray | ChunkedArray, layout: Layout):
        axis, samples = layout.sample_axis, layout.samples
        self._array = np.moveaxis(array, axis, 0) if isinstance(array, np.ndarray) else array.along(axis)
        self._layout = layout
        self._size = array.shape[axis] if samples is None else len(samples)
        self._samples = None if samples is None or np.array_equal(samples, np.arange(array.shape[axis])) else samples
        self._may_lack = array.dtype.kind == "f"

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, i: int) -> np.ndarray | None:
        value = self._layout.arrange(self._array[i if self._samples is None else self._samples[i]])
        # Most samples are told by their first value; NumPy's own look at all of them takes longer than the rest.
        return None if self._may_lack and isnan(value.item(0)) and np.isnan(value).all() else value


class _Modality:
    """One modality over all parts of the split; each part is a list of arrays stacked along the channels."""

    def __init__(self, parts: dict[str, list[_Rows]]):
        self.sizes = {part: len(rows[0]) for part, rows in parts.items()}
        self._parts = list(parts.values())
        self._starts = list(accumulate(self.sizes.values(), initial=0))

    def read(self, i: int) -> np.ndarray | None:
        part = bisect_right(self._starts, i) - 1
        values = [rows[i - self._starts[part]] for rows in self._parts[part]]
        if len(values) == 1:
            return values[0]
        present = [value for value in values if value is not None]
        return np.concatenate(present, _channels(present[0].ndim)) if len(present) == len(values) else None


def _channels(ndim: int) -> int:
    """The axis of the channels: first in maps, last in sequences and vectors."""
    return 0 if ndim == 3 else -1


def _layouts(root: Path, references: list[ArrayRef], shapes: list[tuple[int, ...]]) -> list[Layout]:
    """The layout of each array of a stack. In a stack with maps, an array of three axes is one channel."""
    with_maps = any(
        "h" in (reference.axes or SAMPLES.get(len(shape), ""))
        for reference, shape in zip(references, shapes, strict=True)
    )
    default = SAMPLES | ({3: "nhw"} if with_maps else {})
    layouts = []
    for reference, shape in zip(references, shapes, strict=True):
        try:
            layouts.append(lay_out(shape, reference.axes, reference.axis, reference.index, default=default))
        except LayoutError as error:
            raise DataError(f"{reference}: {error}", root / reference.file) from None
    return layouts


def _stacked_shape(references: list[ArrayRef], layouts: list[Layout]) -> tuple[int, ...]:
    """The shape of a sample of the stack.

    Raises:
        DataError: the arrays differ in more than their channels.
    """
    first = layouts[0].shape
    channels = _channels(len(first)) % len(first)
    total = 0
    for reference, layout in zip(references, layouts, strict=True):
        if [*layout.shape[:channels], *layout.shape[channels + 1 :]] != [*first[:channels], *first[channels + 1 :]]:
            message = f"{by(first)} ({references[0]}) and {by(layout.shape)} ({reference}) cannot be stacked"
            raise DataError(f"samples of {message} along the channels")
        total += layout.shape[channels]
    return (*first[:channels], total, *first[channels + 1 :])


def _fact(root: Path, reference: FileRef, *, one_hot: bool, several: bool, words: bool) -> np.ndarray:
    """One value a sample; one-hot rows are let through where they are welcome, rows of several labels as they are."""
    values = load_facts(root, reference, words=words)
    try:
        values = take(values, reference.axis, reference.index)
    except LayoutError as error:
        raise DataError(f"{reference}: {error}", root / reference.file) from None
    if several and values.ndim == 2:
        return values
    if values.ndim != 1:  # MATLAB's vectors are n x 1 or 1 x n
        values = values.reshape([size for size in values.shape if size != 1] or [1])
    if values.ndim > (2 if one_hot else 1):
        raise DataError(f"{reference} is {by(values.shape)}; one value a sample is needed", root / reference.file)
    return values
