"""TorchGeo's classes: found by name among those that the package exports, opened part by part, never downloaded."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from fusionkit.errors import BadSample, DataError, suggestion

WHOLE = ""
"""The only part of a dataset that has no split."""
_OURS = ("root", "split", "transforms", "loader", "is_valid_file", "download")
"""Arguments of constructors that are not the recipe's to give."""
_UNPICKLES = ("SKIPPD",)
_USUAL = {"train": ("train",), "val": ("val", "validation", "dev"), "test": ("test",)}
_SENTINEL_1 = ("VH", "VV")
_SENTINEL_2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
_UNTOLD: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
    "BigEarthNet": {
        "all": {"image": _SENTINEL_1 + _SENTINEL_2},
        "s1": {"image": _SENTINEL_1},
        "s2": {"image": _SENTINEL_2},
    },
    "BigEarthNetV2": {
        "all": {"image_s1": _SENTINEL_1, "image_s2": _SENTINEL_2},
        "s1": {"image": _SENTINEL_1},
        "s2": {"image": _SENTINEL_2},
    },
}
"""The bands of classes that stack one file a band and do not say which: in the order in which they sort the files."""


def package() -> ModuleType:
    """`torchgeo.datasets`, which takes seconds to import.

    Raises:
        DataError: it is not installed, or not whole.
    """
    try:
        return import_module("torchgeo.datasets")
    except ImportError as error:
        message = f"needs TorchGeo ({error}): pip install 'fusionkit-geo[torchgeo]'"
        raise DataError(message, option=("source",)) from error


def find(name: str) -> Any:
    """The class of this name.

    Raises:
        DataError: there is none, or none that has samples of its own.
    """
    module = package()
    exported = {each: getattr(module, each) for each in module.__all__ if inspect.isclass(getattr(module, each))}
    samples = {each for each, found in exported.items() if issubclass(found, module.NonGeoDataset) and _opens(found)}
    if name in _UNPICKLES:
        raise DataError(f"{name} is stored as pickles, which run what they hold; not read", option=("dataset",))
    if name in samples:
        return exported[name]
    if name in exported and issubclass(exported[name], module.GeoDataset):
        message = f"{name} is a GeoDataset, rasters without samples; read its files by `source: rasters`"
        raise DataError(message, option=("dataset",))
    raise DataError(f"TorchGeo has no dataset {name!r} with samples{suggestion(name, samples)}", option=("dataset",))


def _opens(found: type) -> bool:
    """Whether it is more than a base class, or a function in disguise."""
    base = inspect.isabstract(found) or found.__name__.startswith("NonGeo")
    kinds = {parameter.kind for parameter in inspect.signature(found).parameters.values()}
    return not base and inspect.Parameter.VAR_POSITIONAL not in kinds


def open_parts(found: Any, root: Path, splits: Mapping[str, str] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a dataset by their names in a recipe; the whole as `WHOLE` where the class knows no split.

    Args:
        found: the class.
        root: the folder of its data.
        splits: the class's name of each part; None: as it is usual, as far as the class has them.
        options: further arguments.

    Raises:
        DataError: the data are not there, or the class refuses an argument.
    """
    parameters = inspect.signature(found).parameters
    for name in options:
        known = [each for each in parameters if each not in _OURS]
        if name not in known:
            message = f"{found.__name__} has no option {name!r}{suggestion(name, known)}"
            raise DataError(message, option=("options", name))
    arguments = {"root": root, **options} | ({"download": False} if "download" in parameters else {})
    if "split" not in parameters:
        if splits:
            raise DataError(f"{found.__name__} has no parts", option=("splits",))
        whole = _opened(found, arguments)
        if whole is None:
            raise DataError(f"{found.__name__} refuses these options", option=("options",))
        return {WHOLE: whole}
    wanted = {part: (name,) for part, name in splits.items()} if splits else _USUAL
    parts = {}
    for part, names in wanted.items():
        tried = (_opened(found, arguments | {"split": name}) for name in names)
        opened = next((one for one in tried if one is not None), None)
        if opened is not None:
            parts[part] = opened
        elif splits or part == "train":
            refused = f"{found.__name__} has no part {names[0]!r}, or refuses `options`; name its parts in `splits`"
            raise DataError(refused, option=("splits", part) if splits else ())
    return parts


def _opened(found: Any, arguments: dict[str, Any]) -> Any:
    """One part; None where the class refuses its name, which it does by an assertion.

    Raises:
        DataError: anything else is wrong.
    """
    module, root = package(), arguments["root"]
    try:
        return found(**arguments)
    except AssertionError:
        return None
    except module.DatasetNotFoundError:
        part = f", {arguments['split']}" if "split" in arguments else ""
        raise DataError(f"holds no {found.__name__}{part}, or not all of it; {_remedy(found, root)}", root) from None
    except module.DependencyNotFoundError as error:
        raise DataError(" ".join(str(error).split()), option=("dataset",)) from None
    except Exception as error:  # what a class makes of files that are not as it expects
        told = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"TorchGeo cannot open {found.__name__}: {told}", root) from error


def _remedy(found: Any, root: Path) -> str:
    if "download" not in inspect.signature(found).parameters:
        return "TorchGeo cannot download it: see its documentation for the files that it needs"
    call = f"from torchgeo.datasets import {found.__name__} as D; D({str(root)!r}, download=True)"
    return f'download it once: python -c "{call}"'


def band_names(found: Any, key: str, options: Mapping[str, Any]) -> Sequence[str] | None:
    """The bands of one key of the samples, in their order; None where the class does not tell."""
    if found.__name__ in _UNTOLD:
        return _UNTOLD[found.__name__].get(str(options.get("bands", "all")), {}).get(key)
    parameter = inspect.signature(found).parameters.get("bands")
    told = options.get("bands", parameter.default if parameter else None)
    if not _are_words(told):
        told = getattr(found, "all_band_names", getattr(found, "all_bands", None))
    if isinstance(told, Mapping):  # by sensor
        told = told.get(key.removeprefix("image_"))
        return told if _are_words(told) else None
    return told if _are_words(told) and key == "image" else None


def _are_words(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


def class_names(found: Any, options: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Of an opened part, or of a class; None where neither tells."""
    names = getattr(found, "classes", None)
    if names is None and (sets := getattr(found, "class_sets", None)):
        default = inspect.signature(found if inspect.isclass(found) else type(found)).parameters["num_classes"].default
        names = sets.get(options.get("num_classes", default))
    names = getattr(found, "class_set", None) if names is None else names
    return tuple(names) if names is not None and _are_words(names) else None


def unfound(part: Any, root: Path, split: str) -> list[tuple[str, BadSample]]:
    """The files that the list of a split names and that are not there, which the package passes over."""
    lists = getattr(part, "split_filenames", None) or getattr(part, "split_urls", None)
    if not (isinstance(part, package().NonGeoClassificationDataset) and lists and split in lists):
        return []
    path = root / Path(lists[split]).name
    there = {Path(file).stem for file, _ in part.samples}
    return [
        (name, BadSample("is listed here, and there is no such file", path, line=line))
        for line, word in enumerate(path.read_text().splitlines(), 1)
        if (name := word.strip()) and Path(name).stem not in there
    ]
