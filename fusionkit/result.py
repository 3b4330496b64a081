"""What a run found: predictions, their figures, and `result.json`, the interface that scripts read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from fusionkit import extra_metrics, raters
from fusionkit.errors import RequestError
from fusionkit.estimates import Comparison, Estimate, Verdict, difference_text, finite, interval_note, p_text
from fusionkit.extra_metrics import AboutMetric, ExtraMetric
from fusionkit.flow import InputSpec
from fusionkit.headlines import ERRORS, HEADLINES, IN_TABLE, LABELS, label, primary
from fusionkit.kinds import KINDS
from fusionkit.metrics import ClassFigures
from fusionkit.multilabel import LabelFigures
from fusionkit.predictions import Predictions
from fusionkit.regression import QuantityFigures

FORMAT = 1
EARLY_STACK = "early_stack"


@dataclass(frozen=True)
class Fold:
    """One fold of a pooled result."""

    fold: str
    n: int
    metrics: dict[str, float | None]


@dataclass(frozen=True)
class Scores:
    """The figures of one model's predictions.

    Args:
        n: samples.
        metrics: the headline figures, and those of further metrics.
        details: one a class, label or quantity.
        confusion: counts `[K, K]`, or `[K, 2, 2]` of labels, rows are the reference; None of quantities.
        interval: how the intervals were made.
        folds: figures of every fold, where folds are pooled.
    """

    n: int
    metrics: dict[str, Estimate]
    details: tuple[Any, ...]
    confusion: np.ndarray | None
    interval: str
    folds: tuple[Fold, ...] = ()


@dataclass(frozen=True)
class Cost:
    """What a model takes; None where it was not measured. `multiply_adds` are of one forward of one sample."""

    parameters: int | None = None
    multiply_adds: int | None = None
    train_seconds: float | None = None
    samples_per_second: float | None = None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class Baseline:
    """A simpler model beside the fusion: one modality alone, or the early stack."""

    modalities: tuple[str, ...]
    metrics: dict[str, Estimate]
    cost: Cost = Cost()


@dataclass(frozen=True)
class FusionEffect:
    """Does fusion help, by how much, with what confidence?

    Args:
        best: the single modality with the highest OA on the test samples.
        verdict: of the fusion against it.
        answer: the same in words.
        against: fusion minus each baseline.
    """

    best: str
    verdict: Verdict
    answer: str
    against: dict[str, Comparison]


@dataclass(frozen=True)
class TableRow:
    """One model in the table of modalities."""

    name: str
    label: str
    metrics: dict[str, Estimate]
    parameters: int | None

    @property
    def figures(self) -> tuple[str, ...]:
        """The headline figures that stand in the table, and the metrics of the recipe."""
        kind = next(kind for kind, names in HEADLINES.items() if names[0] in self.metrics)
        soft = (raters.NAME,) if raters.NAME in self.metrics else ()
        names = [*soft, *IN_TABLE[kind]]
        if kind == "retrieval":
            names = [name for name in names if self.metrics[name].value is not None]
        return (*names, *(name for name in self.metrics if name not in LABELS))

    @property
    def cells(self) -> tuple[str, ...]:
        """As printed: what it reads, its figures, its size."""
        figures = (estimate_text(self.metrics[name], name) for name in self.figures)
        return (self.label, *figures, "" if self.parameters is None else f"{self.parameters:,}")


class Table(tuple[TableRow, ...]):
    """The rows of the table of modalities; as text, aligned under their head."""

    def __str__(self) -> str:
        head = ("modalities", *map(label, self[0].figures), "parameters")
        rows = [head, *(row.cells for row in self)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        return "\n".join(
            "  ".join([*map(str.ljust, row[:-1], widths), row[-1].rjust(widths[-1])]).rstrip() for row in rows
        )


@dataclass(frozen=True)
class Result:
    """The final figures of a run; `result.json` is this.

    Args:
        name: of the run.
        task: the kind of task.
        split: which samples were predicted, for example `"test"`.
        n: how many.
        seed: of the run.
        fusion: the fusion component.
        modalities: in the order of the recipe.
        classes: the names of the classes, labels or quantities.
        metrics: the headline figures of the task (`fusionkit.headlines`), each with its 95 % interval; and
            `soft_accuracy`, where several people have answered, and the metrics that the recipe names.
        per_class: one a class or label.
        interval: how the intervals were made.
        cost: of the fused model.
        baselines: by name: each modality alone, and `early_stack`.
        comparison: whether fusion helps; None without baselines.
        folds: figures of every fold, where folds are pooled.
        per_quantity: of a regression.
        units: of the quantities.
        inputs: the shape of each modality, which a saved model is rebuilt from; empty in runs of earlier versions.
        absent: per modality, how many training samples lack it.
        findings: what a reader should know of the data: samples, pixels and groups that test shares with train or val,
            the distance between them, what was left out.
        extra_metrics: what the metrics are that the recipe names.
    """

    name: str
    task: str
    split: str
    n: int
    seed: int
    fusion: str
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    metrics: dict[str, Estimate]
    per_class: tuple[LabelFigures | ClassFigures, ...]
    interval: str
    cost: Cost = Cost()
    baselines: dict[str, Baseline] = field(default_factory=dict)
    comparison: FusionEffect | None = None
    folds: tuple[Fold, ...] = ()
    per_quantity: tuple[QuantityFigures, ...] = ()
    units: tuple[str, ...] = ()
    inputs: dict[str, InputSpec] = field(default_factory=dict)
    absent: dict[str, int] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    extra_metrics: dict[str, AboutMetric] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As in `result.json`. A baseline's figures stand where the run's own stand under `metrics`."""
        told = dataclasses.asdict(self)
        for name, baseline in told["baselines"].items():
            told["baselines"][name] = {**baseline.pop("metrics"), **baseline}
        return {"format": FORMAT, **told}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Result:
        """Read what `to_dict` made; keys that a later version added are left aside.

        Raises:
            RequestError: it is of another format, or something is missing.
        """
        if not isinstance(told, Mapping) or told.get("format") != FORMAT:
            found = told.get("format") if isinstance(told, Mapping) else None
            raise RequestError(f"a result of format {found!r}; this version of fusionkit reads format {FORMAT}")
        own = {"modalities", "cost"}
        try:
            baselines = {
                name: {
                    **{key: baseline[key] for key in own},
                    "metrics": {key: value for key, value in baseline.items() if key not in own},
                }
                for name, baseline in told.get("baselines", {}).items()
            }
            return TypeAdapter(cls).validate_python({**told, "baselines": baselines})
        except (ValidationError, KeyError, TypeError, AttributeError) as error:
            first = error.errors()[0] if isinstance(error, ValidationError) else None
            what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else f"{error!r}"
            raise RequestError(f"not a result of fusionkit: {what}") from None

    @classmethod
    def from_json(cls, text: str) -> Result:
        """As `from_dict`.

        Raises:
            RequestError: as there, or the text is no JSON.
        """
        try:
            told = json.loads(text)
        except ValueError as error:
            raise RequestError(f"not readable as JSON: {error}") from None
        return cls.from_dict(told)

    @property
    def deciding(self) -> str:
        """The figure by which models are compared."""
        return raters.NAME if raters.NAME in self.metrics else primary(self.task)

    def table(self) -> Table:
        """Each modality alone, then the early stack, the fusion last."""
        rows = []
        for name, baseline in sorted(self.baselines.items(), key=lambda item: item[0] == EARLY_STACK):
            label = " + ".join(baseline.modalities)
            label += f" ({name})" if name == EARLY_STACK else ""
            rows.append(TableRow(name, label, baseline.metrics, baseline.cost.parameters))
        label = " + ".join(self.modalities) + (f" ({self.fusion})" if len(self.modalities) > 1 else "")
        return Table([*rows, TableRow("fusion", label, self.metrics, self.cost.parameters)])

    def __str__(self) -> str:
        """What it is, the table, and the answer, as plain lines."""
        head = f"{self.name}: {self.n:,} samples ({self.split}), seed {self.seed}, 95 % intervals by {self.interval}"
        return "\n".join([head, str(self.table()), *([self.comparison.answer] if self.comparison else [])])


def score(
    predictions: Predictions, names: Sequence[str], seed: int, metrics: Mapping[str, ExtraMetric] | None = None
) -> Scores:
    """The figures of predictions, with 95 % intervals over their groups where they have some, else over samples.

    Args:
        predictions: of one model.
        names: of the classes, labels or quantities.
        seed: of the resampling.
        metrics: by name, beside the headline figures.

    Raises:
        ValueError: there are no samples, or not as many names as classes, labels or quantities.
    """
    kind, width = KINDS[predictions.task], predictions.answers.shape[1]
    if kind.named and len(names) != width:
        raise ValueError(f"{len(names)} names for {width} columns of answers")
    target, answers = predictions.target, predictions.answers
    groups = kind.resampled(target, predictions.groups)
    folds = []
    for name in () if predictions.fold is None else np.unique(predictions.fold).tolist():
        here = predictions.fold == name
        found = kind.figures(target[here], answers[here])
        if predictions.soft is not None:
            found[raters.NAME] = float(predictions.soft[here].mean())
        found |= extra_metrics.figures(metrics or {}, target[here], answers[here])
        folds.append(Fold(str(name), int(here.sum()), {key: finite(value) for key, value in found.items()}))
    estimates = kind.estimate(target, answers, groups=groups, seed=seed)
    if predictions.soft is not None:
        estimates = {raters.NAME: raters.estimate(predictions.soft, groups=groups, seed=seed), **estimates}
    estimates |= extra_metrics.estimate(metrics or {}, kind.name, target, answers, groups=groups, seed=seed)
    return Scores(
        n=len(predictions),
        metrics=estimates,
        details=kind.details(target, answers, names, groups=groups, seed=seed),
        confusion=kind.counts(target, answers),
        interval=interval_note(len(predictions), groups),
        folds=tuple(folds),
    )


def fusion_effect(
    fused: Predictions, baselines: Mapping[str, Predictions], alone: Sequence[str], seed: int
) -> FusionEffect:
    """Compare the fused model with its baselines, sample by sample.

    Args:
        fused: of the fused model.
        baselines: of the others, for the same samples in any order.
        alone: which of them are single modalities; at least one.
        seed: of the resampling.

    Raises:
        ValueError: the samples are not the same.
    """
    kind = KINDS[fused.task]
    deciding = primary(fused.task)
    against, merit = {}, {}
    for name, other in baselines.items():
        try:
            places = other.places(fused.ids)
        except ValueError:
            raise ValueError(f"{name} predicts other samples than the fusion") from None
        second = other.answers[places]
        found = kind.compare(fused.target, fused.answers, second, groups=fused.groups, seed=seed)
        figure = kind.figures(fused.target, second)[deciding]
        merit[name] = -figure if deciding in ERRORS else figure
        if fused.soft is not None and other.soft is not None:
            soft = other.soft[places]
            found = raters.decide(found, fused.soft, soft, groups=fused.groups, seed=seed)
            merit[name] = float(np.nanmean(soft))
        against[name] = found
    best = max(alone, key=merit.__getitem__)
    return FusionEffect(best, against[best].verdict, _answer(best, against), against)


def _answer(best: str, against: Mapping[str, Comparison]) -> str:
    found = against[best]
    deciding, *others = found.differences
    gain = found.gain or 0.0
    opening = {
        "better": "Fusion helps",
        "worse": "Fusion hurts",
        "borderline": f"Weak evidence that fusion {'helps' if gain > 0 else 'hurts'}",
        "no evidence": "No evidence that fusion helps",
    }[found.verdict]
    independent = " if samples were independent" if found.groups is not None and not found.by_group else ""
    second = "macro_f1" if "macro_f1" in others else others[0]
    text = difference_text(second, found.differences[second])
    sentences = [
        f"{opening}: {difference_text(deciding, found.differences[deciding])} against {best} alone, the best single "
        f"modality; {found.test} {p_text(found.p_value)}{independent}.",
        f"{text[0].upper()}{text[1:]}.",
    ]
    if stack := against.get(EARLY_STACK):
        words = {"borderline": "weak evidence", "no evidence": "no evidence of a difference"}
        verdict = words.get(stack.verdict, stack.verdict)
        told = difference_text(deciding, stack.differences[deciding])
        sentences.append(f"Against the early stack: {told}, {verdict}.")
    return " ".join(sentences)


def estimate_text(found: Estimate, figure: str = "oa") -> str:
    """For example `0.786 [0.757, 0.815]`; of an error, which has a unit, `23.7 [22.1, 25.4]`."""
    if found.value is None:
        return "undefined"
    text = figure_text(found.value, figure)
    if found.low is None or found.high is None:
        return text
    return f"{text} [{figure_text(found.low, figure)}, {figure_text(found.high, figure)}]"


def figure_text(value: float | None, figure: str = "oa") -> str:
    """A share with three decimals, an error or a metric of a plugin with four digits; a dash where there is none."""
    if value is None:
        return "–"
    if figure in ERRORS:
        return f"{value:.4g}"
    return f"{value:.3f}" if figure in LABELS else f"{value:#.4g}".rstrip(".")  # in a table 1 is 1.000
