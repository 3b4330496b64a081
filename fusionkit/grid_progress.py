"""Tells how a grid goes on: a live table on a terminal, a line a cell elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import mean

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fusionkit.grid_folder import GridFolder
from fusionkit.grid_work import Outcome
from fusionkit.grids import Cell, Grid, by_variant
from fusionkit.headlines import LABELS, primary
from fusionkit.progress import Progress
from fusionkit.result import figure_text
from fusionkit.runs import Run

_MARKS = {"finished": ("●", "green"), "failed": ("x", "red"), "running": ("◐", "yellow"), "waiting": ("·", "dim")}


class GridProgress:
    """What a grid reports to while it runs.

    Args:
        grid, folder: what runs, and where.
        slots: how many cells run at a time.
        progress: where lines go.
    """

    def __init__(self, grid: Grid, folder: GridFolder, slots: int, progress: Progress):
        self.grid, self.folder, self.slots, self.progress = grid, folder, slots, progress
        self.values: dict[str, float | None] = {}
        self.failed: set[str] = set()
        self.waiting: dict[str, Cell] = {}
        self.took: list[float] = []
        self.old_logs: dict[str, int | None] = {}

    @contextmanager
    def shown(self, waiting: Sequence[Cell]) -> Iterator[None]:
        """Show the table, on a terminal, while the block lasts; `waiting` are the cells that are to be run."""
        self.waiting = {cell.fingerprint: cell for cell in waiting}
        self.old_logs = {cell.fingerprint: self._log_time(cell) for cell in waiting}
        console = self.progress.console
        if not console.is_terminal or console.quiet:
            yield
            return
        with Live(get_renderable=self.table, console=console, refresh_per_second=2):
            yield

    def finished(self, cell: Cell, run: Run) -> None:
        """A cell has a result, new or old."""
        found = run.result.metrics.get(primary(run.result.task))
        self.values[cell.fingerprint] = found.value if found else None

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        """A cell has run to its end, or failed; to be told after `finished`."""
        self.waiting.pop(cell.fingerprint, None)
        self.took.append(outcome.seconds)
        if outcome.reason:
            self.failed.add(cell.fingerprint)
            tries = f" after {outcome.attempts} attempts" if outcome.attempts > 1 else ""
            told = f"FAILED{tries}: {outcome.reason}; see {self.folder.log(cell)}"
        else:
            figure = primary(cell.recipe["task"])
            told = f"{LABELS[figure]} {figure_text(self.values[cell.fingerprint], figure)} in {span(outcome.seconds)}"
        done = len(self.values) + len(self.failed)
        self.progress.line(f"{done}/{len(self.grid.cells)}  {cell.title}:  {told}{self._left('; ')}")

    def table(self) -> RenderableType:
        """A row a variant: a mark a seed, and the mean of the headline figure so far."""
        figure = primary(self.grid.cells[0].recipe["task"])
        shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for head in ("variant", "seeds", LABELS[figure]):
            shown.add_column(head)
        for name, cells in by_variant(self.grid.cells).items():
            marks = Text()
            for cell in cells:
                marks.append(*_MARKS[self.state(cell)])
            values = [value for cell in cells if (value := self.values.get(cell.fingerprint)) is not None]
            shown.add_row(Text(name), marks, figure_text(mean(values), figure) if values else "")
        done = len(self.values)
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return Group(shown, Text(f"{done} of {len(self.grid.cells)} cells{failed}{self._left(', ')}"))

    def state(self, cell: Cell) -> str:
        """Whether a cell is finished, failed, running or waiting."""
        if cell.fingerprint in self.values:
            return "finished"
        if cell.fingerprint in self.failed:
            return "failed"
        # its process may be on another machine, by another clock, but its log is here
        written = self._log_time(cell)
        return "running" if written is not None and written != self.old_logs.get(cell.fingerprint) else "waiting"

    def _log_time(self, cell: Cell) -> int | None:
        try:
            return self.folder.log(cell).stat().st_mtime_ns
        except OSError:
            return None

    def _left(self, before: str) -> str:
        """How long it may still take, by the cells so far."""
        if not self.took or not self.waiting:
            return ""
        return f"{before}about {span(mean(self.took) * math.ceil(len(self.waiting) / self.slots))} left"


def span(seconds: float) -> str:
    """A time in words: `31 s`, `4 min`, `1 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
