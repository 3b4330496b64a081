"""What a run found: predictions, their figures, and `result.json`, the interface that scripts read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from fusionkit.errors import RequestError
from fusionkit.estimates import Comparison, Estimate, Verdict, difference_text, finite, interval_note, p_text
from fusionkit.metrics import NAMES, ClassFigures, compare, confusion, estimate, headline, per_class

FORMAT = 1
TABLE_HEAD = ("modalities", "OA", "AA", "kappa", "parameters")
EARLY_STACK = "early_stack"


@dataclass(frozen=True)
class Predictions:
    """A model's answers for the test samples.

    Args:
        ids: one a sample.
        target: class indices `[n]`.
        probabilities: `[n, K]`, floating point.
        groups: a value a sample, where samples belong together (a plot, a video).
        fold: the fold in which each sample was test, where folds are pooled.

    Raises:
        ValueError: lengths differ, or a probability is no number.
    """

    ids: Sequence[str]
    target: np.ndarray
    probabilities: np.ndarray
    groups: np.ndarray | None = None
    fold: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.ids)
        parts = {"target": self.target, "probabilities": self.probabilities, "groups": self.groups, "fold": self.fold}
        for name, part in parts.items():
            if part is not None and len(part) != n:
                raise ValueError(f"{len(part)} {name} for {n} samples")
        if self.probabilities.ndim != 2:
            raise ValueError(f"probabilities are [n, K], not {self.probabilities.shape}")
        if not np.isfinite(self.probabilities).all():
            bad = ~np.isfinite(self.probabilities).all(1)
            raise ValueError(
                f"probabilities of {bad.sum()} samples are no numbers, first {self.ids[int(bad.argmax())]}"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def prediction(self) -> np.ndarray:
        """The most probable class `[n]`; the first of equals."""
        return self.probabilities.argmax(1)


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
        metrics: the headline figures.
        per_class: one a class.
        confusion: counts `[K, K]`, rows are the reference.
        interval: how the intervals were made.
        folds: figures of every fold, where folds are pooled.
    """

    n: int
    metrics: dict[str, Estimate]
    per_class: tuple[ClassFigures, ...]
    confusion: np.ndarray
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
    def cells(self) -> tuple[str, ...]:
        """As printed under `TABLE_HEAD`."""
        figures = (estimate_text(self.metrics[name]) for name in ("oa", "aa", "kappa"))
        return (self.label, *figures, "" if self.parameters is None else f"{self.parameters:,}")


class Table(tuple[TableRow, ...]):
    """The rows of the table of modalities; as text, aligned under `TABLE_HEAD`."""

    def __str__(self) -> str:
        rows = [TABLE_HEAD, *(row.cells for row in self)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(TABLE_HEAD))]
        return "\n".join(
            "  ".join([*map(str.ljust, row[:-1], widths), row[-1].rjust(widths[-1])]).rstrip() for row in rows
        )


@dataclass(frozen=True)
class Result:
    """The final figures of a run; `result.json` is this.

    Args:
        name: of the run.
        task: `"classification"`.
        split: which samples were predicted, for example `"test"`.
        n: how many.
        seed: of the run.
        fusion: the fusion component.
        modalities: in the order of the recipe.
        classes: their names.
        metrics: OA, AA, kappa, macro and weighted F1, each with its 95 % interval.
        per_class: one a class.
        interval: how the intervals were made.
        cost: of the fused model.
        baselines: by name: each modality alone, and `early_stack`.
        comparison: whether fusion helps; None without baselines.
        folds: figures of every fold, where folds are pooled.
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
    per_class: tuple[ClassFigures, ...]
    interval: str
    cost: Cost = Cost()
    baselines: dict[str, Baseline] = field(default_factory=dict)
    comparison: FusionEffect | None = None
    folds: tuple[Fold, ...] = ()

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


def score(predictions: Predictions, class_names: Sequence[str], seed: int) -> Scores:
    """The figures of predictions, with 95 % intervals over their groups where they have some, else over samples.

    Raises:
        ValueError: there are no samples, or not as many names as classes.
    """
    classes = predictions.probabilities.shape[1]
    if len(class_names) != classes:
        raise ValueError(f"{len(class_names)} class names for {classes} classes")
    target, prediction, groups = predictions.target, predictions.prediction, predictions.groups
    counts = confusion(target, prediction, classes)
    folds = []
    for name in () if predictions.fold is None else np.unique(predictions.fold).tolist():
        here = predictions.fold == name
        found = headline(confusion(target[here], prediction[here], classes))
        folds.append(Fold(str(name), int(here.sum()), {key: finite(float(found[key])) for key in NAMES}))
    return Scores(
        n=len(predictions),
        metrics=estimate(target, prediction, classes, groups=groups, seed=seed),
        per_class=per_class(counts, class_names),
        confusion=counts,
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
    classes = fused.probabilities.shape[1]
    order = {id: position for position, id in enumerate(fused.ids)}
    against, accuracy = {}, {}
    for name, other in baselines.items():
        if len(order) != len(other) or set(order) != set(other.ids):
            raise ValueError(f"{name} predicts other samples than the fusion")
        second = np.empty(len(other), np.int64)
        second[[order[id] for id in other.ids]] = other.prediction
        against[name] = compare(fused.target, fused.prediction, second, classes, groups=fused.groups, seed=seed)
        accuracy[name] = float((second == fused.target).mean())
    best = max(alone, key=accuracy.__getitem__)
    return FusionEffect(best, against[best].verdict, _answer(best, against), against)


def _answer(best: str, against: Mapping[str, Comparison]) -> str:
    found = against[best]
    gain = found.differences["oa"].value or 0.0
    opening = {
        "better": "Fusion helps",
        "worse": "Fusion hurts",
        "borderline": f"Weak evidence that fusion {'helps' if gain > 0 else 'hurts'}",
        "no evidence": "No evidence that fusion helps",
    }[found.verdict]
    independent = " if samples were independent" if found.groups is not None else ""
    sentences = [
        f"{opening}: {difference_text('oa', found.differences['oa'])} against {best} alone, the best single modality; "
        f"exact McNemar {p_text(found.p_value)}{independent}.",
        f"M{difference_text('macro_f1', found.differences['macro_f1'])[1:]}.",
    ]
    if stack := against.get(EARLY_STACK):
        words = {"borderline": "weak evidence", "no evidence": "no evidence of a difference"}
        verdict = words.get(stack.verdict, stack.verdict)
        sentences.append(f"Against the early stack: {difference_text('oa', stack.differences['oa'])}, {verdict}.")
    return " ".join(sentences)


def estimate_text(found: Estimate, digits: int = 3) -> str:
    """For example `0.786 [0.757, 0.815]`."""
    if found.value is None:
        return "undefined"
    text = f"{found.value:.{digits}f}"
    if found.low is None or found.high is None:
        return text
    return f"{text} [{found.low:.{digits}f}, {found.high:.{digits}f}]"
