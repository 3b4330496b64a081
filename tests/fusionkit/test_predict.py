"""Predictions of new samples: what is written and said, and which data are refused."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fusionkit_fakes import Toy, recipe, registry
from pydantic import NonNegativeInt, PositiveInt
from rich.console import Console

from fusionkit.components import Component
from fusionkit.contract import Index, Sample
from fusionkit.errors import BadSample, FusionkitError, RequestError
from fusionkit.experiment import run
from fusionkit.predict import Answered, predict
from fusionkit.progress import Progress
from fusionkit.recipe import load_recipe
from fusionkit.registry import Entry, Registry
from fusionkit.runs import Run
from fusionkit.saved import SavedRun

pytestmark = pytest.mark.usefixtures("undrawn")


class Site(Toy):
    """Toys of which other sites have more, fewer, or worse.

    Args:
        samples: how many.
        site: starts their names.
        begin: the first one.
        offers: the modalities.
        lacks: every so many samples have no vector.
        broken: samples that cannot be read.
        empty: samples without any modality.
        great: samples that hold numbers beyond all bounds.
        deadly: a sample at which the process that reads it dies.
        listed_bad: names found bad while listing.
        labels: what it knows of them.
        long: the most steps.
        side: of the map.
    """

    def __init__(
        self,
        *,
        samples: NonNegativeInt = 60,
        site: str = "s",
        begin: NonNegativeInt = 0,
        offers: Sequence[str] = ("image", "vector", "steps"),
        lacks: NonNegativeInt = 0,
        broken: Sequence[int] = (),
        empty: Sequence[int] = (),
        great: Sequence[int] = (),
        deadly: int = -1,
        listed_bad: Sequence[str] = (),
        labels: str = "abc",
        long: PositiveInt = 4,
        side: PositiveInt = 6,
    ):
        super().__init__(samples=samples, side=side)
        self.site, self.begin, self.offers, self.lacks = site, begin, offers, lacks
        self.broken, self.empty, self.great, self.listed_bad = broken, empty, great, listed_bad
        self.labels, self.long, self.deadly = labels, long, deadly

    def inputs(self) -> dict[str, Any]:
        offered = super().inputs()
        offered["steps"] = replace(offered["steps"], shape=(self.long, 3))
        return {name: offered[name] for name in self.offers}

    def index(self, progress: Any = None) -> Index:
        index = super().index()
        bad = [(name, BadSample("line is cut", "visits.txt", line=7)) for name in self.listed_bad]
        targets = np.minimum(index.targets, len(self.labels) - 1)
        ids = [f"{self.site}{self.begin + i}" for i in range(self.samples)]
        return replace(index, ids=ids, bad=bad, targets=targets, class_names=tuple(self.labels))

    def read(self, i: int) -> Sample:
        if i == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if i in self.broken:
            raise BadSample("is cut short", f"tile{i}.tif")
        if i in self.empty:
            return {}
        sample = super().read(self.begin + i)
        if i in self.great:
            sample["image"] = np.full((2, 6, 6), 3e38, np.float32)
        return sample | ({"vector": None} if self.lacks and i % self.lacks == 0 else {})


def parts() -> Registry:
    made = registry()
    made.components.append(Entry(Component("dataset", "site", f"{__name__}:Site"), made.plugins[0]))
    return made


@pytest.fixture(autouse=True)
def fakes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = parts()
    monkeypatch.setattr("fusionkit.recipe.load_registry", lambda: made)


MODALITIES = {"image": "conv", "vector": "linear", "steps": "linear"}


def trained(folder: Path, **changes: Any) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fusionkit.recipe.load_registry", parts)
        data = {"source": "site", "batch_size": 8}
        whole = recipe(**({"modalities": MODALITIES, "train": {"epochs": 1}, "data": data} | changes))
        return run(load_recipe(whole), runs=folder, progress=Progress(Console(file=StringIO())))


@pytest.fixture(scope="module")
def always(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that has seen every modality in every sample."""
    return trained(tmp_path_factory.mktemp("always"))


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One from which the vector was taken in training."""
    return trained(tmp_path_factory.mktemp("without"), augment=[{"name": "jitter", "drop": 0.5}])


@dataclass
class Done:
    """A prediction: what it returned, wrote and said."""

    answered: Answered
    table: pd.DataFrame
    bad: list[list[str]] | None
    said: str


@pytest.fixture
def done(tmp_path: Path) -> Callable[..., Done]:
    def done(run: Run, *overrides: str, absent: Sequence[str] = (), name: str = "out.csv") -> Done:
        said = StringIO()
        output = tmp_path / name
        answered = predict(
            run.path, output, overrides=overrides, absent=absent, progress=Progress(Console(file=said, width=300))
        )
        read = pd.read_parquet if output.suffix == ".parquet" else pd.read_csv
        listed = tmp_path / "out.bad.csv"
        bad = [line.split(",") for line in listed.read_text().splitlines()] if listed.exists() else None
        assert not list(tmp_path.glob("*.part"))
        return Done(answered, read(output), bad, said.getvalue())

    return done


# What is written


def test_its_own_test_samples_are_answered_as_in_its_predictions(always: Run, done: Callable[..., Done]) -> None:
    found = done(always)
    assert list(found.table) == ["id", "prediction", "p_a", "p_b", "p_c"]
    assert found.table["id"].tolist() == [f"s{i}" for i in range(60)]  # those of train and val, too
    told = pd.read_csv(always.path / "predictions.csv").set_index("id")
    own = found.table.set_index("id").loc[told.index]
    assert own["prediction"].tolist() == told["prediction"].tolist()
    columns = ["p_a", "p_b", "p_c"]
    np.testing.assert_allclose(own[columns], told[columns], rtol=2e-6)
    assert found.bad is None
    assert found.said == "60 samples answered\n"


def test_new_samples_in_parquet_by_loader_processes(always: Run, done: Callable[..., Done]) -> None:
    new = done(always, "data.begin=60", "data.samples=21", "data.site=new", "data.num_workers=2", name="out.parquet")
    assert new.table["id"].tolist() == [f"new{60 + i}" for i in range(21)]
    saved = SavedRun.load(always.path)
    expected = saved.answers(saved.batch([Toy().read(60 + i) for i in range(21)]))
    np.testing.assert_allclose(new.table[["p_a", "p_b", "p_c"]], expected, rtol=2e-6)
    assert new.table["prediction"].tolist() == [("a", "b", "c")[k] for k in expected.argmax(1)]
    np.testing.assert_array_equal(new.answered.answers, new.table[["p_a", "p_b", "p_c"]])


@pytest.mark.parametrize(
    ("task", "columns"),
    [("labels", ["p_bright", "p_long"]), ("quantities", ["prediction_light", "prediction_length"])],
)
def test_labels_and_quantities(tmp_path: Path, done: Callable[..., Done], task: str, columns: list[str]) -> None:
    kind, loss = {"labels": ("multilabel", "binary"), "quantities": ("regression", "squares")}[task]
    made = trained(tmp_path / "runs", task=kind, loss=loss, data={"source": f"toy{task}", "batch_size": 8})
    found = done(made)
    assert list(found.table) == ["id", *columns]
    assert len(found.table) == 60  # every tenth has no target
    told = pd.read_csv(made.path / "predictions.csv").set_index("id")
    np.testing.assert_allclose(found.table.set_index("id").loc[told.index][columns], told[columns], rtol=2e-6)


def test_samples_without_labels(always: Run, done: Callable[..., Done]) -> None:
    unlabelled, labelled = done(always, "data.labels=''"), done(always)
    pd.testing.assert_frame_equal(unlabelled.table, labelled.table)
    pd.testing.assert_frame_equal(done(always, "data.labels=b").table, labelled.table)  # a site with a class alone


# Bad samples


def test_bad_samples_are_listed_and_the_others_answered(always: Run, done: Callable[..., Done]) -> None:
    found = done(
        always, "data.broken=[3, 20]", "data.empty=[8]", "data.great=[9]", "data.listed_bad=[s1, gone]",
        "data.max_bad=0.1", "data.num_workers=2",
    )  # fmt: skip
    assert found.bad == [
        ["id", "path", "line", "reason"],
        ["s1", "visits.txt", "7", "line is cut"],
        ["gone", "visits.txt", "7", "line is cut"],
        ["s3", "tile3.tif", "", "is cut short"],
        ["s8", "", "", "no modality is present"],
        ["s9", "", "", "the answer is no finite number"],
        ["s20", "tile20.tif", "", "is cut short"],
    ]
    assert found.table["id"].tolist() == [f"s{i}" for i in range(60) if i not in (3, 8, 9, 20)]
    assert (found.answered.lost, found.answered.total) == (5, 61)
    assert found.said.startswith("56 samples answered, 5 bad (see ")
    whole = done(always).table
    pd.testing.assert_frame_equal(
        found.table, whole[whole["id"].isin(found.table["id"])].reset_index(drop=True), rtol=1e-5
    )
    assert not (Path(found.said.partition("(see ")[2].partition(")")[0])).exists()  # of the earlier prediction


def test_a_sample_that_kills_its_reader_is_bad(always: Run, done: Callable[..., Done]) -> None:
    found = done(always, "data.deadly=13", "data.max_bad=0.02")
    assert found.bad is not None
    assert found.bad[1:] == [["s13", "", "", "the process that reads it dies (SIGKILL)"]]
    assert len(found.table) == 59


def test_too_many_bad_samples_are_refused_and_listed(always: Run, done: Callable[..., Done], tmp_path: Path) -> None:
    with pytest.raises(FusionkitError, match=r"1 of 60 samples \(1\.7%\) are bad, more than data\.max_bad \(1\.0%\)"):
        done(always, "data.broken=[3]")
    assert (tmp_path / "out.bad.csv").read_text() == "id,path,line,reason\ns3,tile3.tif,,is cut short\n"
    assert not (tmp_path / "out.csv").exists()
    broken = f"data.broken={list(range(60))}"
    with pytest.raises(
        FusionkitError, match=r"none of 60 samples could be answered; .*out\.bad\.csv says why"
    ) as error:
        done(always, broken, "data.max_bad=1")
    assert error.value.exit_code == 1
    assert len((tmp_path / "out.bad.csv").read_text().splitlines()) == 61


# Absent modalities


def test_a_modality_that_is_absent_from_all_samples(without: Run, done: Callable[..., Done]) -> None:
    not_offered = done(without, "data.offers=[steps, image]")
    assert list(not_offered.table) == ["id", "absent", "prediction", "p_a", "p_b", "p_c"]
    assert set(not_offered.table["absent"]) == {"vector"}
    note = "note: vector is absent in all samples; in training it was left out in training by jitter\n"
    assert not_offered.said == f"{note}60 samples answered\n"
    pd.testing.assert_frame_equal(done(without, absent=["vector"]).table, not_offered.table)
    pd.testing.assert_frame_equal(done(without, "data.lacks=1").table, not_offered.table)
    saved = SavedRun.load(without.path)
    expected = saved.answers(saved.batch([Toy().read(i) | {"vector": None} for i in range(60)]))
    np.testing.assert_allclose(not_offered.table[["p_a", "p_b", "p_c"]], expected, rtol=2e-6)


def test_a_modality_that_some_samples_lack(always: Run, done: Callable[..., Done]) -> None:
    found = done(always, "data.lacks=4")
    assert found.table["absent"].fillna("").tolist() == ["vector", "", "", ""] * 15
    assert "note: vector is absent in 15 of 60 samples; in training it was never absent\n" in found.said


def test_a_modality_that_the_run_needs(always: Run, without: Run, done: Callable[..., Done]) -> None:
    never = r"was never trained without it; train with `augment: \[modality_dropout\]`"
    with pytest.raises(RequestError, match=rf"vector is not offered by site, and .* {never}"):
        done(always, "data.offers=[image, steps]")
    with pytest.raises(RequestError, match=rf"vector is said to be absent, and .* {never}"):
        done(always, absent=["vector"])
    with pytest.raises(RequestError, match=rf"vector is absent in all samples, and .* {never}"):
        done(always, "data.lacks=1")
    with pytest.raises(RequestError, match="image is not offered by site"):
        done(without, "data.offers=[vector, steps]")
    with pytest.raises(RequestError, match="reads no modality 'vektor'; did you mean 'vector'"):
        done(always, absent=["vektor"])


# What is refused


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("data.labels=abx", r"data\.source: the data tell of x; .* predicts a, b, c"),
        ("data.side=8", r"image is 2 x 8 x 8 here; .* was trained with 2 x 6 x 6"),
        ("data.samples=0", "there are no samples"),
        ("data.sampels=3", "did you mean 'samples'"),
        ("train.precision=16", r"train\.precision=16: a finished run answers as it was trained; only data\.\* can"),
        ("modalities.image.encoder=fixed", "only data"),
    ],
)
def test_data_that_do_not_fit(always: Run, done: Callable[..., Done], tmp_path: Path, override: str, told: str) -> None:
    with pytest.raises(RequestError, match=told) as error:
        done(always, override)
    assert len(str(error.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_sequences_may_be_announced_shorter_or_longer(always: Run, done: Callable[..., Done]) -> None:
    pd.testing.assert_frame_equal(done(always, "data.long=9").table, done(always).table)


def test_outputs_that_cannot_be(always: Run, done: Callable[..., Done], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"out\.txt: predictions are written as \.csv or \.parquet"):
        done(always, name="out.txt")
    with pytest.raises(RequestError, match="none is no folder"):
        done(always, name="none/out.csv")
    before = (always.path / "predictions.csv").read_bytes()
    with pytest.raises(RequestError, match="what a run has left stays as it is"):
        predict(always.path, always.path / "predictions.csv")
    assert (always.path / "predictions.csv").read_bytes() == before
    with pytest.raises(RequestError, match="is no run folder"):
        predict(tmp_path / "nothing", tmp_path / "out.csv")


# By the command line, with a shipped dataset

RECIPE = """
data:
  source: arrays
  root: old
  inputs: {near: "toy.npz:near", far: "toy.npz:far"}
  labels: "toy.npz:label"
  split: {test: 0.25, val: 0.25}
  batch_size: 16
modalities: {near: mlp, far: mlp}
fusion: {name: concat, dim: 8}
augment: [{name: modality_dropout, probability: {far: 0.3}}]
train: {epochs: 1}
"""


def test_the_command(fusionkit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # with the components that are installed
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    near, far = (random.normal(size=(80, 3)).astype(np.float32) for _ in range(2))
    for folder, label in (("old", np.arange(80) % 4), ("new", np.where(np.arange(80) < 40, np.nan, 2.0))):
        Path(folder).mkdir()
        np.savez(f"{folder}/toy.npz", near=near, far=far, label=label)
    Path("toy.yaml").write_text(RECIPE)
    trained = fusionkit("run", "toy.yaml")
    assert trained.code == 0
    path = Path(trained.out.strip())
    new = fusionkit("predict", path, "data.root=new", "-o", "new.csv")
    assert (new.code, new.out) == (0, "new.csv\n")
    assert "80 samples answered" in new.err
    told, found = (
        pd.read_csv(name, dtype={"id": str}).set_index("id") for name in (path / "predictions.csv", "new.csv")
    )
    columns = [f"p_{k}" for k in range(4)]
    np.testing.assert_allclose(found.loc[told.index, columns], told[columns], rtol=2e-6)

    alone = fusionkit("predict", path, "data.root=new", 'data.inputs={near: "toy.npz:near"}', "-o", "near.csv")
    assert (alone.code, alone.out) == (0, "near.csv\n")
    assert (
        "note: far is absent in all samples; in training it was left out in training by modality_dropout" in alone.err
    )
    said = fusionkit("predict", path, "--absent", "far", "-o", "said.csv")
    assert Path("said.csv").read_bytes() == Path("near.csv").read_bytes()
    assert said.code == 0

    needed = fusionkit("predict", path, "--absent", "near", "-o", "far.csv")
    assert (needed.code, needed.out) == (2, "")
    assert needed.err.startswith("error: near is said to be absent, and ")
    assert needed.err.count("\n") == 1
    gone = fusionkit("predict", path, "data.root=nowhere", "-o", "far.csv")
    assert gone.code == 2
    assert "nowhere" in gone.err
    assert "Traceback" not in gone.err
    assert not Path("far.csv").exists()
