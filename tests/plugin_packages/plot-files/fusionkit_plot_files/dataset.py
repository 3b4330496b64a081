"""Field plots in `.plot` files."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from fusionkit import BadSample, DataError, DataPath, Dataset, Index, InputSpec, Sample
from fusionkit_plot_files.made_up import make_plots
from fusionkit_plot_files.plot_file import read_header, read_plot

SPLITS = ("train", "val", "test", "")


@dataclass(frozen=True)
class Row:
    """A plot in the table of labels; `label` and `split` are empty where there is none."""

    file: str
    label: str
    split: str


class PlotFiles(Dataset):
    """Field plots: a drone image of counts and a spectrum of reflectances, either of which a plot may lack.

    Args:
        root: the folder of the `.plot` files.
        labels: the table of their classes in that folder, with the columns `file`, `class` and, optionally, `split`.
    """

    def __init__(self, *, root: DataPath, labels: str = "labels.csv"):
        self.root, self.labels = root, labels
        self._files: list[Path] = []

    def inputs(self) -> dict[str, InputSpec]:
        shapes: dict[str, tuple[int, ...]] = {}
        for row in self._rows():
            try:
                header = read_header(self.root / row.file)
            except BadSample:  # it is told when the sample is read
                continue
            if header.image is not None:
                shapes.setdefault("image", header.image)
            if header.spectrum is not None:
                shapes.setdefault("spectrum", (header.spectrum,))
            if len(shapes) == 2:
                break
        if not shapes:
            raise DataError("names no .plot file that can be read", self.root / self.labels, option=("root",))
        return {name: InputSpec(shape) for name, shape in shapes.items()}

    def index(self, progress: Callable[[int, int], None] | None = None) -> Index:
        rows = self._rows()
        names = tuple(sorted({row.label for row in rows} - {""}))
        self._files = [self.root / row.file for row in rows]
        return Index(
            ids=[row.file for row in rows],
            targets=np.array([names.index(row.label) if row.label else -1 for row in rows]),
            class_names=names,
            split=np.array([row.split for row in rows]) if any(row.split for row in rows) else None,
        )

    def read(self, i: int) -> Sample:
        image, spectrum = read_plot(self._files[i])
        return {"image": image, "spectrum": spectrum}

    @classmethod
    def make(
        cls,
        folder: Path,
        progress: Callable[[int, int], None] | None = None,
        *,
        plots: PositiveInt = 120,
        seed: NonNegativeInt = 0,
    ) -> str:
        """Make plots of three crops up; every seventh has no spectrum.

        Args:
            folder: where they go.
            progress: is told how many of how many are done.
            plots: how many.
            seed: the same seed gives the same plots.
        """
        make_plots(folder, plots, seed, progress)
        return f"{plots} plots in {folder}"

    def _rows(self) -> list[Row]:
        path = self.root / self.labels
        try:
            with path.open(newline="", encoding="utf-8") as file:
                table = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"cannot be read: {error}", path, option=("labels",)) from error
        if not table:
            raise DataError("lists no plot", path, option=("labels",))
        if lacking := {"file", "class"} - table[0].keys():
            raise DataError(f"has no column {' and '.join(sorted(lacking))}", path, option=("labels",))
        rows = [Row(row["file"] or "", row["class"] or "", row.get("split") or "") for row in table]
        known: set[str] = set()
        for line, row in enumerate(rows, 2):
            wrong = ""
            if not row.file or row.file in known:
                wrong = f"{row.file} is listed twice" if row.file else "names no file"
            elif row.split not in SPLITS:
                wrong = f"the split is {row.split!r}; write train, val, test or nothing"
            if wrong:
                raise DataError(f"line {line}: {wrong}", path, option=("labels",))
            known.add(row.file)
        return rows
