"""Errors that are the user's to mend: told in one or two lines, without a traceback."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class FusionkitError(Exception):
    """The work failed for a reason that the user can act on (exit code 1)."""

    exit_code = 1


class RequestError(FusionkitError):
    """The request itself was wrong (exit code 2)."""

    exit_code = 2


class PluginFault(FusionkitError):  # noqa: N818 - it is a finding about a plugin
    """A component does what its base class rules out, which its own author has to mend.

    Args:
        component: which one, and whose: `"metric 'brier' of acme"`.
        message: what it does wrong.
        error: what it raised; its traceback is told too.
    """

    def __init__(self, component: str, message: str, error: BaseException | None = None):
        trace = "\n" + "".join(traceback.format_exception(error)).rstrip() if error else ""
        super().__init__(f"{component} {message}; mend the plugin, or leave it out{trace}")


class DataError(RequestError):
    """Data that is missing or not in the form that the recipe says.

    Args:
        message: what is wrong and what to do.
        path: the file or folder concerned.
        option: the dataset option to blame as a path of keys, for example `("inputs", "text")`,
            so that the recipe's line can be named.
    """

    def __init__(self, message: str, path: object = None, *, option: Sequence[str | int] = ()):
        self.message, self.path, self.option = message, path, tuple(option)
        super().__init__(f"{path}: {message}" if path is not None else message)


class ShapeError(RequestError):
    """Shapes that cannot work together; raised by encoders and fusions when they are built or run."""

    def __init__(self, message: str, *, modality: str | None = None):
        self.modality = modality
        super().__init__(message)


class BadSample(Exception):  # noqa: N818 - it is a finding about data, not a failure
    """One sample that cannot be used. Raised by `Dataset.read`; the sample is quarantined, counted and listed.

    Args:
        reason: what is wrong, for example `"image is truncated"`.
        path: the file concerned.
        line: the line in that file, where there is one.
    """

    def __init__(self, reason: str, path: object = "", *, line: int | None = None):
        self.reason, self.path, self.line = reason, str(path), line
        super().__init__(f"{path}: {reason}" if path else reason)


@dataclass(frozen=True, order=True)
class Position:
    """A place in a recipe, or the override that put a value there."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a recipe: where, under which key, what, and what to do; `first` where others follow from
    it."""

    position: Position
    key: str
    message: str
    first: bool = False

    def __str__(self) -> str:
        return f"{self.position}: {self.key + ': ' if self.key else ''}{self.message}"


class RecipeError(RequestError):
    """Every problem of a recipe at once."""

    def __init__(self, problems: Iterable[Problem]):
        unique = dict.fromkeys(problems)
        self.problems = sorted(unique, key=lambda problem: (not problem.first, problem.position))
        super().__init__("\n".join(map(str, self.problems)))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """What `word` may be a misspelling of."""
    near = difflib.get_close_matches(word, sorted(set(known)), n=1, cutoff=0.6)
    return near[0] if near else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the nearest of `known`, else `"; choose from ..."`."""
    names = sorted(set(known))
    if near := nearest(word, names):
        return f"; did you mean {near!r}?"
    return f"; choose from {', '.join(names)}" if names else ""
