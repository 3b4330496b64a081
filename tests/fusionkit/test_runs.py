"""The run folder: made once, whole files only, nothing outside it, and read back as it was written."""

import csv
import json
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from fusionkit.errors import DataError, RequestError
from fusionkit.estimates import Estimate
from fusionkit.predictions import Predictions
from fusionkit.result import Result
from fusionkit.runs import Run, RunFolder, to_yaml
from fusionkit.yamlfile import load_yaml


@dataclass
class Recipe:
    """What a run folder reads of a recipe."""

    sources: dict[str, str] = field(
        default_factory=lambda: {"small.yaml": "base: sub/full.yaml\n", "sub/full.yaml": "a: 1"}
    )
    workers: int = 0
    seed: int = 0

    def resolved(self):
        return {
            "name": "small",
            "seed": self.seed,
            "shape": (3, 4),
            "data": {"num_workers": self.workers, "key": "3e-5"},
        }


BAD = [SimpleNamespace(id="000007", path="a/b,c.jpg", line=None, reason='"truncated"', split="train")]


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "runs", "urfc", "concat")


def small_result():
    metrics = {name: Estimate(0.5, 0.4, 0.6) for name in ("oa", "aa", "kappa", "macro_f1", "weighted_f1")}
    return Result("urfc", "classification", "test", 4, 0, "concat", ("a", "b"), ("x", "y"), metrics, (), "bootstrap")


def names_in(folder):
    return sorted(path.name for path in folder.path.iterdir())


def test_create_makes_a_new_folder_with_a_telling_name(tmp_path):
    made = [RunFolder.create(tmp_path / "deep" / "runs", "urfc", "cross_attention") for _ in range(5)]
    assert len({folder.path for folder in made}) == 5
    for folder in made:
        assert folder.path.is_dir()
        start, fusion, day, time, digits = folder.path.name.rsplit("-", 4)
        assert (start, fusion) == ("urfc", "cross_attention")
        assert (len(day), len(time), len(digits)) == (8, 6, 4)
        int(digits, 16)


def test_create_never_takes_a_folder_that_is_there(tmp_path, monkeypatch):
    digits = iter(["aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr("fusionkit.runs.secrets.token_hex", lambda _: next(digits))
    monkeypatch.setattr(
        "fusionkit.runs.datetime", SimpleNamespace(now=lambda: pd.Timestamp("2026-11-20 23:15:01").to_pydatetime())
    )
    first = RunFolder.create(tmp_path, "urfc", "concat")
    second = RunFolder.create(tmp_path, "urfc", "concat")
    assert first.path.name == "urfc-concat-20261120-231501-aaaa"
    assert second.path.name == "urfc-concat-20261120-231501-bbbb"


@pytest.mark.parametrize("name", ["../out", "a/b", "a b", "x" * 200, "a\n"])
def test_create_refuses_what_is_no_name(tmp_path, name):
    with pytest.raises(RequestError, match="cannot start the name"):
        RunFolder.create(tmp_path, name, "concat")
    assert list(tmp_path.iterdir()) == []


def test_create_says_why_it_cannot(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="no run"):
        RunFolder.create(tmp_path / "file", "urfc", "concat")
    with pytest.raises(RequestError, match="no run"):
        RunFolder.create(tmp_path / "file" / "runs", "urfc", "concat")


def interrupted_write(folder, name, error):
    with folder.open(name) as file:
        file.write(b'{"half":')
        raise error


def test_interrupted_write_leaves_nothing(folder):
    with pytest.raises(KeyboardInterrupt):
        interrupted_write(folder, "result.json", KeyboardInterrupt())
    assert names_in(folder) == []


def test_interrupted_write_leaves_the_former_file(folder):
    folder.write_text("metrics.csv", "whole")
    with pytest.raises(OSError, match="disk is full"):
        interrupted_write(folder, "metrics.csv", OSError("disk is full"))
    assert (folder.path / "metrics.csv").read_text() == "whole"
    assert names_in(folder) == ["metrics.csv"]


def test_a_file_is_invisible_until_it_is_whole(folder):
    with folder.open("confusion.csv") as file:
        file.write(b"some")
        file.flush()
        assert not (folder.path / "confusion.csv").exists()
    assert (folder.path / "confusion.csv").read_bytes() == b"some"


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/fusionkit-out.txt", "sub/../../out.txt", "link/out.txt"])
def test_nothing_is_written_outside(folder, tmp_path, name):
    (folder.path / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="leads out"):
        folder.write_text(name, "x")
    assert not (tmp_path / "out.txt").exists()


def test_json_is_strict_and_readable(folder):
    folder.write_json("provenance.json", {"名": "铁路站", "path": folder.path})
    assert "铁路站" in (folder.path / "provenance.json").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="JSON"):
        folder.write_json("other.json", {"x": float("nan")})
    assert names_in(folder) == ["provenance.json"]


def test_begin_writes_recipe_bases_defaults_provenance_and_bad_samples(folder):
    folder.begin(Recipe(), {"seed": 0}, BAD)
    assert (folder.path / "recipe.yaml").read_text() == "base: sub/full.yaml\n"
    assert (folder.path / "bases" / "1-full.yaml").read_text() == "a: 1"
    assert yaml.safe_load((folder.path / "resolved.yaml").read_text())["shape"] == [3, 4]
    assert json.loads((folder.path / "provenance.json").read_text()) == {"seed": 0}
    with (folder.path / "bad_samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"id": "000007", "path": "a/b,c.jpg", "line": "", "reason": '"truncated"', "split": "train"}]


def test_resumed_run_keeps_the_provenance_of_earlier_sittings(folder):
    for sitting in ("first", "second", "third"):
        folder.begin(Recipe(), {"time": sitting}, [])
    told = Run.load(folder.path).provenance
    assert told == {"time": "third", "earlier": [{"time": "first"}, {"time": "second"}]}


def test_is_of_the_same_recipe_with_any_number_of_workers(folder):
    folder.begin(Recipe(), {}, [])
    assert folder.is_of(Recipe())
    assert folder.is_of(Recipe(workers=4))
    assert not folder.is_of(Recipe(seed=1))


@pytest.mark.parametrize(
    "text",
    ["3e-5", "1e5", "no", "on", "~", "", "0o17", "010", "2024-01-01", ".5", "1_000", "a: b", "x\ny", "铁路站", "{"],
)
def test_yaml_text_stays_text_for_both_readers(text):
    written = to_yaml({"a": [text, 1e-05, 3, None, True]})
    assert load_yaml(written, "x").data == {"a": [text, 1e-05, 3, None, True]}
    assert yaml.safe_load(written) == {"a": [text, 1e-05, 3, None, True]}


def test_metrics_have_the_columns_of_all_models(folder):
    folder.write_metrics([{"model": "image", "epoch": 1, "val/oa": 0.5}, {"model": "fusion", "epoch": 1, "extra": 2}])
    table = pd.read_csv(folder.path / "metrics.csv")
    assert list(table.columns) == ["model", "epoch", "val/oa", "extra"]
    assert np.isnan(table["val/oa"][1])


HOSTILE = ["a,b", 'say "x"', "line\nbreak", "铁路站", "<script>alert(1)</script>", "NA", " spaced ", "id"]


def hostile_predictions(n=50, dtype=np.float32):
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(len(HOSTILE)), n).astype(dtype)
    ids = [f"{i:06d}" for i in range(n - 3)] + ["NA", "a,b", "多"]
    groups = np.array([f"0{i % 7}" for i in range(n)])
    return Predictions(ids, random.integers(0, len(HOSTILE), n), probabilities, groups, np.arange(n) % 5)


def test_large_predictions_are_parquet(folder, monkeypatch):
    monkeypatch.setattr("fusionkit.runs.MOST_CSV_ROWS", 49)
    folder.write_predictions(hostile_predictions(), HOSTILE)
    assert names_in(folder) == ["predictions.parquet"]
    assert len(Run(folder.path).predictions) == 50


def test_predictions_that_are_not_those_of_the_result_are_refused(folder):
    folder.write_predictions(hostile_predictions(), HOSTILE)
    folder.finish(small_result())
    with pytest.raises(DataError, match="50 predictions, but the result is of 4"):
        _ = Run.load(folder.path).predictions


def test_confusion_round_trip(folder):
    counts = np.arange(64).reshape(8, 8)
    folder.write_confusion(counts, HOSTILE)
    np.testing.assert_array_equal(Run(folder.path).confusion, counts)
    with (folder.path / "confusion.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["reference", *HOSTILE]
    assert [row[0] for row in rows[1:]] == HOSTILE


def test_confusion_of_labels_round_trip(folder):
    counts = np.arange(12).reshape(3, 2, 2)
    folder.write_confusion(counts, HOSTILE[:3])
    np.testing.assert_array_equal(Run(folder.path).confusion, counts)
    with (folder.path / "confusion.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["label", "true_negatives", "false_positives", "false_negatives", "true_positives"]
    assert rows[2] == [HOSTILE[1], "4", "5", "6", "7"]


@pytest.mark.parametrize("text", ["", "reference,a,b\na,1,2\n", "reference,a\na,x\n"])
def test_broken_confusion_is_refused(folder, text):
    (folder.path / "confusion.csv").write_text(text)
    with pytest.raises(DataError):
        _ = Run(folder.path).confusion


def test_unfinished_run_is_recognised(folder):
    folder.begin(Recipe(), {}, [])
    run = Run.load(folder.path)
    assert not run.finished
    with pytest.raises(RequestError, match="unfinished run"):
        _ = run.result


def test_finished_run_gives_its_result(folder):
    folder.begin(Recipe(), {}, [])
    folder.finish(small_result())
    run = Run.load(folder.path)
    assert run.finished
    assert run.result == small_result()
    assert run.resolved["seed"] == 0


def test_broken_result_names_the_file(folder):
    folder.begin(Recipe(), {}, [])
    (folder.path / "result.json").write_text('{"format": 1, "name"')
    with pytest.raises(RequestError, match=r"result\.json: not readable as JSON"):
        _ = Run.load(folder.path).result


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RequestError, match="no run folder"):
        Run.load(tmp_path)
    with pytest.raises(RequestError, match="no run folder"):
        Run.load(tmp_path / "missing")


def test_run_of_a_known_result_needs_no_file(folder):
    assert Run(folder.path, small_result()).result.n == 4


@pytest.mark.parametrize("name", ["provenance", "resolved", "metrics", "predictions", "confusion"])
def test_missing_parts_are_named(folder, name):
    with pytest.raises(DataError, match=name):
        getattr(Run(folder.path), name)
