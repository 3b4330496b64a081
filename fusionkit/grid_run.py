"""Runs a grid: what is finished is kept, the rest is proven, run, watched and recorded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fusionkit.ablation import ablation
from fusionkit.ablation_report import write_ablation
from fusionkit.errors import FusionkitError, RequestError
from fusionkit.grid_backends import Backend, Dask, Local
from fusionkit.grid_code import code_hash
from fusionkit.grid_folder import GridFolder, forget_training, origin
from fusionkit.grid_progress import GridProgress
from fusionkit.grid_proof import prove
from fusionkit.grid_work import Job, Outcome, gpus
from fusionkit.grids import Cell, Grid, load_grid
from fusionkit.opened import open_data
from fusionkit.progress import Progress
from fusionkit.recipe import load_recipe
from fusionkit.runs import Run


def grid(
    path: str | Path | Grid,
    *,
    overrides: Sequence[str] = (),
    grids: str | Path = "grids",
    jobs: int | None = None,
    threads: int | None = None,
    retries: int = 1,
    scheduler: str | None = None,
    keep: bool = False,
    progress: Progress | None = None,
) -> Iterator[tuple[Cell, Run]]:
    """Run a grid and yield each cell as it is finished, those of an earlier call first.

    A cell is finished if its folder has the result of the same recipe, made by the code and from the data that are
    there now. Closing the iterator stops what runs; another call goes on with it.

    Args:
        path: the grid's file, or a loaded grid.
        overrides: `key=value`, changes to its base recipe.
        grids: where the folder of the grid, named as the grid, is made or found.
        jobs: how many cells run at a time on this machine; default: one for each GPU, or one.
        threads: cores of each cell; default: an equal share, or one on a cluster.
        retries: how often a cell that fails is tried again.
        scheduler: the address of a Dask scheduler whose workers are to run the cells, in the place of this machine.
        keep: whether results of other code count as finished too; `cells.json` and a note mark them.
        progress: where to report; default: standard error.

    Raises:
        RecipeError: the grid or the recipe of a cell is not right. Nothing has been run.
        FusionkitError: cells failed; raised after all others are finished.
    """
    progress = progress or Progress()
    loaded = path if isinstance(path, Grid) else load_grid(path, overrides)
    backend = _backend(jobs, scheduler)
    folder = GridFolder(Path(grids) / loaded.name)
    with folder.held():
        running = _Running(loaded, folder, progress, keep=keep)
        waiting = running.sort()
        if waiting:
            _prove(loaded, progress)
        running.record()
        yield from running.finished_before()
        if waiting:
            cores = threads or (1 if scheduler else max(1, _cores() // backend.slots))
            yield from running.run(waiting, backend, cores, retries)
        running.close()


def _prove(loaded: Grid, progress: Progress) -> None:
    """Refuse a grid of which a cell cannot work."""
    bar, move = progress.counter("proving the cells")
    with bar:
        lacking = prove(loaded, move)
    if lacking:
        raise RequestError(lacking[0])


def _backend(jobs: int | None, scheduler: str | None) -> Backend:
    if scheduler is not None:
        if jobs is not None:
            raise RequestError("on a cluster its workers say how many cells run at a time; leave out the jobs")
        return Dask(scheduler)
    return Local(jobs or len(gpus()) or 1)


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class _Running:
    """A grid that runs, and what is known of its cells.

    Args:
        grid, folder, progress: the grid's.
        keep: whether results of other code are kept.
        runs: of finished cells, by fingerprint.
        told: what `cells.json` says of each beside its levels.
    """

    grid: Grid
    folder: GridFolder
    progress: Progress
    keep: bool
    runs: dict[str, Run] = field(default_factory=dict)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)

    def sort(self) -> list[Cell]:
        """Find the finished cells and return the others; what other code or data have made is set aside."""
        for note in self.grid.notes:
            self.progress.line(f"note: {note}")
        code = code_hash()
        begun = [cell for cell in self.grid.cells if (self.folder.of(cell) / "provenance.json").is_file()]
        runs = {cell.fingerprint: run for cell in begun if (run := self.folder.run(cell)) is not None}
        stale = any(origin(self.folder.of(cell)).code != code for cell in begun) and not self.keep
        # Where all is finished nothing new is to stand beside it, so that the data need not even be there.
        data = self._data(begun) if stale or len(runs) < len(self.grid.cells) else {}
        older = []
        for cell in begun:
            made = origin(self.folder.of(cell))
            same_data = made.data == data.get(cell.fingerprint, made.data)
            run = runs.get(cell.fingerprint)
            if run is None and not (same_data and made.code == code):
                forget_training(self.folder.of(cell))
            elif run is not None and not (same_data and (made.code == code or self.keep)):
                older.append(self.folder.set_aside(cell))
            elif run is not None:
                self._finished(cell, run)
        if older:
            self.progress.line(
                f"note: {len(older)} cells were finished with other code or data and run again; "
                f"their runs are kept in {older[0].parent}"
            )
        return [cell for cell in self.grid.cells if cell.fingerprint not in self.runs]

    def _data(self, cells: Sequence[Cell]) -> dict[str, str]:
        """By fingerprint of each cell, that of its data as they are now; equal data are read once."""
        read: dict[str, str] = {}
        found = {}
        for cell in cells:
            sections = [cell.recipe[section] for section in ("task", "data", "modalities")]
            taught = [term for term in cell.recipe["loss"] if term.get("teacher")]  # teachers read modalities too
            key = json.dumps([*sections, taught])
            if key not in read:
                read[key] = open_data(load_recipe(cell.recipe), self.progress).survey.fingerprint
            found[cell.fingerprint] = read[key]
        return found

    def _finished(self, cell: Cell, run: Run, outcome: Outcome | None = None) -> None:
        made = origin(run.path)
        self.runs[cell.fingerprint] = run
        told: dict[str, Any] = {"status": "finished", "code": made.code, "data": made.data}
        self.told[cell.fingerprint] = told | _cost(outcome)

    def finished_before(self) -> Iterator[tuple[Cell, Run]]:
        before = [(cell, self.runs[cell.fingerprint]) for cell in self.grid.cells if cell.fingerprint in self.runs]
        if before:
            self.progress.line(f"{len(before)} of {len(self.grid.cells)} cells are finished already")
        yield from before

    def run(self, waiting: Sequence[Cell], backend: Backend, cores: int, retries: int) -> Iterator[tuple[Cell, Run]]:
        """Run the cells that wait, and yield those that are finished."""
        cells = {cell.fingerprint: cell for cell in waiting}
        jobs = [
            Job(
                cell.fingerprint,
                self.folder.prepare(cell).absolute(),
                self.folder.log(cell).absolute(),
                cores,
                retries,
                cell.recipe["train"]["accelerator"] != "cpu",
                Path.cwd(),
            )
            for cell in waiting
        ]
        shown = GridProgress(self.grid, self.folder, backend.slots, self.progress)
        for cell in self.grid.cells:
            if cell.fingerprint in self.runs:
                shown.finished(cell, self.runs[cell.fingerprint])
        with shown.shown(waiting), closing(backend.outcomes(jobs)) as outcomes:  # type: ignore[type-var]
            for outcome in outcomes:
                cell = cells[outcome.fingerprint]
                run = None if outcome.reason else self.folder.run(cell)
                if run is not None:
                    self._finished(cell, run, outcome)
                    shown.finished(cell, run)
                else:
                    reason = outcome.reason or "its result cannot be read"
                    outcome = Outcome(outcome.fingerprint, reason, outcome.attempts, outcome.seconds)
                    self.told[cell.fingerprint] = _cost(outcome) | {"status": "failed", "reason": reason}
                shown.ended(cell, outcome)
                self.record()
                if run is not None:
                    yield cell, run

    def record(self) -> None:
        self.folder.write(self.grid, self.told)

    def close(self) -> None:
        """Compare what is finished, and write the tables.

        Raises:
            FusionkitError: cells failed, or cannot be compared.
        """
        failed = [cell for cell in self.grid.cells if cell.fingerprint not in self.runs]
        cells = [(cell, self.runs[cell.fingerprint]) for cell in self.grid.cells if cell.fingerprint in self.runs]
        if cells:
            names = {cell.name for cell, _ in cells}
            found = ablation(cells, self.grid.reference if self.grid.reference in names else None)
            notes = [*found.notes, *self.grid.notes, *self._mixed()]
            notes += [f"Failed, and not in the table: {cell.title}." for cell in failed]
            write_ablation(self.folder.path, replace(found, notes=tuple(notes)))
        if failed:
            first = failed[0]
            raise FusionkitError(
                f"{len(failed)} of {len(self.grid.cells)} cells failed, the first: {first.title}: "
                f"{self.told[first.fingerprint]['reason']}; start the grid again to try them again"
            )

    def _mixed(self) -> list[str]:
        """A note where the results come from different code, which the commit need not tell."""
        made: dict[str, list[Cell]] = {}
        for cell in self.grid.cells:
            if cell.fingerprint in self.runs:
                made.setdefault(str(self.told[cell.fingerprint]["code"]), []).append(cell)
        if len(made) == 1:
            return []
        told = "; ".join(f"{code}: {', '.join(cell.title for cell in cells)}" for code, cells in made.items())
        return [f"Cells were run with different code (hashes of its files) - {told}."]


def _cost(outcome: Outcome | None) -> dict[str, Any]:
    return {} if outcome is None else {"attempts": outcome.attempts, "seconds": round(outcome.seconds, 1)}
