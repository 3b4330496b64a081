"""Tells how work goes on: a bar on a terminal, plain lines in a log. Everything goes to standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from fusionkit.headlines import LABELS

T = TypeVar("T")


class Progress:
    """What training and long reading report to.

    Args:
        console: default: standard error.
        quiet: say nothing, for processes other than the first.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False):
        self.console = console or Console(stderr=True, highlight=False, quiet=quiet)
        if quiet:
            self.console.quiet = True

    def line(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def track(self, items: Iterable[T], what: str, total: int) -> Iterator[T]:
        """Pass the items on, with a bar on a terminal."""
        if not self.console.is_terminal or self.console.quiet:
            yield from items
            return
        with self._bar() as bar:
            task = bar.add_task(what, total=total)
            for item in items:
                yield item
                bar.advance(task)

    def counter(self, what: str) -> tuple[RichProgress, Callable[[int, int], None]]:
        """A bar to be used as a context, and the function `(done, total)` that moves it."""
        bar = self._bar()
        task = bar.add_task(what, total=None)
        return bar, lambda done, total: bar.update(task, completed=done, total=total)

    def steps(self, what: str) -> tuple[RichProgress, Callable[..., None]]:
        """The same for work in one or more steps: the function is told `(done, total)`, or `(step, done, total)`.

        Each step has a bar of its own; a bar tells the rate and the time left.
        """
        bar = self._bar(_Rate())
        tasks: dict[str, TaskID] = {}

        def move(*told: Any) -> None:
            *step, done, total = told
            name = ": ".join([what, *step])
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total, completed=done)
            bar.update(tasks[name], completed=done, total=total)

        return bar, move

    def epoch(self, name: str, row: dict[str, Any], epochs: int, *, chosen: bool, figure: str = "oa") -> None:
        """One line an epoch; `figure` is the headline figure told."""
        losses = f"loss {row['train/loss']:.4f}  val loss {row['val/loss']:.4f}"
        figures = f"{losses}  val {LABELS[figure]} {row[f'val/{figure}']:.4f}"
        star = "  *" if chosen else ""
        self.line(f"{name}  epoch {row['epoch']:>3}/{epochs}  {figures}  {row['seconds']:.1f} s{star}")

    def _bar(self, *more: ProgressColumn) -> RichProgress:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *more, TimeRemainingColumn())
        hidden = not self.console.is_terminal or self.console.quiet
        return RichProgress(*columns, console=self.console, transient=True, disable=hidden)


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s", style="progress.data.speed")
