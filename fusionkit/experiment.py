"""Runs a recipe from data to report: the fused model and its baselines, fold by fold, and the run folder they leave."""

from __future__ import annotations

import atexit
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric

from fusionkit.assembly import blamed_on, blueprint, make_augmentation, make_task, prove_training
from fusionkit.contract import Augmentation, Mixing
from fusionkit.errors import RecipeError, RequestError
from fusionkit.evaluation import evaluate, in_order
from fusionkit.extra_metrics import make_metrics
from fusionkit.finish import finish
from fusionkit.flow import Output
from fusionkit.hooks import callbacks_of, packages_of_sections
from fusionkit.loading import Samples
from fusionkit.logs import MetricsFile, TensorBoard
from fusionkit.opened import Opened, open_data
from fusionkit.progress import Progress
from fusionkit.provenance import provenance
from fusionkit.recipe import Recipe, load_recipe
from fusionkit.registry import load_registry
from fusionkit.repeat import blamed_on_versions, differences, folder_of, plugins_used
from fusionkit.result import EARLY_STACK
from fusionkit.runs import Run, RunFolder
from fusionkit.terms import fit_losses, fit_losses_of_baseline, left_out
from fusionkit.text import file_of
from fusionkit.trainer import PRECISION, Fit, fit
from fusionkit.variants import Variant, variants


@dataclass
class Answer:
    """What one trained model says of its test samples, and how it came about.

    Args:
        index: positions of the samples.
        answers: `[n, K]`, see `Kind.answer`.
        history: a row of figures an epoch.
        best_epoch: the one chosen by validation.
        seconds: spent in training.
        seen: training samples seen.
        warnings: `Fit.warnings`.
    """

    index: np.ndarray
    answers: np.ndarray
    history: list[dict[str, float]]
    best_epoch: int
    seconds: float
    seen: int
    warnings: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        told = {name: getattr(self, name) for name in ("history", "best_epoch", "seconds", "seen", "warnings")}
        part = path.with_suffix(".part.npz")
        np.savez(part, index=self.index, answers=self.answers, told=np.array(json.dumps(told)))
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Answer:
        with np.load(path, allow_pickle=False) as held:
            return cls(held["index"], held["answers"], **json.loads(str(held["told"])))


def run(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    *,
    overrides: Sequence[str] = (),
    runs: str | Path = "runs",
    name: str | None = None,
    resume: str | Path | None = None,
    progress: Progress | None = None,
) -> Run:
    """Train and validate a recipe's model and its baselines, test each once, and write the run folder.

    Args:
        recipe: a file, the same as plain data, or a loaded recipe.
        overrides: `key=value`, as on the command line.
        runs: where the run folder is made.
        name: starts the folder's name; default: the recipe's.
        resume: the folder of an unfinished run of the same recipe, to go on with.
        progress: where to report; default: standard error.

    Raises:
        RecipeError: the recipe, or the data it names, are not right. No folder is made.
        FusionkitError: the work failed.
    """
    recipe = recipe if isinstance(recipe, Recipe) else _load(recipe, overrides, resume)
    fabric = make_fabric(recipe)
    progress = progress or Progress(quiet=not fabric.is_global_zero)
    opened = open_data(recipe, progress)
    with blamed_on(recipe):
        task = make_task(recipe, opened.class_names, opened.index, opened.partitions[0].train)
        planned, notes = variants(recipe, opened.inputs, task)
        plan = blueprint(recipe, opened.inputs, task)
        prove_training(recipe, plan.inputs, task, plan.prove()[0])
        _hold_teachers(recipe, opened)
        fit_losses(recipe, plan, _taught(opened))
        for variant in planned[1:]:
            alone = variant.blueprint(recipe, opened.inputs, task)
            fit_losses_of_baseline(recipe, alone, _taught(opened))
            lacking = left_out(recipe, alone, _taught(opened))
            notes += [f"the baseline {variant.name} is trained {term}" for term in lacking]
    notes += _other_versions(recipe, opened, resume)
    for warning in recipe.warnings:
        progress.line(f"warning: {warning}")
    for note in notes:
        progress.line(f"note: {note}")
    provided = callbacks_of(recipe)
    folder = _folder(recipe, fabric, Path(runs), name, resume)
    others = [*packages_of_sections(), *(callback.plugin.owner for callback in provided)]
    others += [load_registry().get("fusion", v.name).plugin.owner for v in planned if v.name == EARLY_STACK]
    told = provenance(recipe, opened, fabric, plugins_used(recipe, others))
    begun = (folder.path / "provenance.json").is_file()  # nothing is trained before this file is there
    if begun and Run(folder.path).provenance.get("data_fingerprint") != told["data_fingerprint"]:
        raise RequestError(f"the data have changed since {resume} was begun; start a new run")
    if fabric.is_global_zero:
        folder.begin(recipe, told, opened.survey.bad)
        for partition, tokenizers in zip(opened.partitions, opened.tokenizers, strict=True):
            for modality, tokenizer in tokenizers.items():
                folder.write_text(file_of(modality, partition.fold), tokenizer.state())
    callbacks = [*([MetricsFile(folder), TensorBoard(folder)] if fabric.is_global_zero else []), *provided]
    # Baselines first: the last lines of a log then tell of the model itself.
    answers: dict[str, list[Answer]] = {}
    for variant in [*planned[1:], planned[0]]:
        answers[variant.name] = [
            _answer(recipe, opened, variant, number, folder, fabric, progress, callbacks)
            for number in range(len(opened.partitions))
        ]
    if fabric.is_global_zero:
        finish(folder, recipe, opened, planned, answers, notes, told, fabric, progress)
    fabric.barrier()
    return Run.load(folder.path)


def _load(recipe: str | Path | Mapping[str, Any], overrides: Sequence[str], resume: str | Path | None) -> Recipe:
    """Load a recipe; where it is wrong and was right for a run, other versions of packages may be why."""
    try:
        return load_recipe(recipe, overrides)
    except RecipeError as error:
        folder = resume or (None if isinstance(recipe, Mapping) else folder_of(recipe))
        if folder is None:
            raise
        raise blamed_on_versions(error, Path(folder)) from error


def _other_versions(recipe: Recipe, opened: Opened, resume: str | Path | None) -> list[str]:
    """Where a run is repeated or gone on with, and of its teachers: which packages have another version now."""
    folder = resume or folder_of(next(iter(recipe.sources), ""))
    lines = [] if folder is None else differences(folder)
    for path in opened.teachers:
        lines += differences(opened.teachers[path].saved.run.path, f"the teacher {path}")
    return lines


def _hold_teachers(recipe: Recipe, opened: Opened) -> None:
    """Refuse teachers that may have learned from test samples."""
    for teacher in opened.teachers.values():
        for partition in opened.partitions:
            ids = [str(opened.index.ids[position]) for position in partition.test.tolist()]
            try:
                teacher.hold_unseen(ids, partition.fold)
            except RequestError as error:
                raise recipe.error(teacher.place, str(error)) from error


def _taught(opened: Opened) -> dict[str, Output]:
    """What each teacher says, on the meta device."""
    return {name: teacher.output() for name, teacher in opened.teachers.items()}


def make_fabric(recipe: Recipe) -> Fabric:
    """Lightning Fabric as the recipe's `train` asks for it, launched.

    Raises:
        RecipeError: there is no such device, strategy or precision here.
    """
    settings = recipe.train
    try:
        fabric = Fabric(
            accelerator=settings.accelerator,
            devices=settings.devices,
            strategy=settings.strategy,
            num_nodes=settings.num_nodes,
            precision=PRECISION[settings.precision],
        )
        fabric.launch()
        if torch.distributed.is_initialized():
            atexit.register(_leave_the_group)
    except (RuntimeError, ValueError, TypeError) as error:
        key = "strategy" if "strategy" in str(error).lower() else "accelerator"
        raise recipe.error(("train", key), str(error).splitlines()[0]) from error
    return fabric


def _leave_the_group() -> None:
    """A process that ends while its group's threads still run is aborted; Lightning sees to NCCL's groups alone."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _folder(recipe: Recipe, fabric: Fabric, runs: Path, name: str | None, resume: str | Path | None) -> RunFolder:
    """A new run folder, the same for all processes; or the unfinished one that is to be resumed."""
    if resume is not None:
        folder = RunFolder(Path(resume))
        if not (folder.path / "resolved.yaml").is_file():
            raise RequestError(f"{resume} is no run folder")
        if (folder.path / "result.json").exists():
            raise RequestError(f"{resume} is finished; there is nothing to resume")
        if not folder.is_of(recipe):
            raise RequestError(f"{resume} is a run of another recipe; compare its resolved.yaml")
        return folder
    path = RunFolder.create(runs, name or recipe.name, recipe.fusion.name).path if fabric.is_global_zero else Path()
    return RunFolder(fabric.broadcast(path))


def _answer(
    recipe: Recipe,
    opened: Opened,
    variant: Variant,
    number: int,
    folder: RunFolder,
    fabric: Fabric,
    progress: Progress,
    callbacks: Sequence[Any],
) -> Answer:
    """Train one variant on one partition and let its best epoch answer the test samples, once."""
    partition = opened.partitions[number]
    label = variant.name if partition.fold is None else f"{variant.name}-fold{partition.fold}"
    if not variant.is_main:
        label = f"baseline-{label}"
    checkpoints = folder.path / "checkpoints" / label
    finished = checkpoints / "answer.npz"
    if finished.is_file():
        return Answer.load(finished)
    inputs = {modality: opened.inputs[modality] for modality in variant.modalities}
    with blamed_on(recipe):
        task = make_task(recipe, opened.class_names, opened.index, partition.train)
        plan = variant.blueprint(recipe, inputs, task)
        model = plan.build(opened.survey.statistics[number])
    fitting = fit_losses if variant.is_main else fit_losses_of_baseline
    losses = fitting(recipe, plan, _taught(opened))
    own = {name: opened.inputs[name] for name in recipe.modalities}
    # What is mixed is mixed for teachers too; a sample's own augmentations are for the model that learns.
    read = {True: opened.inputs, False: own}
    made = [make_augmentation(chosen, read[issubclass(chosen.target, Mixing)], task) for chosen in recipe.augment]
    for teacher in opened.teachers.values():
        inputs |= teacher.inputs
    samples = Samples(
        opened.dataset,
        opened.index.targets,
        inputs,
        [augmentation for augmentation in made if isinstance(augmentation, Augmentation)],
        recipe.seed,
        task,
        opened.index.groups,
        opened.index.ids,
        recipe.data.timeout,
        opened.tokenizers[number],
        opened.index.raters,
    )
    job = Fit(
        name=label,
        model=model,
        losses=losses,
        samples=samples,
        train=partition.train,
        val=partition.val,
        ids=opened.index.ids,
        settings=recipe.train,
        batch_size=recipe.data.batch_size,
        workers=recipe.data.num_workers,
        seed=recipe.seed,
        folder=checkpoints,
        run_folder=folder.path,
        is_first=fabric.is_global_zero,
        fresh_fusion=plan.fresh_fusion,
        mixings=[mixing for mixing in made if isinstance(mixing, Mixing)],
        teachers={name: teacher.model(partition.fold) for name, teacher in opened.teachers.items()},
        metrics=make_metrics(recipe, task),
    )
    objective = fit(job, fabric, progress, callbacks)
    batches = in_order(samples, partition.test, fabric, recipe.data.batch_size, recipe.data.num_workers)
    found = evaluate(objective, batches, fabric, opened.index.targets, with_terms=False)
    answer = Answer(found.index, found.answers, job.history, job.best_epoch, job.seconds, job.seen, job.warnings)
    if fabric.is_global_zero:
        answer.save(finished)
    return answer
