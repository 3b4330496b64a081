"""A finished run whose model teaches another: rebuilt from its folder, frozen, in evaluation mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fusionkit.errors import FusionkitError, RequestError, suggestion
from fusionkit.flow import InputSpec, Output, Task
from fusionkit.model import FusionModel, meta_batch
from fusionkit.recipe import Recipe
from fusionkit.runs import Run
from fusionkit.saved import SavedRun
from fusionkit.terms import make_loss
from fusionkit.yamlfile import KeyPath


@dataclass(frozen=True)
class Teacher:
    """The model of a finished run.

    Args:
        saved: the run.
        place: the keys under which the recipe of its pupil names it.
    """

    saved: SavedRun
    place: KeyPath = ()

    @classmethod
    def load(cls, path: str, offered: Mapping[str, InputSpec], task: Task, place: KeyPath = ()) -> Teacher:
        """Open the folder of a run.

        Args:
            path: the folder.
            offered: the modalities of the dataset at hand.
            task: what is to be predicted.
            place: the keys under which a recipe names it.

        Raises:
            RequestError: it is no finished run, or one of another task, or reads what the dataset does not have.
        """
        result = Run.load(path).result
        if result.task != task.kind or result.classes != task.class_names:
            raise RequestError(
                f"{path} predicts {', '.join(result.classes)} ({result.task}), "
                f"not {', '.join(task.class_names)} ({task.kind})"
            )
        for name in result.modalities:
            if name in offered and offered[name].text:
                raise RequestError(f"{path} reads {name} in tokens that it has learned itself; it cannot teach others")
            if name not in offered:
                raise RequestError(f"{path} reads {name}, which the dataset does not have{suggestion(name, offered)}")
        return cls(SavedRun.open(path, offered), place)

    @property
    def inputs(self) -> dict[str, InputSpec]:
        """The shapes of its modalities, as the dataset at hand has them."""
        return self.saved.inputs

    def output(self) -> Output:
        """What the model says, on the meta device."""
        model, _, _ = self.saved.plan.prove()
        with torch.device("meta"):
            output: Output = model(meta_batch(self.inputs))
        return output

    def model(self, fold: str | None) -> FusionModel:
        """As `SavedRun.model`."""
        return self.saved.model(fold)

    def hold_unseen(self, ids: Sequence[str], fold: str | None) -> None:
        """Refuse a teacher that may have learned from what is to be test: what it knows would reach the pupil.

        Raises:
            RequestError: not all of these samples were test samples of the run.
        """
        told = self.saved.run.predictions
        folds = [None] * len(told) if told.fold is None else told.fold.tolist()
        tested = {id for id, of in zip(told.ids, folds, strict=True) if of == fold}
        seen = [id for id in ids if id not in tested]
        if seen:
            where = "" if fold is None else f" of fold {fold}"
            raise RequestError(
                f"{len(seen)} of {len(ids)} test samples{where}, such as {seen[0]}, were no test samples of "
                f"{self.saved.run.path}, which may have learned from them; teach with a run of the same split"
            )


def load_teachers(recipe: Recipe, offered: Mapping[str, InputSpec], task: Task) -> dict[str, Teacher]:
    """The teachers that the terms of a recipe name, by their path as it stands there.

    Raises:
        RecipeError: one of them cannot be used; its line is named.
    """
    teachers: dict[str, Teacher] = {}
    for term in recipe.losses:
        path = make_loss(recipe, term, task).teacher
        if path is None or path in teachers:
            continue
        place = (*term.loss.path, "teacher")
        try:
            teachers[path] = Teacher.load(str(Path(path).expanduser()), offered, task, place)
        except FusionkitError as error:
            raise recipe.error(place, str(error)) from error
    return teachers
