"""The logs of a run: `metrics.csv`, rewritten whole after every epoch, and TensorBoard events."""

from __future__ import annotations

import math
from typing import Any

from tensorboardX import SummaryWriter

from fusionkit.runs import RunFolder
from fusionkit.trainer import Callback, Fit


class MetricsFile(Callback):
    """Keeps `metrics.csv`: one row an epoch and model, all models of the run below each other."""

    def __init__(self, folder: RunFolder):
        self.folder = folder
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def on_epoch_end(self, fit: Fit) -> None:
        self.rows[fit.name] = [{"model": fit.name, **row} for row in fit.history]
        self.folder.write_metrics([row for rows in self.rows.values() for row in rows])


class TensorBoard(Callback):
    """Writes the same figures as TensorBoard events, one run a model."""

    def __init__(self, folder: RunFolder):
        self.folder = folder
        self.writer: SummaryWriter | None = None

    def on_fit_start(self, fit: Fit) -> None:
        self.writer = SummaryWriter(str(self.folder.path / "tensorboard" / fit.name), purge_step=fit.epoch)

    def on_epoch_end(self, fit: Fit) -> None:
        assert self.writer is not None  # noqa: S101 - on_fit_start comes first
        for name, value in fit.history[-1].items():
            if name != "epoch" and not math.isnan(value):  # a figure that has no value here
                self.writer.add_scalar(name, value, fit.epoch)
        self.writer.flush()

    def on_fit_end(self, fit: Fit) -> None:
        assert self.writer is not None  # noqa: S101
        self.writer.close()
