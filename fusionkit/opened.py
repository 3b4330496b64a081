"""A recipe's data, opened: listed, divided, read through once and freed of what is bad."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fusionkit import raters
from fusionkit.assembly import (
    blamed_on,
    class_names,
    for_grounding,
    for_retrieval,
    hold_task,
    make_task,
    ranked,
    recipe_inputs,
    scaled,
)
from fusionkit.contract import Dataset, Index, Tokenizer
from fusionkit.errors import DataError
from fusionkit.flow import InputSpec
from fusionkit.progress import Progress
from fusionkit.recipe import Recipe
from fusionkit.splits import Partition, divide, named_groups
from fusionkit.survey import Survey, survey
from fusionkit.teacher import Teacher, load_teachers
from fusionkit.text import fit_tokenizers


@dataclass
class Opened:
    """Everything known of the data before training.

    Args:
        dataset, inputs, index: as the dataset gives them.
        class_names: to print, in the order of the classes.
        partitions: one, or one a fold; without bad samples.
        groups: one value a sample where the recipe keeps samples together by a column, or where the dataset says that
            some show the same thing; None elsewhere. Intervals resample them.
        survey: what one reading of all samples found.
        teachers: the runs that a term of the loss names; `inputs` holds their modalities too.
        tokenizers: for each partition, per modality of text, what turns it into tokens.
    """

    dataset: Dataset
    inputs: dict[str, InputSpec]
    index: Index
    class_names: tuple[str, ...]
    partitions: list[Partition]
    groups: np.ndarray | None
    survey: Survey
    teachers: dict[str, Teacher] = field(default_factory=dict)
    tokenizers: list[dict[str, Tokenizer]] = field(default_factory=list)

    @property
    def unlabelled(self) -> int:
        return int((~self.index.labelled).sum())


def list_data(recipe: Recipe, progress: Progress) -> tuple[Dataset, dict[str, InputSpec], Index, tuple[str, ...]]:
    """The dataset, the shape of each modality of the recipe, its samples and its class names.

    Raises:
        RecipeError: the data are missing or do not fit the recipe; the recipe's line is named.
    """
    with blamed_on(recipe):
        dataset: Dataset = recipe.dataset.build()
        hold_task(recipe, dataset.task)
        inputs = recipe_inputs(recipe, dataset)
        bar, move = progress.counter("listing the data")
        with bar:
            index = dataset.index(move)
        if recipe.task == "retrieval":
            index = for_retrieval(index)
        if recipe.task == "grounding":
            index = for_grounding(index)
        hold_task(recipe, index.task)
        if recipe.train.select == raters.NAME and index.raters is None:
            message = f"{recipe.dataset.name} has no answers of several people; leave {raters.NAME} out"
            raise recipe.error(("train", "select"), message)
        if len(set(map(str, index.ids))) != len(index):
            raise DataError("the ids of the samples are not unique")
        return dataset, inputs, index, class_names(recipe, index.class_names)


def open_data(recipe: Recipe, progress: Progress) -> Opened:
    """List, divide and read through a recipe's data.

    Raises:
        RecipeError: the data are missing or do not fit the recipe; the recipe's line is named.
        FusionkitError: too many samples are bad.
    """
    dataset, inputs, index, names = list_data(recipe, progress)
    with blamed_on(recipe):
        teachers = load_teachers(recipe, dataset.inputs(), make_task(recipe, names))
        for teacher in teachers.values():
            inputs |= teacher.inputs
        partitions = divide(index, recipe.data.split, folds=recipe.data.folds == "all")
        groups = named_groups(index, recipe.data.split)
        if groups is None and index.groups is not None and len(np.unique(index.groups)) < len(index):
            groups = np.asarray(index.groups)
        bar, move = progress.counter("reading the data")
        with bar:
            found = survey(
                dataset,
                index,
                inputs,
                partitions,
                whitened=scaled(recipe, "whiten"),
                ranked=ranked(recipe, inputs),
                workers=recipe.data.num_workers,
                max_bad=recipe.data.max_bad,
                timeout=recipe.data.timeout,
                progress=move,
            )
        partitions = [partition.keep(found.good) for partition in partitions]
        for partition in partitions:
            for part, positions in partition.parts().items():
                if len(positions) == 0:
                    raise DataError(f"no good sample is left for {part}", option=("split",))
        tokenizers = [fit_tokenizers(recipe, texts) for texts in found.texts]
    return Opened(dataset, inputs, index, names, partitions, groups, found, teachers, tokenizers)
