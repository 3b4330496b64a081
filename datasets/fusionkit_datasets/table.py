"""`table`: a CSV or Parquet file with a row for each sample, and columns of paths or values for each modality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from fusionkit.contract import Dataset, Index, Sample
from fusionkit.errors import DataError, suggestion
from fusionkit.flow import InputSpec
from fusionkit.options import DataPath
from fusionkit_datasets import labels as labelling
from fusionkit_datasets.manifest import Manifest
from fusionkit_datasets.readers.common import blamed_on
from fusionkit_datasets.references import FileRef
from fusionkit_datasets.table_columns import Cells, TableInput

PARTS = {"train", "val", "test", ""}


class Table(Dataset):
    """A table with a row for each sample, and for each modality a column of paths or columns of values.

    An empty cell means that the sample does not have that modality. Every column but those of `inputs` can be split
    by; a column `split` with no other values than train, val, test and nothing is the official split.

    Args:
        file: the table: CSV, TSV or other delimited text with the names of the columns in line 1, or Parquet.
        inputs: per modality, its column and what that holds: `type` image, raster, array or values.
        label: the column of the classes: whole numbers in any base, or words; an empty cell is no label. A list of
            columns that hold 0 and 1 is several labels a sample, named by their columns: for the task multilabel. null
            where there are none, as of samples that a finished run is to predict.
        quantities: in place of `label`, columns of numbers: for the task regression. A sample that lacks one is in no
            part.
        units: of the quantities, by their columns.
        root: folder that `file` and the paths in the table are relative to.
        delimiter: of a text file; default: a comma in .csv, a tab in .tsv, white space elsewhere.
        id: the column of the samples' names; default: the number of the row, from 0. A name that is there again
            becomes `name#2`.
        classes: raw label values in the order of the class indices; default: all that occur, sorted.
        ignore_labels: raw label values that mean "no label".
        label_names: names of the classes, in their order: an array, or a text file with a name a line.
        counts: modalities that hold event counts, which are not standardised.
    """

    def __init__(
        self,
        *,
        file: DataPath,
        inputs: Annotated[dict[str, TableInput], Field(min_length=1)],
        label: str | Annotated[list[str], Field(min_length=1)] | None = None,
        quantities: Annotated[list[str], Field(min_length=1)] | None = None,
        units: dict[str, str] | None = None,
        root: DataPath = Path("."),
        delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None,
        id: str | None = None,
        classes: list[int | str] | None = None,
        ignore_labels: Sequence[int | str] = (),
        label_names: FileRef | None = None,
        counts: Sequence[str] = (),
    ):
        if label is not None and quantities is not None:
            raise DataError("give either `label` or `quantities`")
        if quantities or isinstance(label, list):
            labelling.hold_for_classes(classes=classes, ignore_labels=ignore_labels, label_names=label_names)
        self.file, self.options, self.root = file, inputs, root
        self.target = [label] if isinstance(label, str) else list(quantities or label or ())
        self.units = labelling.units_of(quantities or (), units)
        self.task = "regression" if quantities else "multilabel" if isinstance(label, list) else "classification"
        self.delimiter, self.id = delimiter, id
        self.classes, self.ignore_labels, self.label_names = classes, ignore_labels, label_names
        self.counts = counts
        self._manifest: Manifest | None = None
        self._cells: dict[str, Cells] = {}

    def inputs(self) -> dict[str, InputSpec]:
        self._open()
        return {
            name: InputSpec(cells.shape, counts=name in self.counts, ragged=cells.ragged)
            for name, cells in self._cells.items()
        }

    def class_names(self) -> tuple[str, ...] | None:
        if self.task != "classification":
            return tuple(self.target)
        if self.label_names is not None:
            return tuple(labelling.read_names(self.root, self.label_names))
        return None if self.classes is None else tuple(map(str, self.classes))

    def index(self, progress: Callable[[int, int], None] | None = None) -> Index:
        manifest = self._open()
        with blamed_on("quantities" if self.task == "regression" else "label"):
            targets, class_names = self._targets(manifest)
        with blamed_on("id"):
            ids = labelling.unique(range(len(manifest)) if self.id is None else manifest.words(self.id))
        columns = self._facts(manifest)
        self._manifest = None  # workers read from the cells alone
        split = columns.get("split")
        official = split is not None and set(split.tolist()) <= PARTS
        parts = split if official else None
        return Index(ids, targets, class_names, columns=columns, split=parts, units=self.units)

    def _targets(self, manifest: Manifest) -> tuple[np.ndarray, tuple[str, ...]]:
        """The targets, and the names of classes, labels or quantities."""
        if not self.target:
            return np.full(len(manifest), -1), ()
        if self.task == "classification":
            raw = manifest.fact(self.target[0])
            if raw is None:
                raise DataError(f"column {self.target[0]!r} holds lists", manifest.path)
            names = None if self.label_names is None else labelling.read_names(self.root, self.label_names)
            return labelling.encode(raw, classes=self.classes, ignore=self.ignore_labels, names=names)
        values, bad = manifest.numbers(self.target)
        if bad:
            row, reason = next(iter(bad.items()))
            raise DataError(f"row {row}: {reason}", manifest.path)
        if self.task == "multilabel":
            return labelling.encode_several(values, self.target)
        return labelling.encode_quantities(dict(zip(self.target, values.T, strict=True)))

    def read(self, i: int) -> Sample:
        return {name: cells.read(i) for name, cells in self._cells.items()}

    def _open(self) -> Manifest:
        for name in self.counts:
            if name not in self.options:
                raise DataError(f"there is no modality {name!r}{suggestion(name, self.options)}", option=("counts",))
        if self._manifest is None:
            with blamed_on("file"):
                self._manifest = Manifest(self.root / self.file, self.delimiter)
            for name, options in self.options.items():
                with blamed_on("inputs", name):
                    self._cells[name] = options.open(self._manifest, self.root)
        return self._manifest

    def _facts(self, manifest: Manifest) -> dict[str, np.ndarray]:
        """Every column that no modality is made of."""
        used: set[str] = set()
        for options in self.options.values():
            used.update(manifest.matching(options.columns if options.type == "values" else options.column))
        facts = {name: manifest.fact(name) for name in manifest.names if name not in used}
        return {name: fact for name, fact in facts.items() if fact is not None}
