"""Collapses of embeddings are told with their cause, soon; what is healthy is left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fusionkit import experiment
from fusionkit.collapse import Collapse, Facts, Look
from fusionkit.progress import Progress
from fusionkit.runs import Run

pytestmark = pytest.mark.usefixtures("undrawn")

FACTS = Facts(("info_nce",), pushes=True, lr=0.001)
WELL = Look(32, {"a": -2.5, "b": -2.0}, {"a": 14.0, "b": 12.0}, {"from a to b": 0.1}, 0.07)


def told(facts: Facts, *looks: Look) -> list[str]:
    watched = Collapse(facts)
    return [text for look in looks for text in watched.show(look)]


@pytest.mark.parametrize(
    "after",
    [
        replace(WELL, uniformity={"a": -0.4, "b": -0.5}),  # a cone on the way
        replace(WELL, uniformity={"a": -0.1, "b": -0.1}),  # two classes, one of them with 95 %
        replace(WELL, rank={"a": 2.0, "b": 2.0}),
        replace(WELL, hub={"from a to b": 0.4}),
    ],
)
def test_what_is_no_collapse(after: Look) -> None:
    assert told(FACTS, WELL, after, after, after) == []
    assert told(FACTS, after, after) == []


def test_a_point() -> None:
    after = replace(WELL, uniformity={"a": -2.0, "b": -0.01})
    (text,) = told(FACTS, WELL, after, after, after)
    assert text == (
        "the embeddings collapse: those of b close in on one point (uniformity -0.01, -2 at first). The steps may be "
        "too long; lower train.lr (0.001) or set train.warmup_steps"
    )
    assert told(FACTS, WELL, after, WELL, after) == []  # once is no proof
    cone = replace(WELL, uniformity={"a": -0.04, "b": -0.04})
    assert told(FACTS, cone, cone, cone) == []  # as deep encoders begin
    alike = replace(WELL, uniformity={"a": -1e-4, "b": -2.0})
    assert told(FACTS, alike, alike)  # nothing to compare with, and all the same
    few = replace(after, samples=8)
    assert "A batch has 8 samples, which are few negatives; raise data.batch_size" in told(FACTS, WELL, few, few)[0]


def test_no_negatives() -> None:
    after = replace(WELL, uniformity={"a": -1.0, "b": -0.9}, temperature=None)
    (text,) = told(Facts(("cosine_consistency",), pushes=False, lr=0.001), WELL, after, after)
    assert "Nothing in the loss (cosine_consistency) pushes different samples apart; add a term that has neg" in text


def test_a_temperature_at_which_all_weigh_alike() -> None:
    first = replace(WELL, temperature=1.0)
    after = replace(first, rank={"a": 8.0, "b": 12.0})
    (text,) = told(FACTS, first, after, after)
    assert text == (
        "the embeddings collapse: those of a keep to few directions (effective rank 8.0, 14.0 at first). The "
        "temperature is 1, at which a perfect match weighs only 2.7 times as much as an unrelated sample; begin at "
        "0.07 and let it learn"
    )
    learned = replace(after, temperature=0.9)
    assert told(FACTS, first, learned, learned) == []


def test_a_hub() -> None:
    after = replace(WELL, hub={"from a to b": 0.6})
    assert "60% of the queries from a to b find the same wrong one nearest" in told(FACTS, WELL, after, after)[0]
    assert told(FACTS, after, after, after) == []


RECIPE = """
name: pairs
task: {task}
seed: {seed}
data:
  source: arrays
  root: {root}
  inputs: {{image: "pairs.npz:image", text: "pairs.npz:text"}}
  labels: "pairs.npz:label"
  split: {{test: 0.2, val: 0.2}}
  batch_size: 32
modalities: {{image: mlp, text: mlp}}
fusion: {fusion}
loss: {loss}
train: {{epochs: 13, lr: 3.0e-3}}
"""
DUAL = "{name: dual_encoder, dim: 64}"


def trained(folder: Path, *, hidden: int, seed: int = 0, task: str = "retrieval", fusion: str = DUAL, loss: str) -> Run:
    """52 steps on 208 pairs of vectors that share a few hidden numbers, in three classes."""
    random = np.random.default_rng(seed)
    cause = random.normal(size=(208 * 5 // 3, hidden))
    made = {
        name: cause @ random.normal(size=(hidden, width)) + 0.1 * random.normal(size=(len(cause), width))
        for name, width in (("image", 40), ("text", 30))
    }
    np.savez(folder / "pairs.npz", **made, label=(cause @ random.normal(size=(hidden, 3))).argmax(1))
    path = folder / "pairs.yaml"
    path.write_text(RECIPE.format(root=folder, seed=seed, task=task, fusion=fusion, loss=loss))
    return experiment.run(path, runs=folder / "runs", progress=Progress(quiet=True))


def warnings_of(run: Run) -> list[str]:
    page = (run.path / "report.html").read_text(encoding="utf-8")
    return [line for line in page.splitlines() if "the embeddings collapse" in line]


@pytest.mark.parametrize("hidden", [6, 30])
@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"loss": "{name: info_nce, temperature: 1.0, learn_temperature: false}"}, "The temperature is 1"),
        ({"loss": "cosine_consistency", "task": "classification"}, "Nothing in the loss (cosine_consistency) pushes"),
    ],
    ids=["temperature", "no negatives"],
)
def test_a_collapse_is_told_within_fifty_steps(tmp_path: Path, hidden: int, options: Any, cause: str) -> None:
    run = trained(tmp_path, hidden=hidden, **options)
    (line,) = warnings_of(run)
    assert cause in line
    assert int(line.partition("in step ")[2].split()[0]) <= 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("hidden", "options"),
    [
        (6, {"loss": "info_nce"}),
        (2, {"loss": "info_nce"}),
        (30, {"loss": "{name: info_nce, temperature: 1.0}"}),
        (6, {"loss": "{name: info_nce, supervised: true}"}),
        (6, {"loss": "deep_supervision", "fusion": "semantic_matching"}),
        (6, {"loss": "{cross_entropy: 1, cosine_consistency: 0.5}", "task": "classification", "fusion": "concat"}),
    ],
    ids=["six", "two", "learned from 1", "supervised", "semantic", "classes"],
)
def test_a_healthy_run_raises_no_warning(tmp_path: Path, seed: int, hidden: int, options: Any) -> None:
    run = trained(tmp_path, hidden=hidden, seed=seed, **options)
    assert warnings_of(run) == []
    figures = pd.read_csv(run.path / "metrics.csv").filter(like="embedding/")
    assert figures.notna().all(axis=None)
    names = {"alignment/image-text", "gap/image-text", "hub_share/image-text", "hub_share/text-image"}
    names |= {f"{kind}/{name}" for kind in ("uniformity", "effective_rank") for name in ("image", "text")}
    assert set(figures) == {f"embedding/{name}" for name in names}
    assert (figures.filter(like="uniformity") < 0).all(axis=None)
