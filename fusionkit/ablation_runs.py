"""Runs that are to be compared: whether they may be, and each model's answers in the order of shared samples."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fusionkit.ablation_metrics import extra_figures
from fusionkit.errors import DataError, RequestError
from fusionkit.grid_folder import origin
from fusionkit.kinds import KINDS
from fusionkit.paired import merits, weighed
from fusionkit.predictions import Predictions, read_predictions
from fusionkit.result import Cost
from fusionkit.runs import Run

_NOT_CONTENT = ("num_workers", "timeout", "root", "batch_size")
"""Keys of `data` that do not say what is read. Where the data lie does not matter: their fingerprint does."""


@dataclass(frozen=True)
class Shared:
    """What all runs have in common.

    Args:
        first: the run that it was read from.
        task: the kind of task.
        ids, target, groups: of the test samples, as in `Predictions`, in the order of the ids.
    """

    first: Run
    task: str
    ids: Sequence[str]
    target: np.ndarray
    groups: np.ndarray | None


@dataclass(frozen=True)
class Answered:
    """One model's answers to the shared samples, as far as they are needed.

    Args:
        name: of the variant or baseline.
        seed: of the run.
        run: whose model it is.
        weigh: turns weights of the samples into figures.
        merits: `[n]`, as from `fusionkit.paired.merits`.
        confusion: counts; None of quantities and embeddings.
        cost: of the model.
        code: the version of the code that made the run.
        extra: figures of the metrics that its recipe names; None where undefined.
    """

    name: str
    seed: int
    run: Run
    weigh: Callable[[np.ndarray], np.ndarray]
    merits: np.ndarray
    confusion: np.ndarray | None
    cost: Cost
    code: str
    extra: Mapping[str, float | None] = field(default_factory=dict)


def checked(runs: Sequence[Run]) -> Shared:
    """The test samples of the first run, if all runs may be compared.

    Runs that read the same modalities by the same `data` section must have read the same content. Where a variant reads
    others, the test samples and their targets tell, which `answered` compares.

    Raises:
        RequestError: a run is unfinished, or of another task, other classes or other data.
        DataError: files of a run are broken.
    """
    first = runs[0]
    told = first.result
    content: dict[str, Run] = {}
    for run in runs:
        result = run.result
        for what in ("task", "split", "classes"):
            one, other = getattr(told, what), getattr(result, what)
            if one != other:
                pair = f"{first.path} and {run.path}"
                raise RequestError(f"{pair} cannot be compared: {what} {_short(one)} and {_short(other)}")
        same = content.setdefault(_reads(run), run)
        marks = [of.provenance.get("data_fingerprint") for of in (same, run)]
        if marks[0] != marks[1]:
            differ = f"their data differ (fingerprints {marks[0]} and {marks[1]})"
            raise RequestError(f"{same.path} and {run.path} cannot be compared: {differ}")
    found = _read(first, "predictions")
    if len(set(found.ids)) != len(found):
        raise DataError("two test samples have the same id, so answers cannot be paired", first.path)
    order = sorted(range(len(found)), key=lambda k: found.ids[k])  # resamples shall not depend on which run is first
    ids = [found.ids[k] for k in order]
    return Shared(first, told.task, ids, found.target[order], None if found.groups is None else found.groups[order])


def answered(name: str, seed: int, run: Run, shared: Shared, stem: str = "predictions") -> Answered:
    """Read one model's answers; of a baseline by the stem of its file, `baselines/NAME`.

    Raises:
        RequestError: it answered other samples.
        DataError: the file is broken.
    """
    found = _read(run, stem)
    kind = KINDS[shared.task]
    try:
        answers = found.of(shared.ids)
        same = found.task == shared.task and np.array_equal(_in_order(found, found.target, shared), shared.target)
        if same and shared.groups is not None and found.groups is not None:
            same = np.array_equal(_in_order(found, found.groups, shared), shared.groups)
    except ValueError:
        same = False
    if not same:
        raise RequestError(f"{shared.first.path} and {run.path} cannot be compared: they have different test samples")
    baseline = stem.partition("/")[2]
    told = run.result.baselines[baseline] if baseline else run.result
    return Answered(
        name,
        seed,
        run,
        weighed(shared.task, shared.target, answers),
        merits(shared.task, shared.target, answers),
        kind.counts(shared.target, answers),
        told.cost,
        code_version(run),
        extra_figures(told.metrics),
    )


def code_version(run: Run) -> str:
    """The commit of the code; where its files were changed with a `+` and, of a grid's runs, their hash. Outside a
    repository fusionkit's version."""
    git, files = run.provenance.get("git"), origin(run.path).code or ""
    if isinstance(git, dict) and git.get("commit"):
        return f"{git['commit'][:10]}+{files}" if git.get("changed") else str(git["commit"][:10])
    version = (run.provenance.get("packages") or {}).get("fusionkit-geo", "of unknown version")
    return f"fusionkit {version} {files}".rstrip()


def _read(run: Run, stem: str) -> Predictions:
    """Not kept: a grid may have hundreds."""
    path = run.path / f"{stem}.csv"
    found, _ = read_predictions(path if path.is_file() else path.with_suffix(".parquet"))
    if len(found) != run.result.n:
        raise DataError(f"{len(found)} predictions, but the result is of {run.result.n} samples", path)
    return found


def _in_order(found: Predictions, values: np.ndarray, shared: Shared) -> np.ndarray:
    place = {id: position for position, id in enumerate(found.ids)}
    return values[[place[id] for id in shared.ids]]


def _reads(run: Run) -> str:
    """What a run reads, as text: runs that agree in it have read the same, or their data differ."""
    data = {key: value for key, value in (run.resolved.get("data") or {}).items() if key not in _NOT_CONTENT}
    return json.dumps([data, sorted(run.result.modalities)], sort_keys=True, default=str)


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) < 60 else text[:57] + "..."
