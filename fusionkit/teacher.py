"""A finished run whose model teaches another: rebuilt from its folder, frozen, in evaluation mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fusionkit.assembly import blueprint
from fusionkit.errors import FusionkitError, RequestError, suggestion
from fusionkit.flow import InputSpec, Output, Task
from fusionkit.model import Blueprint, FusionModel, meta_batch
from fusionkit.recipe import Recipe, load_recipe
from fusionkit.runs import Run
from fusionkit.terms import make_loss
from fusionkit.yamlfile import KeyPath


@dataclass(frozen=True)
class Teacher:
    """The model of a finished run.

    Args:
        run: the run.
        recipe: its recipe.
        inputs: the shapes of its modalities, as the dataset at hand has them.
        task: what is to be predicted, by the teacher too.
        place: the keys under which the recipe of its pupil names it.
    """

    run: Run
    recipe: Recipe
    inputs: dict[str, InputSpec]
    task: Task
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
        run = Run.load(path)
        if run.result.task != task.kind or run.result.classes != task.class_names:
            raise RequestError(
                f"{path} predicts {', '.join(run.result.classes)} ({run.result.task}), "
                f"not {', '.join(task.class_names)} ({task.kind})"
            )
        recipe = load_recipe(run.resolved)
        for modality in recipe.modalities.values():
            options = modality.encoder.options
            if getattr(options, "pretrained", False):  # its weights come from the checkpoint
                modality.encoder.options = options.model_copy(update={"pretrained": False})
        for name in recipe.modalities:
            if name not in offered:
                raise RequestError(f"{path} reads {name}, which the dataset does not have{suggestion(name, offered)}")
        return cls(run, recipe, {name: offered[name] for name in recipe.modalities}, task, place)

    @property
    def plan(self) -> Blueprint:
        return blueprint(self.recipe, self.inputs, self.task)

    def output(self) -> Output:
        """What the model says, on the meta device."""
        model, _, _ = self.plan.prove()
        with torch.device("meta"):
            output: Output = model(meta_batch(self.inputs))
        return output

    def model(self, fold: str | None) -> FusionModel:
        """The model of one fold, or the only one, with the weights that answered the test samples of the run.

        Raises:
            FusionkitError: its weights are not there, or not of this model.
        """
        path = self.run.path / "checkpoints" / ("fusion" if fold is None else f"fusion-fold{fold}") / "best.ckpt"
        model = self.plan.restore()
        try:
            model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["model"])
        except (OSError, RuntimeError, KeyError) as error:
            raise FusionkitError(f"{path}: the weights cannot be loaded: {str(error).splitlines()[0]}") from error
        return model.eval().requires_grad_(False)

    def hold_unseen(self, ids: Sequence[str], fold: str | None) -> None:
        """Refuse a teacher that may have learned from what is to be test: what it knows would reach the pupil.

        Raises:
            RequestError: not all of these samples were test samples of the run.
        """
        told = self.run.predictions
        folds = [None] * len(told) if told.fold is None else told.fold.tolist()
        tested = {id for id, of in zip(told.ids, folds, strict=True) if of == fold}
        seen = [id for id in ids if id not in tested]
        if seen:
            where = "" if fold is None else f" of fold {fold}"
            raise RequestError(
                f"{len(seen)} of {len(ids)} test samples{where}, such as {seen[0]}, were no test samples of "
                f"{self.run.path}, which may have learned from them; teach with a run of the same split"
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
