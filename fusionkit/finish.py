"""The end of a run: scores, comparison with the baselines, figures, report, and `result.json` last."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fusionkit.assembly import make_task
from fusionkit.describe import describe_opened, findings
from fusionkit.extra_metrics import make_metrics
from fusionkit.figures import Curve
from fusionkit.hooks import sections_of
from fusionkit.opened import Opened
from fusionkit.predictions import Predictions
from fusionkit.progress import Progress
from fusionkit.raters import soft_accuracy
from fusionkit.recipe import Recipe
from fusionkit.report import ReportData, write_report
from fusionkit.result import Baseline, Cost, Result, fusion_effect, score
from fusionkit.runs import Run, RunFolder, to_yaml
from fusionkit.trainer import remarks
from fusionkit.variants import MAIN, Variant

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from fusionkit.experiment import Answer


def finish(
    folder: RunFolder,
    recipe: Recipe,
    opened: Opened,
    planned: Sequence[Variant],
    answers: Mapping[str, Sequence[Answer]],
    notes: Sequence[str],
    provenance: Mapping[str, Any],
    fabric: Fabric,
    progress: Progress,
) -> Result:
    """Turn the answers of all models into the files of the run folder; `result.json` comes last.

    Args:
        folder, recipe, opened: of the run.
        planned: its models, the recipe's own first.
        answers: of each model, one a fold.
        notes: what else the report should say.
        provenance: as in `provenance.json`.
        fabric: for the peak memory.
        progress: is told of report sections that fail.
    """
    predictions = {name: pool(opened, given) for name, given in answers.items()}
    metrics = make_metrics(recipe, make_task(recipe, opened.class_names, opened.index, opened.partitions[0].train))
    scores = {name: score(held, opened.class_names, recipe.seed, metrics) for name, held in predictions.items()}
    main, others = scores[MAIN], [variant for variant in planned if not variant.is_main]
    alone = [variant.name for variant in others if len(variant.modalities) == 1]
    compared = {variant.name: predictions[variant.name] for variant in others}
    result = Result(
        name=recipe.name,
        task=recipe.task,
        split="test" if recipe.data.folds is None else f"test, {len(opened.partitions)} folds pooled",
        n=main.n,
        seed=recipe.seed,
        fusion=recipe.fusion.name,
        modalities=tuple(recipe.modalities),
        classes=opened.class_names,
        metrics=main.metrics,
        per_class=main.details if recipe.task in ("classification", "multilabel") else (),
        interval=main.interval,
        cost=model_cost(planned[0], answers[MAIN], peak_memory(fabric)),
        baselines={
            v.name: Baseline(v.modalities, scores[v.name].metrics, model_cost(v, answers[v.name])) for v in others
        },
        comparison=fusion_effect(predictions[MAIN], compared, alone, recipe.seed) if alone else None,
        folds=main.folds,
        per_quantity=main.details if recipe.task == "regression" else (),
        units=opened.index.units,
        inputs={name: opened.inputs[name] for name in recipe.modalities},
        absent={name: opened.survey.absent_in_train[name] for name in recipe.modalities},
        findings=tuple(findings(opened)),
        extra_metrics={name: metric.about for name, metric in metrics.items()},
    )
    folder.write_predictions(predictions[MAIN], opened.class_names)
    for name, held in compared.items():
        folder.write_predictions(held, opened.class_names, f"baselines/{name}")
    if main.confusion is not None:
        folder.write_confusion(main.confusion, opened.class_names)
    warned = [f"{name}: {text}" for name, given in answers.items() for answer in given for text in answer.warnings]
    told = [remark for answer in answers[MAIN] for remark in remarks(recipe.fusion.target, answer.history)]
    report = ReportData(
        result=result,
        predictions=predictions[MAIN],
        confusion=main.confusion,
        curves=[Curve(answer.history, answer.best_epoch) for answer in answers[MAIN]],
        data=describe_opened(recipe, opened),
        bad=opened.survey.bad,
        provenance=provenance,
        resolved=to_yaml(recipe.resolved()),
        notes=[*notes, *warned, *dict.fromkeys(told)],
        selected=recipe.train.select,
        sections=sections_of(Run(folder.path, result), progress.line),
    )
    write_report(folder, report)
    folder.finish(result)
    return result


def pool(opened: Opened, answers: Sequence[Answer]) -> Predictions:
    """The answers of all folds as one, in the order of the index."""
    index = np.concatenate([answer.index for answer in answers])
    pairs = zip(answers, opened.partitions, strict=True)
    fold = np.concatenate([np.full(len(answer.index), partition.fold or "") for answer, partition in pairs])
    order = np.argsort(index, kind="stable")
    index = index[order]
    held, said = opened.index.raters, np.concatenate([answer.answers for answer in answers])[order]
    return Predictions(
        ids=[str(opened.index.ids[position]) for position in index.tolist()],
        target=opened.index.targets[index],
        answers=said,
        groups=None if opened.groups is None else opened.groups[index],
        fold=None if len(answers) == 1 else fold[order],
        task=opened.index.task,
        soft=None if held is None else soft_accuracy(held[index], said.argmax(1)),
    )


def model_cost(variant: Variant, answers: Sequence[Answer], peak: int | None = None) -> Cost:
    """What a model took over all folds."""
    seconds = sum(answer.seconds for answer in answers)
    seen = sum(answer.seen for answer in answers)
    return Cost(variant.cost.parameters, variant.cost.multiply_adds, seconds, seen / seconds if seconds else None, peak)


def peak_memory(fabric: Fabric) -> int | None:
    """The most memory that was in use: of the GPU where there is one, else of the process; None where unknown."""
    if fabric.device.type == "cuda":
        return torch.cuda.max_memory_allocated(fabric.device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
