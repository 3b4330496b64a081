"""Answers of a finished run for new samples, which its dataset reads from another place, and the table they make."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32

from fusionkit.assembly import blamed_on
from fusionkit.contract import Dataset, Index, Sample
from fusionkit.errors import BadSample, DataError, FusionkitError, RequestError, suggestion
from fusionkit.files import atomic
from fusionkit.flow import InputSpec
from fusionkit.loading import read_checked
from fusionkit.predictions import answer_columns, write_table
from fusionkit.processes import forks, in_processes
from fusionkit.progress import Progress
from fusionkit.recipe import Recipe, load_recipe
from fusionkit.repeat import differences
from fusionkit.saved import SavedRun
from fusionkit.survey import Bad

SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True)
class Answered:
    """What a run says of new samples.

    Args:
        ids: of the good samples `[n]`.
        answers: `[n, K]`, see `SavedRun.answers`.
        present: per modality of the run, whether each sample has it `[n]`.
        bad: samples that could not be answered, and parts of samples that were left out.
        total: how many samples there were.
    """

    ids: list[str]
    answers: Float32[np.ndarray, "n K"]
    present: dict[str, Bool[np.ndarray, " n"]]
    bad: list[Bad]
    total: int

    @property
    def lost(self) -> int:
        """How many samples have no answer."""
        return self.total - len(self.ids)


def predict(
    path: str | Path,
    output: Path,
    *,
    overrides: Sequence[str] = (),
    absent: Collection[str] = (),
    progress: Progress | None = None,
) -> Answered:
    """Answer every sample of a dataset, labelled or not, and write the answers beside a list of bad samples.

    Args:
        path: the folder of a finished run.
        output: a CSV, or Parquet, file. What is bad is listed in `<output without suffix>.bad.csv`.
        overrides: `data.key=value`, changes to where and how the run's dataset reads.
        absent: modalities that no sample has, whether the dataset offers them or not.
        progress: where to report; default: standard error.

    Raises:
        RequestError: it is no finished run, or the data are not as those that it was trained with.
        FusionkitError: none of the samples is good, or more are bad than `data.max_bad` allows.
    """
    if output.suffix not in SUFFIXES:
        raise RequestError(f"{output}: predictions are written as {' or '.join(SUFFIXES)}")
    if not output.parent.is_dir():
        raise RequestError(f"{output.parent} is no folder, so no predictions can be written there")
    if output.resolve().is_relative_to(Path(path).resolve()):
        raise RequestError(f"{output}: what a run has left stays as it is; write predictions outside its folder")
    progress = progress or Progress()
    saved = SavedRun.load(path)
    for note in differences(path):
        progress.line(f"note: {note}")
    recipe = load_recipe(saved.run.path / "resolved.yaml", _of_data(overrides))
    with blamed_on(recipe):
        dataset: Dataset = recipe.dataset.build()
        inputs = _inputs(saved, recipe, dataset, absent)
        bar, move = progress.counter("listing the data")
        with bar:
            index = dataset.index(move)
        _hold_classes(saved, recipe, index)
    for name in saved.inputs.keys() - inputs.keys():
        progress.line(f"note: {name} is absent in all samples; in training it was {saved.absences[name]}")
    found = _answer(saved, recipe, dataset, index, inputs, progress)
    listed = output.with_suffix(".bad.csv")
    _list_bad(listed, found.bad)
    _hold_good(found, recipe.data.max_bad, listed)
    _tell_absent(saved, found, inputs, progress)
    write_table(output, _table(saved, found))
    bad = f", {found.lost} bad" if found.lost else ""
    told = f" (see {listed})" if found.bad else ""
    progress.line(f"{len(found.ids):,} samples answered{bad}{told}")
    return found


def _of_data(overrides: Sequence[str]) -> Sequence[str]:
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key != "data" and not key.startswith("data."):
            raise RequestError(f"{override}: a finished run answers as it was trained; only data.* can be changed")
    return overrides


def _inputs(saved: SavedRun, recipe: Recipe, dataset: Dataset, absent: Collection[str]) -> dict[str, InputSpec]:
    """The modalities that are there, as the run knows them.

    Raises:
        RequestError: a shape does not fit, or a modality is missing that the run needs.
    """
    offered = dataset.inputs()
    for name in absent:
        if name not in saved.inputs:
            raise RequestError(f"{saved.run.path} reads no modality {name!r}{suggestion(name, saved.inputs)}")
    inputs = {}
    for name, spec in saved.inputs.items():
        if name not in offered or name in absent:
            where = "is said to be absent" if name in absent else f"is not offered by {recipe.dataset.name}"
            _hold_absent(saved, name, where)
            continue
        there = offered[name].shape
        if spec.text and offered[name].text:
            inputs[name] = spec
            continue
        alike = there == spec.shape or (spec.ragged and there[1:] == spec.shape[1:])
        if not alike or offered[name].text != spec.text:
            raise RequestError(f"{name} is {offered[name]} here; {saved.run.path} was trained with {spec}")
        inputs[name] = spec
    if not inputs:
        raise RequestError("no modality is left to answer from")
    return inputs


def _hold_absent(saved: SavedRun, name: str, where: str) -> None:
    """Refuse to do without a modality that the run has always had."""
    if name not in saved.absences:
        raise RequestError(
            f"{name} {where}, and {saved.run.path} was never trained without it; "
            "train with `augment: [modality_dropout]` where it may be missing"
        )


def _hold_classes(saved: SavedRun, recipe: Recipe, index: Index) -> None:
    """Refuse samples that are not unique, or labelled as something else than what the run predicts."""
    if len(set(map(str, index.ids))) != len(index):
        raise DataError("the ids of the samples are not unique")
    if len(index) == 0:
        raise DataError("there are no samples")
    names, known = list(map(str, index.class_names)), saved.task.class_names
    if recipe.data.class_names and len(names) <= len(known):  # those of the recipe stand for those in the data
        return
    if strange := [name for name in names if name not in known]:
        raise DataError(f"the data tell of {', '.join(strange[:12])}; {saved.run.path} predicts {', '.join(known)}")


@dataclass(frozen=True)
class _Chunk:
    """Some samples as read: those that are good, and what is wrong with the others by their positions."""

    positions: list[int]
    samples: list[Sample]
    bad: list[tuple[int, BadSample]]


class _Reader:
    """Reads all samples of a dataset in chunks."""

    def __init__(self, dataset: Dataset, inputs: dict[str, InputSpec], total: int, size: int, timeout: float):
        self.dataset, self.inputs, self.total, self.size, self.timeout = dataset, inputs, total, size, timeout

    def __len__(self) -> int:
        return -(-self.total // self.size)

    def __call__(self, number: int, lost: Mapping[int, str], begins: Callable[[int], None]) -> _Chunk:
        chunk = _Chunk([], [], [])
        for position in range(number * self.size, min((number + 1) * self.size, self.total)):
            try:
                if position in lost:
                    raise BadSample(lost[position])
                begins(position)
                sample = read_checked(self.dataset, position, self.inputs, self.timeout)
                if all(value is None for value in sample.values()):
                    raise BadSample("no modality is present")
            except BadSample as bad:
                chunk.bad.append((position, bad))
                continue
            chunk.positions.append(position)
            chunk.samples.append(sample)
        return chunk


def _answer(
    saved: SavedRun, recipe: Recipe, dataset: Dataset, index: Index, inputs: dict[str, InputSpec], progress: Progress
) -> Answered:
    ids = list(map(str, index.ids))
    data = recipe.data
    reader = _Reader(dataset, inputs, len(ids), data.batch_size, data.timeout)
    chunks: Iterable[_Chunk]
    if data.num_workers or forks():  # a process that dies or hangs then costs no more than the sample it was at
        chunks = in_processes(reader, len(reader), max(1, data.num_workers), data.timeout)
    else:
        chunks = (reader(number, {}, lambda _: None) for number in range(len(reader)))
    # What was found while listing may be a part of a sample (a line of a file), which is then still answered.
    bad = [Bad(id, "", found.path, found.line, found.reason) for id, found in index.bad]
    unlisted = {id for id, _ in index.bad} - set(ids)
    told: list[tuple[list[str], np.ndarray, dict[str, np.ndarray]]] = []
    for chunk in progress.track(chunks, "answering", len(reader)):
        bad += [Bad(ids[position], "", found.path, found.line, found.reason) for position, found in chunk.bad]
        if not chunk.samples:
            continue
        batch = saved.batch(chunk.samples)
        answers = saved.answers(batch)
        sound = np.isfinite(answers).all(1)
        bad += [
            Bad(ids[position], "", "", None, "the answer is no finite number")
            for position in np.array(chunk.positions)[~sound].tolist()
        ]
        present = {name: there.numpy()[sound] for name, there in batch.present.items()}
        told.append(
            ([ids[position] for position in np.array(chunk.positions)[sound].tolist()], answers[sound], present)
        )
    total = len(ids) + len(unlisted)
    if not told:
        return Answered([], np.zeros((0, saved.task.outputs), np.float32), {}, bad, total)
    return Answered(
        [id for held, _, _ in told for id in held],
        np.concatenate([answers for _, answers, _ in told]),
        {name: np.concatenate([present[name] for _, _, present in told]) for name in saved.inputs},
        bad,
        total,
    )


def _hold_good(found: Answered, max_bad: float, listed: Path) -> None:
    """Refuse to go on where too many samples are bad, as in training."""
    if not found.ids:
        raise FusionkitError(f"none of {found.total} samples could be answered; {listed} says why")
    if found.lost > max_bad * found.total:
        raise FusionkitError(
            f"{found.lost} of {found.total} samples ({found.lost / found.total:.1%}) are bad, more than data.max_bad "
            f"({max_bad:.1%}) allows; {listed} lists them; mend them or raise data.max_bad"
        )


def _tell_absent(saved: SavedRun, found: Answered, inputs: dict[str, InputSpec], progress: Progress) -> None:
    """Say which modalities samples lack that are offered; refuse where all lack one that the run never lacked."""
    for name in inputs:
        lacking = int((~found.present[name]).sum())
        if lacking == len(found.ids):
            _hold_absent(saved, name, "is absent in all samples")
        if lacking:
            known = saved.absences.get(name, "never absent")
            progress.line(
                f"note: {name} is absent in {lacking:,} of {len(found.ids):,} samples; in training it was {known}"
            )


def _table(saved: SavedRun, found: Answered) -> pd.DataFrame:
    """A row a sample: id, `absent` where any modality is, and the columns of a run's predictions."""
    columns: dict[str, object] = {"id": found.ids}
    if not all(there.all() for there in found.present.values()):
        rows = zip(*found.present.values(), strict=True)
        columns["absent"] = [
            " ".join(name for name, there in zip(found.present, row, strict=True) if not there) for row in rows
        ]
    return pd.DataFrame(columns | answer_columns(saved.task.kind, found.answers, saved.task.class_names))


def _list_bad(path: Path, bad: Sequence[Bad]) -> None:
    """Write the list; where nothing is bad, that of an earlier prediction goes."""
    if not bad:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "path", "line", "reason"])
    writer.writerows([item.id, item.path, item.line, item.reason] for item in bad)
    with atomic(path) as file:
        file.write(text.getvalue().encode("utf-8"))
