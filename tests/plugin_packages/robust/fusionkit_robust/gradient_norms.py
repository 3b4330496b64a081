"""Notes the length of the gradient in every step."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from fusionkit import Callback, Fit

FOLDER = "gradient_norms"


class GradientNorms(Callback):
    """Writes `gradient_norms/MODEL.csv` into the run folder: a row a step, with the norm over all parameters.

    Of a resumed run, the rows of the steps that are kept stay.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[int, float]] = []

    def on_fit_start(self, fit: Fit) -> None:
        path = _path(fit)
        self.rows = [row for row in read_norms(path) if row[0] <= fit.step] if path.is_file() else []

    def on_step_end(self, fit: Fit, terms: dict[str, float]) -> None:
        gradients = [parameter.grad for parameter in fit.model.parameters() if parameter.grad is not None]
        self.rows.append((fit.step, float(torch.stack([gradient.norm() for gradient in gradients]).norm())))

    def on_epoch_end(self, fit: Fit) -> None:
        if fit.is_first:
            path = _path(fit)
            path.parent.mkdir(exist_ok=True)
            part = path.with_suffix(".part")
            with part.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("step", "norm"), *self.rows])
            part.replace(path)


def read_norms(path: Path) -> list[tuple[int, float]]:
    """The rows of a file: step, norm."""
    with path.open(newline="", encoding="utf-8") as file:
        return [(int(row["step"]), float(row["norm"])) for row in csv.DictReader(file)]


def _path(fit: Fit) -> Path:
    return fit.run_folder / FOLDER / f"{fit.name}.csv"
