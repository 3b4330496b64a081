"""`fusionkit check KIND:NAME`: the rules of `fusionkit.testing`, for components that are installed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import Parameter, signature
from typing import Any

import torch

from fusionkit.components import KINDS
from fusionkit.contract import Mixing
from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import InputSpec
from fusionkit.registry import load_registry
from fusionkit.testing import augmentations, encoders, fusions, losses, metrics, mixings
from fusionkit.testing.augmentations import AugmentationSubject
from fusionkit.testing.encoders import EncoderSubject
from fusionkit.testing.fault import Fault, hold
from fusionkit.testing.mixings import MixingSubject
from fusionkit.testing.subjects import ALIGNED, MIXED, subjects, told

CHECKED = ("fusion", "encoder", "loss", "augmentation", "metric")
SPECS = [*MIXED.values(), InputSpec((3, 64, 64)), InputSpec((7, 26, 24), counts=True)]
"""What encoders are tried with; those that they refuse are left out."""


def is_component(text: str) -> bool:
    """Whether an argument of `fusionkit check` names a component and no recipe."""
    kind, colon, _ = text.partition(":")
    return bool(colon) and kind in KINDS


@contextmanager
def _one_thread() -> Iterator[None]:
    """The tensors are so small that threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def check_components(text: str) -> tuple[list[tuple[str, str, str]], bool]:
    """Check one component, or all of its kind.

    Args:
        text: `KIND:NAME` or `KIND:all`.

    Returns:
        rows of name, what it passes with, and faults and refusals, one below the other; and whether all are right.

    Raises:
        RequestError: there is no such component, or none of its kind can be checked from here.
    """
    kind, _, name = text.partition(":")
    if kind not in CHECKED:
        raise RequestError(
            "a dataset is checked on a few samples of its own: inherit fusionkit.testing.DatasetSuite in a test"
            if kind == "dataset"
            else f"there are no rules for components of the kind {kind}; they are checked for {', '.join(CHECKED)}"
        )
    registry = load_registry()
    names = registry.names(kind) if name == "all" else [name]
    rows: list[tuple[str, str, str]] = []
    right = True
    for one in names:
        try:
            target = registry.resolve(kind, one)
            registry.options(kind, one)
        except RequestError as error:
            if name != "all":
                raise
            rows.append((one, "", f"FAULT {error}"))
            right = False
            continue
        needed = [p.name for p in signature(target.__init__).parameters.values() if _has_to_be_given(p)]
        if needed:
            if name != "all":
                raise RequestError(
                    f"{kind} {one!r} has no defaults for {', '.join(needed)}, and is checked with its defaults: "
                    f"inherit fusionkit.testing.{kind.capitalize()}Suite in a test and give `options`"
                )
            rows.append((one, "", f"not checked: it needs the options {', '.join(needed)}"))
            continue
        passed, faults, notes = _CHECKS[kind](target)
        right = right and not faults
        first, *more = [*(f"FAULT {fault}" for fault in faults), *notes] or [""]
        rows += [(one, passed, first), *(("", "", line) for line in more)]
    return rows, right


def _has_to_be_given(parameter: Parameter) -> bool:
    return parameter.kind is Parameter.KEYWORD_ONLY and parameter.default is Parameter.empty


Found = tuple[str, list[str], list[str]]
"""What a component passes with, its faults, and what it refuses."""


def _fusion(target: Any) -> Found:
    trial = subjects(target)
    faults = [*_faults([fusions.options_are_a_schema], target), *map(str, trial.faults)]
    whole = []
    for count, subject in trial.taken.items():
        found = _faults(fusions.CHECKS, subject, told(subject))
        faults += found
        whole += [] if found else [count]
    passed = f"{', '.join(map(str, whole))} {'modality' if whole == [1] else 'modalities'}" if whole else ""
    if on_a_grid := [count for count in whole if trial.taken[count].inputs.keys() <= ALIGNED.keys()]:
        passed += f" ({', '.join(map(str, on_a_grid))}: maps of one grid)"
    return passed, faults, [f"{count}: {reason}" for count, reason in trial.refused.items()]


def _encoder(target: Any) -> Found:
    passed, faults, refusals = [], [], []
    for spec in SPECS:
        try:
            subject = EncoderSubject.of(target, spec)
        except (ShapeError, RequestError) as error:
            refusals.append(str(error))
            continue
        found = _faults(encoders.CHECKS, subject, str(spec))
        faults += found
        passed += [] if found else [str(spec)]
    return ", ".join(passed), faults, [] if passed else refusals


def _by_task(rules: Any, target: Any) -> Found:
    """Of what is tried with each kind of task: a loss, a metric."""
    try:
        taken, refused = rules.subjects(target)
    except Fault as fault:
        return "", [str(fault)], []
    passed, faults = [], []
    for kind, subject in taken.items():
        found = _faults(rules.CHECKS, subject, kind)
        faults += found
        passed += [] if found else [kind]
    return ", ".join(passed), faults, [f"{kind}: {reason}" for kind, reason in refused.items()]


def _augmentation(target: Any) -> Found:
    checks: Iterable[Callable[[Any], None]]
    subject: AugmentationSubject | MixingSubject
    try:
        if issubclass(target, Mixing):
            checks, subject = mixings.CHECKS, MixingSubject.of(target)
        else:
            checks, subject = augmentations.CHECKS, AugmentationSubject.of(target)
    except RequestError as refusal:
        return "", [], [str(refusal)]
    faults = _faults(checks, subject)
    return "" if faults else ", ".join(subject.inputs), faults, []


_CHECKS: dict[str, Callable[[Any], Found]] = {
    "fusion": _fusion,
    "encoder": _encoder,
    "loss": partial(_by_task, losses),
    "metric": partial(_by_task, metrics),
    "augmentation": _augmentation,
}


def _faults(checks: Iterable[Callable[[Any], None]], subject: Any, told: str = "") -> list[str]:
    found = []
    for check in checks:
        try:
            hold(check, subject, told)
        except Fault as fault:
            found.append(str(fault))
    return found
