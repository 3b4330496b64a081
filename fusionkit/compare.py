"""Runs made by hand, compared: which of them are one variant, and what tells the variants apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusionkit.ablation import Ablation, ablation
from fusionkit.ablation_runs import code_version
from fusionkit.errors import RequestError
from fusionkit.runs import Run
from fusionkit.wording import plain

_SAME = {"seed", "name", "baselines", "data.root", "data.num_workers", "data.timeout"}
"""Keys that tell no variants apart. Where the data lie does not matter: their fingerprint does."""


@dataclass(frozen=True)
class Told:
    """A run as a cell: the variant that it is of, by the keys in which its recipe differs from the others."""

    name: str
    seed: int
    levels: Mapping[str, str] = field(default_factory=dict)


def compare(runs: Sequence[str | Path | Run], reference: str | None = None) -> Ablation:
    """Compare finished runs, paired by seed and by test sample; as `fusionkit.ablation.ablation` does.

    Runs whose recipes differ in nothing but the seed are one variant. The first run's is the reference.

    Args:
        runs: their folders.
        reference: the name of another variant or of a baseline, such as `image alone`.

    Raises:
        RequestError: as for `ablation`.
        DataError: a run's files are broken.
    """
    held = [run if isinstance(run, Run) else Run.load(run) for run in runs]
    for run in held:
        run.result  # noqa: B018 - an unfinished run is told before anything else
    return ablation(list(zip(tell_apart(held), held, strict=True)), reference)


def tell_apart(runs: Sequence[Run]) -> list[Told]:
    """Name every run's variant by what differs between their recipes.

    Where a component differs, its name stands for it: `fusion=gmu`. Its options are told where those of two runs with
    the same component differ. Recipes that have names of their own, one a variant, go by these. Runs that are alike in
    recipe and seed are told apart by the code that made them.

    Raises:
        RequestError: two runs do not differ at all.
    """
    flat = [dict(_flat(run.resolved)) for run in runs]
    levels = _levels(flat)
    seeds = [run.result.seed for run in runs]
    if _repeated(levels, seeds) is not None:
        for level, run in zip(levels, runs, strict=True):
            level["code"] = code_version(run)
        if (pair := _repeated(levels, seeds)) is not None:
            first, second = (runs[k].path for k in pair)
            raise RequestError(f"{first} and {second} are of the same recipe, seed and code: leave one out")
    names = [str(told.get("name", "")) for told in flat]
    variants = [", ".join(f"{key}={value}" for key, value in level.items()) for level in levels]
    by_name = dict(zip(names, variants, strict=True))
    if len(by_name) == len(set(names)) == len(set(variants)) > 1 and [by_name[name] for name in names] == variants:
        variants = names
    return [
        Told(variant or names[0] or "recipe", seed, level)
        for variant, seed, level in zip(variants, seeds, levels, strict=True)
    ]


def _levels(flat: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """By run, the keys that differ between runs with their values."""
    keys = dict.fromkeys(key for told in flat for key in told)
    differing = [key for key in keys if key not in _SAME and len({plain(told.get(key)) for told in flat}) > 1]
    named = [key.removesuffix(".name") for key in differing if key.endswith(".name")]
    shown: list[str] = []
    for key in differing:
        owner = next((part for part in named if key.startswith(f"{part}.") and key != f"{part}.name"), None)
        if owner is not None:
            by_component: dict[str, set[str]] = {}
            for told in flat:
                by_component.setdefault(plain(told.get(f"{owner}.name")), set()).add(plain(told.get(key)))
            if all(len(values) == 1 for values in by_component.values()):
                continue
        shown.append(key)
    return [{key.removesuffix(".name"): plain(told.get(key, "none")) for key in shown} for told in flat]


def _repeated(levels: Sequence[Mapping[str, str]], seeds: Sequence[int]) -> tuple[int, int] | None:
    seen: dict[tuple[Any, ...], int] = {}
    for k, (level, seed) in enumerate(zip(levels, seeds, strict=True)):
        first = seen.setdefault((*level.items(), seed), k)
        if first != k:
            return first, k
    return None


def _flat(told: Any, above: str = "") -> list[tuple[str, Any]]:
    """Dotted keys and values of a resolved recipe."""
    if isinstance(told, dict):
        pairs = list(told.items())
    elif isinstance(told, list):
        pairs = list(enumerate(told))
    else:
        return [(above, told)]
    return [pair for key, held in pairs for pair in _flat(held, f"{above}.{key}" if above else str(key))]
