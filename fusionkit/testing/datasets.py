"""What every dataset has to keep, rule by rule. Each check takes a `Dataset` and raises a `Fault`."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable

import numpy as np

from fusionkit.contract import Dataset, Sample
from fusionkit.errors import BadSample, DataError
from fusionkit.loading import read_checked
from fusionkit.testing.fault import Fault


def samples_are_as_promised(dataset: Dataset) -> None:
    """Every sample has the shapes of `inputs`, and numbers in them."""
    inputs, index = dataset.inputs(), dataset.index()
    if not len(index):
        raise Fault("samples_are_as_promised", "there is no sample")
    for position in range(len(index)):
        try:
            read_checked(dataset, position, inputs)
        except BadSample as bad:
            raise Fault("samples_are_as_promised", f"sample {index.ids[position]}: {bad}") from bad


def names_are_unique(dataset: Dataset) -> None:
    """No two samples have one id."""
    ids = list(dataset.index().ids)
    if repeated := sorted({name for name in ids if ids.count(name) > 1}):
        raise Fault("names_are_unique", f"more than one sample is named {', '.join(repeated[:4])}")


def reading_twice_gives_the_same(dataset: Dataset) -> None:
    """A sample does not depend on what was read before it."""
    count = len(dataset.index())
    forward = [_print(dataset.read(position)) for position in range(count)]
    backward = [_print(dataset.read(position)) for position in reversed(range(count))]
    if forward != backward[::-1]:
        raise Fault("reading_twice_gives_the_same", "a sample read again, in another order, is another")


def it_travels_to_workers(dataset: Dataset) -> None:
    """A copy in another process reads what the original reads."""
    dataset.index()
    first = _print(dataset.read(0))
    try:
        copied = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - its own copy
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise Fault("it_travels_to_workers", f"it cannot be copied to a loader process: {error}") from error
    if _print(copied.read(0)) != first and _print(dataset.read(0)) == first:
        raise Fault("it_travels_to_workers", "a copy in a loader process reads something else")


def test_is_kept_apart(dataset: Dataset) -> None:
    """No sample of the official test split stands in train or val too, and no windows share pixels."""
    index = dataset.index()
    if index.split is None:
        return
    test = np.flatnonzero(index.split == "test")
    rest = np.flatnonzero((index.split == "train") | (index.split == "val"))
    known = {_print(dataset.read(int(position))) for position in rest}
    if twins := [index.ids[p] for p in test.tolist() if _print(dataset.read(p)) in known]:
        raise Fault("test_is_kept_apart", f"{len(twins)} test samples stand in train or val too: {twins[0]}")
    if index.positions is not None and index.window is not None and len(test) and len(rest):
        apart = np.abs(index.positions[test][:, None] - index.positions[rest][None])
        if shared := int((apart < np.array(index.window)).all(2).any(1).sum()):
            raise Fault("test_is_kept_apart", f"{shared} test windows share pixels with windows of train or val")


test_is_kept_apart.__test__ = False  # type: ignore[attr-defined] # its name is no promise to pytest

CHECKS: tuple[Callable[[Dataset], None], ...] = (
    samples_are_as_promised,
    names_are_unique,
    reading_twice_gives_the_same,
    it_travels_to_workers,
    test_is_kept_apart,
)


def damage_is_told(dataset: Dataset) -> None:
    """What cannot be read is refused by name: a black image would train and be tested as if it were one."""
    try:
        dataset.inputs()
        index = dataset.index()
    except DataError:
        return
    if index.bad:
        return
    for position in range(len(index)):
        try:
            dataset.read(position)
        except (BadSample, DataError):
            return
        except Exception as error:
            raise Fault(
                "damage_is_told", f"a damaged sample raises {type(error).__name__}: {error}; raise BadSample"
            ) from error
    raise Fault("damage_is_told", "a damaged file is read as if it were whole; raise BadSample")


def _print(sample: Sample) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(sample.items()):
        array = None if value is None else np.ascontiguousarray(value)
        digest.update(f"{name} {None if array is None else (array.dtype.str, array.shape)}".encode())
        if array is not None:
            digest.update(array.tobytes())
    return digest.hexdigest()
