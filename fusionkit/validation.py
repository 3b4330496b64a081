"""Validates the parts of a recipe: components and their options, losses and their weights, what depends on the task."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError
from torch.nn import ModuleDict

from fusionkit import raters, requirements
from fusionkit.chosen import Chosen
from fusionkit.deprecation import deprecated_keys
from fusionkit.errors import Problem, RequestError, suggestion
from fusionkit.explain import explain, shown
from fusionkit.headlines import HEADLINES, LABELS
from fusionkit.registry import Registry
from fusionkit.sections import RecipeKeys, Train
from fusionkit.weighting import Learned, Schedule, Weight, is_weight
from fusionkit.yamlfile import KeyPath, Located, dotted

PARTS = ("encoder", "fusion", "head", "branches")
TAKEN = frozenset({*LABELS, "loss", "modalities", "cost"})
"""What no metric can be called, since it stands beside these in `metrics.csv` or `result.json`."""


class Check:
    """Validates the parts of one recipe and collects the problems."""

    def __init__(self, located: Located, registry: Registry):
        self.located, self.registry = located, registry
        self.problems = list(located.problems)
        self.warnings: list[Problem] = []
        self.lacking: list[str] = []

    def problem(self, path: KeyPath, message: str, *, first: bool = False) -> None:
        position, key = self.located.position(path), dotted(path)
        # A value that YAML could not read is None here; what follows from that is no news.
        if all((problem.position, problem.key) != (position, key) for problem in self.located.problems):
            self.problems.append(Problem(position, key, message, first))

    def warn(self, path: KeyPath, message: str) -> None:
        self.warnings.append(Problem(self.located.position(path), dotted(path), message))

    def requires(self, value: Any) -> None:
        """The packages that the recipe requires are installed; what is lacking may be why a component is unknown."""
        for i, text in enumerate(value if isinstance(value, list) else ()):
            try:
                asked = requirements.parse(text)
            except (ValueError, TypeError):
                continue  # told where the key itself is validated
            if told := requirements.unmet(asked, self.registry):
                self.problem(("requires", i), told, first=True)
                self.lacking.append(asked.name)

    def model(self, model: type[BaseModel], data: Any, path: KeyPath, other_keys: Iterable[str] = ()) -> Any:
        """Validate as JSON, so that lists may become tuples and text paths, while text never becomes a number."""
        try:
            return model.model_validate_json(json.dumps(data))
        except ValidationError as error:
            for keys, message in explain(error, model, data, other_keys):
                self.problem((*path, *keys), message)
            return None

    def component(
        self, kind: str, name: str, options: dict, path: KeyPath, name_path: KeyPath, reserved: Iterable[str]
    ) -> Chosen | None:
        """The component `name` with its options; `reserved` are the keys beside them that are the core's."""
        try:
            entry, target = self.registry.get(kind, name), self.registry.resolve(kind, name)
            model = self.registry.options(kind, name)
        except RequestError as error:
            told = str(error)
            if self.lacking and name not in self.registry.names(kind):
                required = " or ".join(self.lacking)
                told = f"no {kind} is named {name!r}; it may come with {required}, which the recipe requires"
            self.problem(name_path, told)
            return None
        validated = self.model(model, options, path, reserved)
        if validated is None:
            return None
        if mark := entry.component.deprecated:
            self.warn(name_path, f"{kind} {name!r} of {entry.plugin.owner} is deprecated: {mark}")
        self.deprecated(validated, path)
        return Chosen(kind, name, target, validated, path, entry.plugin.owner, entry.component.summary)

    def deprecated(self, section: BaseModel, path: KeyPath) -> None:
        for keys, mark in deprecated_keys(section):
            self.warn((*path, *keys), f"is deprecated: {mark}")

    def named(self, kind: str, value: Any, path: KeyPath, reserved: Iterable[str] = ("name",)) -> Chosen | None:
        """A component given as a name, or as a mapping with `name` and options."""
        if isinstance(value, str):
            return self.component(kind, value, {}, path, path, reserved)
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            names = ", ".join(self.registry.names(kind)) or "none installed"
            self.problem(path, f"name the {kind} here, as text or under `name` beside its options; there are: {names}")
            return None
        options = {key: option for key, option in value.items() if key != "name"}
        return self.component(kind, value["name"], options, path, (*path, "name"), reserved)

    def encoders(self, modalities: dict) -> Iterator[tuple[str, Chosen | None]]:
        taken = ModuleDict()
        for name, value in modalities.items():
            path = ("modalities", name)
            if hasattr(taken, str(name)):
                self.problem(path, "torch keeps this name for itself; give the modality another")
            if isinstance(value, str):
                yield name, self.named("encoder", value, path)
            elif isinstance(value, dict) and "encoder" in value:
                yield name, self.named("encoder", value["encoder"], (*path, "encoder"))

    def losses(self, value: Any) -> Iterator[tuple[Chosen | None, Weight]]:
        """The three forms of `loss`: a name or mapping with `name`, a mapping from names to weights, a list."""
        terms: list[tuple[KeyPath, Any, str | None]] = [(("loss",), value, None)]
        if isinstance(value, dict) and "name" not in value:
            terms = [(("loss", name), item, str(name)) for name, item in value.items()]
        elif isinstance(value, list):
            terms = [(("loss", i), item, None) for i, item in enumerate(value)]
        if not terms:
            self.problem(("loss",), "at least one loss is needed")
        seen: set[str] = set()
        for path, item, name in terms:
            weight: Weight
            if isinstance(item, dict) and not (name and is_weight(item)):
                options = {key: option for key, option in item.items() if key != "weight"}
                weight = self.weight(item.get("weight", 1.0), (*path, "weight"))
            else:
                options, weight = (item, 1.0) if name is None else ({}, self.weight(item, path))
            if name is None:
                chosen = self.named("loss", options, path, ("name", "weight"))
            else:
                chosen = self.component("loss", name, options, path, path, ("weight",))
            if chosen and chosen.name in seen:
                self.problem(path, f"{chosen.name} is given twice; a loss is one term")
            elif chosen:
                seen.add(chosen.name)
            yield chosen, weight

    def weight(self, value: Any, path: KeyPath) -> Weight:
        if isinstance(value, dict):
            return self.model(Schedule, value, path) or 0.0
        if isinstance(value, str) and value in get_args(Learned):
            return cast(Learned, value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            forms = "a number of 0 or more, a schedule such as {from: 0, to: 0.5}, `uncertainty` or `dwa`"
            self.problem(path, f"a weight is {forms}{shown(value)}")
            return 0.0
        return float(value)

    def task(self, keys: RecipeKeys, losses: Sequence[tuple[Chosen | None, Weight]]) -> None:
        """What depends on the task and on the number of epochs."""
        for loss, weight in losses:
            if loss is None:
                continue
            if keys.task not in (kinds := getattr(loss.target, "tasks", ())):
                self.problem(loss.path, f"{loss.name} is for {' and '.join(kinds)}, and the task is {keys.task}")
            if isinstance(weight, Schedule) and (found := weight.problem(keys.train.epochs)):
                key, message = found
                long = (*loss.path, "weight") in self.located.positions
                self.problem((*loss.path, *(["weight"] if long else []), key), message)
        if keys.task == "retrieval" and keys.baselines:
            self.problem(("baselines",), "a retrieval needs both modalities: none of them alone is a baseline")
        if keys.train.balance is not None and keys.task != "classification":
            self.problem(
                ("train", "balance"), f"gradients are balanced by the scores of classes; the task is {keys.task}"
            )

    def metrics(self, value: Any) -> Iterator[Chosen | None]:
        """The metrics that stand in the list `metrics`, if it is one."""
        seen: set[str] = set()
        for i, item in enumerate(value if isinstance(value, list) else ()):
            path: KeyPath = ("metrics", i)
            chosen = self.named("metric", item, path)
            if chosen and chosen.name in TAKEN:
                self.problem(path, f"{chosen.name} is the name of a figure or key of every result; it needs another")
            elif chosen and chosen.name in seen:
                self.problem(path, f"{chosen.name} is given twice; a metric is one figure")
            elif chosen:
                seen.add(chosen.name)
            yield chosen

    def figures(
        self, keys: RecipeKeys, losses: Sequence[tuple[Chosen | None, Weight]], metrics: Sequence[Chosen | None]
    ) -> None:
        """The metrics are for the task and have names of their own, and what `train.select` names is a figure."""
        terms = {loss.name for loss, _ in losses if loss}
        for metric in metrics:
            if metric is None:
                continue
            if keys.task not in (kinds := metric.target.tasks):  # type: ignore[attr-defined]
                self.problem(metric.path, f"{metric.name} is for {' and '.join(kinds)}, and the task is {keys.task}")
            if metric.name in terms:
                self.problem(
                    metric.path, f"{metric.name} is a term of the loss as well; both would be val/{metric.name}"
                )
        known = ["loss", *HEADLINES[keys.task], *([raters.NAME] if keys.task == "classification" else [])]
        known += [str(item.get("name") if isinstance(item, dict) else item) for item in keys.metrics]
        select = keys.train.select
        if select is None or select in known:
            return
        remedy = suggestion(select, known)
        if select in self.registry.names("metric"):
            remedy = f"; to select by the metric {select}, name it under `metrics` too"
        self.problem(("train", "select"), f"{keys.task} has no figure {select!r}{remedy}")

    def parts(self, train: Any, modalities: Iterable[str]) -> None:
        """What the `lr_scale` of `train` and of its stages name are parts of this model."""
        known = {*PARTS, *(f"encoder.{name}" for name in modalities)}
        held = train if isinstance(train, dict) else {}
        stages = held.get("stages")
        sections: list[tuple[KeyPath, Any]] = [(("train",), held)]
        sections += [
            (("train", "stages", i), stage) for i, stage in enumerate(stages if isinstance(stages, list) else ())
        ]
        for path, section in sections:
            scales = section.get("lr_scale") if isinstance(section, dict) else None
            for part in scales if isinstance(scales, dict) else ():
                if part not in known:
                    self.problem((*path, "lr_scale", part), f"no such part of the model{suggestion(str(part), known)}")

    def stages(self, train: Train) -> None:
        """The stages fill the epochs."""
        done = 0
        for i, stage in enumerate(train.stages):
            last, left = i == len(train.stages) - 1, train.epochs - done
            path: KeyPath = ("train", "stages", i)
            if stage.epochs is None and not last:
                self.problem(path, "say how many `epochs` it has; they may be left out of the last stage alone")
                return
            if left < (stage.epochs or 1):
                path = (*path, "epochs") if stage.epochs else path
                self.problem(path, f"of the {train.epochs} epochs {left} are left for it")
                return
            if last and stage.epochs is not None and stage.epochs < left:
                self.problem((*path, "epochs"), f"the stages end after {done + stage.epochs} of {train.epochs} epochs")
            done += stage.epochs or left
