"""A finished run, rebuilt from its folder to answer new samples; the data that it learned from need not be there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32

from fusionkit.assembly import blueprint, declared_inputs, make_task
from fusionkit.contract import Augmentation, Sample, Tokenizer
from fusionkit.errors import FusionkitError, RecipeError, RequestError
from fusionkit.flow import Batch, InputSpec, Task
from fusionkit.kinds import KINDS
from fusionkit.loading import collate, tokenized
from fusionkit.model import Blueprint, FusionModel
from fusionkit.recipe import Recipe, load_recipe
from fusionkit.repeat import blamed_on_versions
from fusionkit.runs import Run
from fusionkit.text import restore_tokenizers
from fusionkit.trainer import PRECISION

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_UNREADABLE = (OSError, EOFError, RuntimeError, KeyError, TypeError, UnpicklingError)
"""What torch raises of files that are missing, cut short, no checkpoints, or those of another model."""


@dataclass(frozen=True)
class SavedRun:
    """A finished run, ready to answer new samples.

    Args:
        run: the run.
        recipe: its recipe.
        inputs: the shapes of its modalities, in the order of the recipe.
        task: what it predicts; what was known of the training targets is not told.
    """

    run: Run
    recipe: Recipe
    inputs: dict[str, InputSpec]
    task: Task

    @classmethod
    def load(cls, path: Path | str) -> SavedRun:
        """Open the folder of a run, and load its weights.

        Raises:
            RequestError: it is no finished run, or one that does not tell the shapes of its modalities.
            FusionkitError: its weights are not there, or not of this model.
        """
        saved = cls.open(path)
        _ = saved._models
        return saved

    @classmethod
    def open(cls, path: Path | str, inputs: Mapping[str, InputSpec] | None = None) -> SavedRun:
        """Open the folder of a run without its weights.

        Args:
            path: the folder.
            inputs: the shapes of its modalities and perhaps others; default: those that the run has left.

        Raises:
            RequestError: as `load`.
        """
        run = Run.load(path)
        result = run.result
        try:
            recipe = load_recipe(run.resolved)
        except RecipeError as error:
            raise blamed_on_versions(error, run.path) from error
        for modality in recipe.modalities.values():
            options = modality.encoder.options
            if getattr(options, "pretrained", False):  # its weights come from the checkpoint
                modality.encoder.options = options.model_copy(update={"pretrained": False})
        known = inputs or result.inputs or declared_inputs(recipe) or {}
        if lacking := [name for name in recipe.modalities if name not in known]:
            raise RequestError(
                f"{path} does not tell the shape of {', '.join(lacking)}: it was made by an earlier version; run its "
                "resolved.yaml again, or write modalities.NAME.shape into it"
            )
        shapes = {name: known[name] for name in recipe.modalities}
        return cls(run, recipe, shapes, make_task(recipe, result.classes))

    @property
    def folds(self) -> tuple[str | None, ...]:
        """The names of its folds; None alone where it has none."""
        return tuple(fold.fold for fold in self.run.result.folds) or (None,)

    @property
    def plan(self) -> Blueprint:
        return blueprint(self.recipe, self.inputs, self.task)

    @property
    def absences(self) -> dict[str, str]:
        """Why the model knows samples without a modality, for each modality of which it does."""
        lacked = {name: count for name, count in self.run.result.absent.items() if count}
        reasons = {name: f"absent in {count:,} training samples" for name, count in lacked.items()}
        for chosen in self.recipe.augment:
            if issubclass(chosen.target, Augmentation):
                made: Augmentation = chosen.build(self.inputs)
                reasons |= {name: f"left out in training by {chosen.name}" for name in sorted(made.makes_absent)}
        return reasons

    def model(self, fold: str | None) -> FusionModel:
        """The model of one fold, or the only one, with the weights that answered the test samples of the run.

        It is on the CPU, frozen, and in evaluation mode.

        Raises:
            FusionkitError: its weights are not there, or not of this model.
        """
        path = self.run.path / "checkpoints" / ("fusion" if fold is None else f"fusion-fold{fold}") / "best.ckpt"
        model = self.plan.restore()
        try:
            model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["model"])
        except _UNREADABLE as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            reason = lines[1] if "loading state_dict" in lines[0] and len(lines) > 1 else lines[0]
            raise FusionkitError(f"{path}: the weights cannot be loaded: {reason}") from error
        if self.task.kind == "regression":  # the scale of the training targets came with the weights
            mean, std = (tuple(held.tolist()) for held in (model.target_mean, model.target_std))
            model.task = replace(self.task, mean=mean, std=std)
        return model.eval().requires_grad_(False)

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """Samples as a batch; of a modality that a sample does not name, it has none. There are no targets."""
        made = [tokenized({name: sample.get(name) for name in self.inputs}, self._tokenizers) for sample in samples]
        values = {name: [sample[name] for sample in made] for name in self.inputs}
        stacked = {name: collate(values[name], spec) for name, spec in self.inputs.items()}
        return Batch(
            inputs={name: value for name, (value, _) in stacked.items()},
            present={name: torch.tensor([value is not None for value in values[name]]) for name in self.inputs},
            target=torch.zeros(len(samples), dtype=torch.int64),
            index=torch.arange(len(samples)),
            valid={name: valid for name, (_, valid) in stacked.items() if valid is not None},
        )

    def answers(self, batch: Batch) -> Float32[np.ndarray, "B K"]:
        """What the run says of a batch, in its precision, on a GPU where there is one.

        Returns:
            probabilities of the classes or labels, or quantities in their own unit: where the run has several folds,
            the mean over their models. An answer may be no finite number where inputs are beyond all bounds.
        """
        with torch.inference_mode():
            moved = self._fabric.to_device(batch)
            kind = KINDS[self.task.kind]
            told = [kind.answer(model.task, model(moved).logits) for model in self._models]
            mean: np.ndarray = torch.stack(told).mean(0).float().cpu().numpy()
        return mean

    @cached_property
    def _tokenizers(self) -> dict[str, Tokenizer]:
        """Per modality of text, what makes tokens of it.

        Raises:
            RequestError: the folds have learned different ones, so that there is no one batch for all.
        """
        if not any(spec.text for spec in self.inputs.values()):
            return {}
        each = [restore_tokenizers(self.recipe, self.run.path, fold) for fold in self.folds]
        for name, first in each[0].items():
            if any(other[name].state() != first.state() for other in each):
                raise RequestError(
                    f"the folds of {self.run.path} have each learned tokens of their own for {name}; "
                    "train once, without data.folds, to answer new samples"
                )
        return each[0]

    @cached_property
    def _fabric(self) -> Fabric:
        on_gpu = torch.cuda.is_available()
        precision = self.recipe.train.precision
        if precision == "16" and not on_gpu:  # CPUs compute with it slowly or not at all
            precision = "32"
        from lightning.fabric import Fabric  # slow to import, and not everyone who reads a run asks it

        return Fabric(accelerator="cuda" if on_gpu else "cpu", devices=1, precision=PRECISION[precision])

    @cached_property
    def _models(self) -> list[Any]:
        """The models of all folds, on the device."""
        return [self._fabric.setup_module(self.model(fold)) for fold in self.folds]
