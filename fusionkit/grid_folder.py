"""The folder of a grid: `grid.yaml`, `cells.json` and a run folder a cell, found again by its fingerprint.

Whether a cell is finished is told by its run folder alone; `cells.json` is for people and scripts.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fusionkit.errors import RequestError
from fusionkit.grids import Cell, Grid
from fusionkit.runs import Run, RunFolder, to_yaml

CODE = "code.json"
"""Of a cell's run folder: the code that made it."""
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Origin:
    """What the results of a cell were made with: the hash of the code, and the fingerprint of the data."""

    code: str | None
    data: str | None


class GridFolder:
    """The folder of a grid.

    Args:
        path: of the folder, which need not be there.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.cells = self.path / "cells"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder and keep others out of it.

        Raises:
            RequestError: another grid works here, or there can be no such folder.
        """
        try:
            self.cells.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"{self.path} cannot hold a grid: {error.strerror}") from None
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RequestError(f"another grid works in {self.path}; wait for it, or give this one a `name`") from None
        try:
            yield
        finally:
            lock.release()

    def of(self, cell: Cell) -> Path:
        """The run folder of a cell, which need not be there: found by its fingerprint, whatever its variant's name."""
        if found := sorted(self.cells.glob(f"*-{cell.fingerprint}")):
            return found[0]
        name = re.sub(r"[^\w.]+", "-", cell.name).strip("-")[:_LONGEST_NAME]
        return self.cells / f"{name}-seed{cell.seed}-{cell.fingerprint}"

    def log(self, cell: Cell) -> Path:
        """What the process of a cell says."""
        return self.path / "logs" / f"{self.of(cell).name}.log"

    def prepare(self, cell: Cell) -> Path:
        """Make the run folder of a cell, ready to be gone on with."""
        folder = self.of(cell)
        folder.mkdir(parents=True, exist_ok=True)
        RunFolder(folder).write_text("resolved.yaml", to_yaml(cell.recipe))
        self.log(cell).parent.mkdir(exist_ok=True)
        return folder

    def set_aside(self, cell: Cell) -> Path:
        """Move the run folder of a cell out of the way; what is in it is kept."""
        aside = self.path / "older" / f"{self.of(cell).name}-{secrets.token_hex(2)}"
        aside.parent.mkdir(exist_ok=True)
        return self.of(cell).rename(aside)

    def run(self, cell: Cell) -> Run | None:
        """The run of a cell if it is finished and its result can be read."""
        run = Run(self.of(cell))
        try:
            return run if run.finished and run.result else None
        except RequestError:  # damaged; it is run again
            return None

    def write(self, grid: Grid, told: Mapping[str, Mapping[str, Any]]) -> None:
        """Write `grid.yaml` and `cells.json`; `told`: by fingerprint, what is known of each cell."""
        folder = RunFolder(self.path)
        texts = list(grid.sources.items())
        folder.write_text("grid.yaml", texts[0][1])
        for number, (name, text) in enumerate(texts[1:], 1):
            folder.write_text(f"bases/{number}-{Path(name).name}", text)
        cells = []
        for cell in grid.cells:
            keys = {"name": cell.name, "levels": cell.levels, "seed": cell.seed, "fingerprint": cell.fingerprint}
            cells.append(keys | {"folder": f"cells/{self.of(cell).name}"} | dict(told.get(cell.fingerprint, {})))
        folder.write_json("cells.json", {"format": 1, "reference": grid.reference, "cells": cells})


def origin(run: Path) -> Origin:
    """What a run folder was made with, as far as it says so."""
    return Origin(_told(run / CODE, "code"), _told(run / "provenance.json", "data_fingerprint"))


def sign(run: Path, code: str) -> None:
    """Note the code that makes a run; what other code has begun is begun anew."""
    if origin(run).code not in (code, None):
        forget_training(run)
    RunFolder(run).write_json(CODE, {"code": code})


def forget_training(run: Path) -> None:
    """Make a run folder as if nothing had been trained yet."""
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    for name in ("provenance.json", "metrics.csv", CODE):
        (run / name).unlink(missing_ok=True)


def _told(path: Path, key: str) -> str | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told.get(key) if isinstance(told, dict) else None
