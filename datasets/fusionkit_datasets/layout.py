"""From an array's own order of axes to the one that encoders read: `[C, H, W]`, `[T, D]` or `[D]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusionkit_datasets.readers.common import by

SAMPLES = {1: "n", 2: "nd", 3: "ntd", 4: "nchw"}
"""Default letters of arrays of samples, by their number of axes."""
ONE_SAMPLE = {1: "d", 2: "td", 3: "chw"}
"""Default letters of an array that is one sample."""
SCENE = {2: "hw", 3: "hwc"}
"""Default letters of a scene."""

_NAMES = {"n": "samples", "c": "channels", "h": "rows", "w": "columns", "t": "steps", "d": "features"}


class LayoutError(ValueError):
    """Axes that do not say what they should; the caller knows the file."""


@dataclass(frozen=True)
class Layout:
    """How one sample, or a scene, is arranged. Every step is a view where `pick` holds no list.

    Args:
        shape: the outcome.
        pick: one index for each axis of the array; None where all is taken.
        order: transposition after that; None where it stays.
        insert: where an axis of length one is put in; None for nowhere.
        samples: positions along the axis of the samples that are taken; None for one sample or a scene.
        sample_axis: that axis.
    """

    shape: tuple[int, ...]
    pick: tuple[int | slice | list[int], ...] | None
    order: tuple[int, ...] | None
    insert: int | None
    samples: np.ndarray | None = None
    sample_axis: int = 0

    def arrange(self, array: np.ndarray) -> np.ndarray:
        """Bring an array (without its sample axis) to `shape`."""
        if self.pick is not None:
            array = array[self.pick]
        if self.order is not None:
            array = array.transpose(self.order)
        return array if self.insert is None else array.reshape(self.shape)


def lay_out(
    shape: Sequence[int],
    axes: str | None = None,
    axis: int | str | None = None,
    index: int | list[int] | str | None = None,
    *,
    default: dict[int, str],
) -> Layout:
    """Find the layout of an array.

    Args:
        shape: of the array; -1 for an axis of samples of unknown length.
        axes: a letter for each axis; None for the default.
        axis, index: what is taken of one axis.
        default: letters by number of axes.

    Raises:
        LayoutError: letters that do not fit the array or one another, or positions that are not there.
    """
    if axes is None:
        if len(shape) not in default:
            raise LayoutError(f"an array of {by(shape)} has no usual order of axes; say it with `axes`")
        axes = default[len(shape)]
    if len(axes) != len(shape):
        raise LayoutError(f"`axes: {axes}` names {len(axes)} axes, the array has {len(shape)} ({by(shape)})")
    if len(set(axes)) != len(axes):
        raise LayoutError(f"`axes: {axes}` has a letter twice")
    of_samples = any("n" in letters for letters in default.values())
    if ("n" in axes) != of_samples:
        raise LayoutError(f"`axes: {axes}` " + ("has no n, the axis of the samples" if of_samples else "has an n"))
    pick: list[int | slice | list[int]] = [slice(None)] * len(shape)
    if axis is not None and index is not None:
        number = _axis_number(axis, axes)
        pick[number] = _selection(index, shape[number], f"axis {axis}")
    samples, sample_axis = None, 0
    if of_samples:
        sample_axis = axes.index("n")
        chosen = pick.pop(sample_axis)
        if isinstance(chosen, int):
            raise LayoutError("`index` takes a single sample; give a list or a range")
        samples = np.arange(max(shape[sample_axis], 0))[chosen]
    sizes = [size for letter, size in zip(axes, shape, strict=True) if letter != "n"]
    left = [
        (letter, _length(chosen, size)) for letter, size, chosen in zip(axes.replace("n", ""), sizes, pick, strict=True)
    ]
    kept = [(letter, length) for letter, length in left if length is not None]
    order, insert = _order("".join(letter for letter, _ in kept))
    outcome = [kept[position][1] for position in order]
    if insert is not None:
        outcome.insert(insert, 1)
    return Layout(
        shape=tuple(outcome),
        pick=None if all(one == slice(None) for one in pick) else tuple(pick),
        order=None if order == tuple(range(len(order))) else order,
        insert=insert,
        samples=samples,
        sample_axis=sample_axis,
    )


def take(array: np.ndarray, axis: int | str | None, index: int | list[int] | str | None) -> np.ndarray:
    """What `index` takes of an array without letters; all of it for None.

    Raises:
        LayoutError: positions or an axis that are not there.
    """
    if axis is None or index is None:
        return array
    if not isinstance(axis, int) or not 0 <= axis < array.ndim:
        raise LayoutError(f"there is no axis {axis!r}; they are 0 to {array.ndim - 1}")
    return array[(slice(None),) * axis + (_selection(index, array.shape[axis], f"axis {axis}"),)]


def _order(letters: str) -> tuple[tuple[int, ...], int | None]:
    """The transposition of these letters, and where an axis of length one is missing."""
    present = set(letters)
    if present & {"h", "w"}:
        if not {"h", "w"} <= present <= {"c", "h", "w"}:
            raise LayoutError(_unclear(letters, "a map has rows and columns, and perhaps channels"))
        return tuple(letters.index(letter) for letter in "chw" if letter in present), None if "c" in present else 0
    if {"c", "d"} <= present:
        raise LayoutError(_unclear(letters, "c and d are the same here"))
    if "t" in present:
        return tuple(letters.index(letter) for letter in "tcd" if letter in present), None if len(present) == 2 else 1
    return tuple(range(len(letters))), None if letters else 0


def _unclear(letters: str, rule: str) -> str:
    names = ", ".join(_NAMES[letter] for letter in letters)
    return (
        f"a sample of {names} is neither map, sequence nor vector ({rule}); take one position with `axis` and `index`"
    )


def _axis_number(axis: int | str, axes: str) -> int:
    if isinstance(axis, str) and axis in axes:
        return axes.index(axis)
    if isinstance(axis, int) and 0 <= axis < len(axes):
        return axis
    raise LayoutError(f"there is no axis {axis!r}; the array has {axes} (0 to {len(axes) - 1})")


def _selection(index: int | list[int] | str, size: int, where: str) -> int | slice | list[int]:
    """What `index` takes of `size` positions; an even step becomes a slice, which copies nothing."""
    if isinstance(index, str):
        chosen = slice(*(int(part) if part else None for part in index.split(":")))
        ends = [end for end in (chosen.start, chosen.stop) if end is not None]
        if size >= 0 and (any(not -size <= end <= size for end in ends) or not range(size)[chosen]):
            raise LayoutError(f"{where} has {size} positions, of which {index} takes none or goes beyond")
        return chosen
    numbers = index if isinstance(index, list) else [index]
    if not numbers:
        raise LayoutError("`index` is empty")
    if size >= 0 and (wrong := [number for number in numbers if not -size <= number < size]):
        raise LayoutError(f"{where} has {size} positions (0 to {size - 1}), not {wrong[0]}")
    if isinstance(index, int):
        return index
    steps = set(np.diff(numbers).tolist())
    if min(numbers) >= 0 and len(steps) <= 1 and (step := steps.pop() if steps else 1) > 0:
        return slice(numbers[0], numbers[-1] + 1, step)
    return numbers


def _length(chosen: int | slice | list[int], size: int) -> int | None:
    """How many positions are taken; None where the axis is dropped."""
    if isinstance(chosen, int):
        return None
    return len(chosen) if isinstance(chosen, list) else len(range(size)[chosen])
