"""Variants of a recipe, run with several seeds on the same test samples: their figures, and what tells them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from scipy.stats import ttest_rel

from fusionkit.ablation_metrics import Spread, shared_metrics, spread
from fusionkit.ablation_runs import Answered, answered, checked
from fusionkit.errors import RequestError, suggestion
from fusionkit.estimates import FEW_GROUPS, Estimate, Verdict, interval_note
from fusionkit.extra_metrics import AboutMetric
from fusionkit.headlines import ERRORS, HEADLINES, bounds, primary
from fusionkit.kinds import KINDS
from fusionkit.paired import Resamples, over_samples
from fusionkit.result import EARLY_STACK, Cost
from fusionkit.runs import Run
from fusionkit.seeds import LEVEL, OverSeeds, holm, over_seeds


class Cell(Protocol):
    """What is asked of a grid's cell: its variant, which all seeds share, the levels of that, and the seed."""

    @property
    def name(self) -> str: ...
    @property
    def levels(self) -> Mapping[str, str]: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class Contrast:
    """A variant against the reference, on the seeds that both have and on the same samples.

    Args:
        seeds: those.
        differences: variant minus reference, of each headline figure, with 95 % intervals for other seeds and samples.
        p_samples: over the samples, for these seeds: `test`.
        p_seeds: over the seeds, for these samples: the paired t-test; None of one seed.
        p_both: over both, from the error of the difference; None of one seed.
        p_value: the greatest of these.
        adjusted: the same after Holm's correction over all comparisons of the table.
        test: how `p_samples` was found.
        effect: Hedges' g of the paired differences over seeds.
        detectable: the difference that would be found in 80 % of repetitions with so many seeds and samples.
        groups: how many groups of samples there are; None where samples are independent.
    """

    seeds: tuple[int, ...]
    differences: dict[str, Estimate]
    p_samples: float
    p_seeds: float | None
    p_both: float | None
    p_value: float
    adjusted: float
    test: str
    effect: float | None
    detectable: float | None
    groups: int | None

    @property
    def verdict(self) -> Verdict:
        """`better` and `worse` need an adjusted p under 0.05, two seeds and, where there are groups, ten of them;
        `borderline` is what lacks one of these or the adjustment."""
        figure, found = next(iter(self.differences.items()))
        if found.value is None or self.p_value >= LEVEL:
            return "no evidence"
        if self.adjusted >= LEVEL or len(self.seeds) < 2 or (self.groups is not None and self.groups < FEW_GROUPS):
            return "borderline"
        return "better" if (found.value > 0) != (figure in ERRORS) else "worse"

    @property
    def words(self) -> str:
        return {"borderline": "weak evidence", "no evidence": "no evidence of a difference"}.get(
            self.verdict, self.verdict
        )


@dataclass(frozen=True)
class Row:
    """One variant, or one baseline.

    Args:
        name: of the variant.
        levels: by axis.
        runs: by seed, the run folder; of a baseline the run that it stood beside.
        figures: by seed, the headline figures.
        metrics: each headline figure over the seeds; None where undefined.
        cost: means over the seeds; of the memory the most.
        confusion: counts by seed, `[K, K]` or `[K, 2, 2]`; None of quantities and embeddings.
        code: by seed, the version of the code that made the run.
        is_baseline: a modality alone or the early stack, beside the runs of the reference.
        against: the reference; None of itself, and where they share no seed.
        extra: by seed, the figures of the metrics that the recipes name.
    """

    name: str
    levels: dict[str, str]
    runs: dict[int, str]
    figures: dict[int, dict[str, float]]
    metrics: dict[str, OverSeeds | None]
    cost: Cost
    confusion: dict[int, np.ndarray] | None
    code: dict[int, str]
    is_baseline: bool = False
    against: Contrast | None = None
    extra: dict[int, Mapping[str, float | None]] = field(default_factory=dict)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.figures)

    def over_seeds(self, figure: str) -> OverSeeds | Spread | None:
        """A headline figure, or a metric of the recipes; None where undefined."""
        if figure in self.metrics:
            return self.metrics[figure]
        return spread([held.get(figure) for held in self.extra.values()])


@dataclass(frozen=True)
class Ablation:
    """A table of variants.

    Args:
        task, split, n, classes, units: of the runs, as in `Result`.
        reference: the row to which the others are compared.
        rows: the baselines first, then the variants in their order.
        interval: what was resampled.
        notes: what a reader should know: seeds that are missing, code that differs.
        extra: the metrics that the recipes name.
    """

    task: str
    split: str
    n: int
    classes: tuple[str, ...]
    units: tuple[str, ...]
    reference: str
    rows: tuple[Row, ...]
    interval: str
    notes: tuple[str, ...] = field(default=())
    extra: dict[str, AboutMetric] = field(default_factory=dict)

    @property
    def primary(self) -> str:
        return primary(self.task)

    @property
    def variants(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if not row.is_baseline)

    def row(self, name: str) -> Row:
        """The row of this name.

        Raises:
            RequestError: there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        names = [row.name for row in self.rows]
        raise RequestError(f"there is no variant {name!r}{suggestion(name, names)}")


def ablation(cells: Sequence[tuple[Cell, Run]], reference: str | None = None, *, seed: int = 0) -> Ablation:
    """Compare finished runs, paired by seed and by test sample.

    The modalities alone and the early stack, as they were trained beside the reference, are rows as well.

    Args:
        cells: the runs; those whose cells have one name are one variant.
        reference: the name of a variant or, such as `image alone`, of a baseline; by default the first variant.
        seed: of the resampling.

    Raises:
        RequestError: the runs are unfinished, of different tasks, test samples or data, or two are of one variant and
            seed; or there is no such reference.
        DataError: a run's files are broken.
    """
    if not cells:
        raise RequestError("there are no finished runs to compare")
    reference = cells[0][0].name if reference is None else reference
    shared = checked([run for _, run in cells])
    found = [answered(cell.name, cell.seed, run, shared) for cell, run in cells]
    levels = {cell.name: dict(cell.levels) for cell, _ in cells}
    _refuse_repeated(found)
    beside = _baselines(cells, reference)
    models = [answered(name, seed_, run, shared, stem) for name, stem, seed_, run in beside] + found
    groups = KINDS[shared.task].resampled(shared.target, shared.groups)
    rows = compared(shared.task, models, reference, groups=groups, seed=seed)
    baselines = {name for name, *_ in beside}
    rows = [replace(row, levels=levels.get(row.name, {}), is_baseline=row.name in baselines) for row in rows]
    result = cells[0][1].result
    extra, left_out = shared_metrics([run for _, run in cells])
    return Ablation(
        shared.task,
        result.split,
        len(shared.ids),
        result.classes,
        result.units,
        reference,
        tuple(rows),
        interval_note(len(shared.ids), groups).removeprefix("bootstrap over "),
        (*_notes(rows, reference), *left_out),
        extra,
    )


def compared(
    task: str, models: Sequence[Answered], reference: str, *, groups: np.ndarray | None = None, seed: int = 0
) -> list[Row]:
    """A row for each name among the models, with its contrast to the reference.

    Args:
        task: the kind of task.
        models: one a name and seed, all of the same samples.
        reference: the name of one.
        groups: a value a sample, where samples belong together.
        seed: of the resampling.

    Raises:
        RequestError: no model has the name of the reference.
    """
    values, drawn = Resamples(len(models[0].merits), groups, seed).figures([model.weigh for model in models])
    table = _Table(task, models, values, drawn, groups, seed)
    if reference not in table.place:
        raise RequestError(f"there is no variant {reference!r} to compare with{suggestion(reference, table.place)}")
    rows = [table.row(name) for name in table.place]
    found = {row.name: table.contrast(row.name, reference) for row in rows if row.name != reference}
    made = {name: contrast for name, contrast in found.items() if contrast is not None}
    adjusted = holm([contrast.p_value for contrast in made.values()])
    told = {name: replace(made[name], adjusted=value) for name, value in zip(made, adjusted, strict=True)}
    return [replace(row, against=told.get(row.name)) for row in rows]


class _Table:
    """The models' figures `[models, f]` and those of resamples `[r, models, f]`, taken by variant and seed."""

    def __init__(
        self,
        task: str,
        models: Sequence[Answered],
        values: np.ndarray,
        drawn: np.ndarray,
        groups: np.ndarray | None,
        seed: int,
    ):
        self.task, self.models, self.values, self.drawn = task, models, values, drawn
        self.groups, self.seed = groups, seed
        self.place: dict[str, dict[int, int]] = {model.name: {} for model in models}
        for k in sorted(range(len(models)), key=lambda k: models[k].seed):
            self.place[models[k].name][models[k].seed] = k

    def row(self, name: str) -> Row:
        places = list(self.place[name].values())
        models = [self.models[k] for k in places]
        figures = HEADLINES[self.task]
        counted = {model.seed: model.confusion for model in models if model.confusion is not None}
        return Row(
            name,
            {},
            {model.seed: str(model.run.path) for model in models},
            {self.models[k].seed: dict(zip(figures, self.values[k].tolist(), strict=True)) for k in places},
            {
                figure: over_seeds(self.values[places, f], self.drawn[:, places, f], bounds(figure))
                for f, figure in enumerate(figures)
            },
            _mean_cost([model.cost for model in models]),
            counted or None,
            {model.seed: model.code for model in models},
            extra={model.seed: model.extra for model in models},
        )

    def contrast(self, name: str, reference: str) -> Contrast | None:
        """None where they share no seed."""
        seeds = [seed for seed in self.place[name] if seed in self.place[reference]]
        if not seeds:
            return None
        one, other = ([self.place[of][seed] for seed in seeds] for of in (name, reference))
        apart, drawn = self.values[one] - self.values[other], self.drawn[:, one] - self.drawn[:, other]
        units = None if self.groups is None else len(np.unique(self.groups))
        found = {
            figure: None if units == 1 else over_seeds(apart[:, f], drawn[:, :, f], _apart(*bounds(figure)))
            for f, figure in enumerate(HEADLINES[self.task])
        }
        merits = np.mean([self.models[k].merits - self.models[m].merits for k, m in zip(one, other, strict=True)], 0)
        p_samples, test = over_samples(self.task, merits, self.groups, self.seed)
        deciding = found[primary(self.task)]
        p_seeds = p_both = None
        if len(seeds) > 1:
            p_seeds = _over_seeds_alone(self.values[one, 0], self.values[other, 0])
            p_both = deciding.p_value if deciding else 1.0
        p_value = max(p for p in (p_samples, p_seeds, p_both) if p is not None)
        return Contrast(
            tuple(seeds),
            {
                figure: Estimate(None if np.isnan(apart[:, f]).any() else float(apart[:, f].mean()))
                if (held := found[figure]) is None
                else held.estimate
                for f, figure in enumerate(found)
            },
            p_samples,
            p_seeds,
            p_both,
            p_value,
            p_value,
            test,
            deciding.effect if deciding else None,
            deciding.detectable if deciding else None,
            units,
        )


def _apart(low: float, high: float) -> tuple[float, float]:
    """The bounds of a difference of two figures with these bounds."""
    return low - high, high - low


def _over_seeds_alone(one: np.ndarray, other: np.ndarray) -> float:
    """The paired t-test over seeds; of differences that are all the same, 1 where they are zero and else 0."""
    if np.ptp(one - other) == 0:
        return float(one[0] == other[0])
    p_value = float(ttest_rel(one, other).pvalue)
    return 1.0 if np.isnan(p_value) else p_value


def _refuse_repeated(found: Sequence[Answered]) -> None:
    seen: dict[tuple[str, int], Answered] = {}
    for model in found:
        first = seen.setdefault((model.name, model.seed), model)
        if first is not model:
            raise RequestError(
                f"{first.run.path} and {model.run.path} are both of {model.name}, seed {model.seed}: leave one out"
            )


def _baselines(cells: Sequence[tuple[Cell, Run]], reference: str) -> list[tuple[str, str, int, Run]]:
    """Name, file, seed and run of each baseline beside the reference, or the first variant that has any."""
    order = sorted(dict.fromkeys(cell.name for cell, _ in cells), key=lambda name: name != reference)
    taken = {cell.name for cell, _ in cells}
    for variant in order:
        held = [(cell.seed, run) for cell, run in cells if cell.name == variant]
        names = dict.fromkeys(name for _, run in held for name in run.result.baselines)
        found = [
            (_called(name, taken), f"baselines/{name}", seed, run)
            for name in sorted(names, key=lambda name: name == EARLY_STACK)
            for seed, run in held
            if name in run.result.baselines
        ]
        if found:
            return found
    return []


def _called(baseline: str, taken: set[str]) -> str:
    name = "early stack" if baseline == EARLY_STACK else f"{baseline} alone"
    return f"{name} (baseline)" if name in taken else name


def _mean_cost(costs: Sequence[Cost]) -> Cost:
    def known(key: str) -> list[float]:
        return [value for cost in costs if (value := getattr(cost, key)) is not None]

    def mean(key: str) -> float | None:
        return float(np.mean(known(key))) if known(key) else None

    whole = {key: round(held) if (held := mean(key)) is not None else None for key in ("parameters", "multiply_adds")}
    peak = known("peak_memory_bytes")
    return Cost(
        **whole,
        train_seconds=mean("train_seconds"),
        samples_per_second=mean("samples_per_second"),
        peak_memory_bytes=round(max(peak)) if peak else None,
    )


def _notes(rows: Sequence[Row], reference: str) -> list[str]:
    notes = []
    base = next(row for row in rows if row.name == reference)
    if not any(row.is_baseline for row in rows):
        notes.append("No run has baselines, so no modality stands alone in the table: set `baselines: true`.")
    if len(base.seeds) == 1:
        notes.append("One seed: what differs are these models; whether their recipes do, other seeds must show.")
    for row in rows:
        if missing := [seed for seed in base.seeds if seed not in row.seeds]:
            told = ", ".join(map(str, missing))
            shared = "not compared" if len(missing) == len(base.seeds) else "compared on the others"
            notes.append(f"{row.name} lacks seed {told} of the reference and is {shared}.")
    codes = dict.fromkeys(code for row in rows for code in row.code.values())
    if len(codes) > 1:
        made = {row.name: ", ".join(dict.fromkeys(row.code.values())) for row in rows if not row.is_baseline}
        notes += [f"Different code: {name} was made by {code}." for name, code in made.items()]
    if changed := [code for code in codes if code.endswith("+")]:
        notes.append(f"Made by code with uncommitted changes, which may differ: {', '.join(changed)}.")
    return notes
