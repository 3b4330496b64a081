"""A model's answers: what they mean, the files that hold them, and files that are no such."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fusionkit import multilabel
from fusionkit.errors import DataError
from fusionkit.predictions import Predictions, read_predictions, write_predictions

HOSTILE = ["a,b", 'say "x"', "line\nbreak", "铁路站", "<script>alert(1)</script>", "NA", " spaced ", "id"]
KINDS = ["classification", "multilabel", "regression"]


def some(task: str, n: int = 50, dtype: Any = np.float64, **facts: Any) -> Predictions:
    """Answers for samples and classes, labels or quantities with hostile names."""
    random = np.random.default_rng(0)
    width = len(HOSTILE)
    target, answers = {
        "classification": (random.integers(0, width, n), random.dirichlet(np.ones(width), n)),
        "multilabel": (random.integers(0, 2, (n, width)), random.random((n, width))),
        "regression": (1e4 * random.normal(size=(n, width)), 1e-7 + 300 * random.normal(size=(n, width))),
    }[task]
    ids = [f"{i:06d}" for i in range(n - 3)] + ["NA", "a,b", "多"]
    facts = {"groups": np.array([f"0{i % 7}" for i in range(n)]), "fold": np.arange(n) % 5} | facts
    return Predictions(ids, target, answers.astype(dtype), task=task, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("task", KINDS)
def test_round_trip(tmp_path: Path, suffix: str, dtype: Any, task: str) -> None:
    written = some(task, dtype=dtype)
    path = tmp_path / f"predictions.{suffix}"
    write_predictions(path, written, HOSTILE)
    found, names = read_predictions(path)
    assert names == tuple(HOSTILE)
    assert found.task == task
    assert list(found.ids) == list(written.ids)
    np.testing.assert_array_equal(found.target, written.target)
    assert found.target.dtype == written.target.dtype
    np.testing.assert_array_equal(found.answers.astype(dtype), written.answers)
    np.testing.assert_array_equal(found.prediction.astype(dtype), written.prediction.astype(dtype))
    assert found.groups is not None
    np.testing.assert_array_equal(found.groups, written.groups)
    assert found.fold is not None
    assert found.fold.tolist() == [str(i % 5) for i in range(50)]


@pytest.mark.parametrize("task", KINDS)
def test_facts_that_are_not_there_stay_so(tmp_path: Path, task: str) -> None:
    write_predictions(tmp_path / "p.csv", some(task, groups=None, fold=None), HOSTILE)
    found, _ = read_predictions(tmp_path / "p.csv")
    assert (found.groups, found.fold) == (None, None)


@pytest.mark.parametrize(
    ("predictions", "names", "expected"),
    [
        (
            Predictions(["000001"], np.array([1]), np.array([[0.75, 0.25]])),
            ["park", "airport"],
            "id,target,prediction,p_park,p_airport\n000001,airport,park,0.75,0.25\n",
        ),
        (
            Predictions(["7"], np.array([[1, 0]]), np.array([[0.5, 0.25]]), np.array(["x"]), task="multilabel"),
            ["water", "wood"],
            "id,target_water,target_wood,group,p_water,p_wood\n7,1,0,x,0.5,0.25\n",
        ),
        (
            Predictions(["7"], np.array([[2.5]]), np.array([[-1.0]]), fold=np.array([3]), task="regression"),
            ["moisture"],
            "id,target_moisture,fold,prediction_moisture\n7,2.5,3,-1.0\n",
        ),
    ],
    ids=KINDS,
)
def test_a_csv_is_what_a_reader_expects(
    tmp_path: Path, predictions: Predictions, names: list[str], expected: str
) -> None:
    write_predictions(tmp_path / "predictions.csv", predictions, names)
    assert (tmp_path / "predictions.csv").read_text() == expected


def test_what_is_predicted() -> None:
    answers = np.array([[0.4, 0.4, 0.2], [0.1, 0.5, 0.51]])
    classes = Predictions(["a", "b"], np.array([0, 1]), answers)
    assert classes.prediction.tolist() == [0, 2]
    labels = Predictions(["a", "b"], np.array([[0, 1, 0], [1, 1, 1]]), answers, task="multilabel")
    assert labels.prediction.tolist() == [[0, 0, 0], [0, 0, 1]]
    np.testing.assert_array_equal(labels.prediction, multilabel.decide(answers))
    quantities = Predictions(["a", "b"], answers, answers + 1, task="regression")
    np.testing.assert_array_equal(quantities.prediction, answers + 1)


@pytest.mark.parametrize("task", KINDS)
def test_answers_in_another_order(task: str) -> None:
    held = some(task)
    order = np.random.default_rng(1).permutation(len(held))
    np.testing.assert_array_equal(held.of([held.ids[place] for place in order]), held.answers[order])
    first, *rest = held.ids
    for others in (rest, [*rest, "other"], [first, *rest, "other"], [*rest, rest[0]], [first, *rest, first]):
        with pytest.raises(ValueError, match="other samples"):
            held.of(others)


# What cannot be


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": np.array([0])}, "1 target for 2 samples"),
        ({"answers": np.ones((3, 2))}, "3 probabilities for 2 samples"),
        ({"answers": np.ones((3, 2)), "task": "regression"}, "3 quantities for 2 samples"),
        ({"groups": np.array(["x"])}, "1 groups for 2 samples"),
        ({"fold": np.array([1, 2, 3])}, "3 fold for 2 samples"),
        ({"answers": np.ones(2)}, r"probabilities are \[n, K\], not \(2,\)"),
        ({"answers": np.array([[1, 0], [np.nan, 1]])}, "probabilities of 1 samples are no numbers, first b"),
        ({"answers": np.array([[np.inf], [np.nan]]), "task": "regression"}, "quantities of 2 samples .* first a"),
    ],
)
def test_answers_that_contradict_themselves_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Predictions(**({"ids": ["a", "b"], "target": np.array([0, 1]), "answers": np.ones((2, 2))} | changes))


@pytest.mark.parametrize("names", [["x", "x"], ["x"], ["x", "y", "z"]])
@pytest.mark.parametrize("task", KINDS)
def test_names_have_to_be_one_a_column(tmp_path: Path, names: list[str], task: str) -> None:
    target = np.array([1]) if task == "classification" else np.array([[1, 0]])
    with pytest.raises(ValueError, match="2 classes need as many different names"):
        write_predictions(tmp_path / "p.csv", Predictions(["a"], target, np.array([[0.7, 0.3]]), task=task), names)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


CLASSES = "id,target,prediction,p_x,p_y\na,x,x,0.9,0.1\nb,y,x,0.6,0.4\n"
LABELS = "id,target_x,target_y,p_x,p_y\na,1,0,0.9,0.1\nb,0,1,0.6,0.4\n"
QUANTITIES = "id,target_x,prediction_x\na,1.5,2.5\nb,-3,0.25\n"


@pytest.mark.parametrize("text", [CLASSES, LABELS, QUANTITIES], ids=KINDS)
def test_what_is_broken_below_is_whole_here(tmp_path: Path, text: str) -> None:
    (tmp_path / "predictions.csv").write_text(text)
    assert len(read_predictions(tmp_path / "predictions.csv")[0]) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        (b"\xff\xfe\x00".decode("latin-1"), "no column"),
        (CLASSES.replace("b,y,", "b,z,"), "'z' is none of the classes"),
        (CLASSES.replace("0.6", "nan"), "no numbers, first b"),
        (CLASSES.replace("0.6", "many"), "broken"),
        (CLASSES.replace("b,y,x,0.6,0.4", "b,y,x,0.6"), "broken"),
        (CLASSES.replace("b,y,x", "b,y,y"), "not the most probable"),
        (CLASSES.replace("id,", "name,"), "no column 'id'"),
        (CLASSES.replace(",prediction", ",called"), "no column 'prediction'"),
        (CLASSES.replace("p_", "q_"), "none of the classes"),
        ("id,a\nx,1\n", "no column 'target'"),
        (LABELS.replace("id,", "name,"), "no column 'id'"),
        (LABELS.replace("target_y", "goal_y"), "no column 'target_y'"),
        (LABELS.replace("b,0,", "b,2,"), "0 or 1"),
        (LABELS.replace("b,0,", "b,0.5,"), "0 or 1"),
        (LABELS.replace("b,0,", "b,,"), "broken"),
        (LABELS.replace("b,0,", "b,x,"), "broken"),
        (LABELS.replace("0.6", "inf"), "no numbers, first b"),
        (QUANTITIES.replace("target_x", "x"), "no column 'target_x'"),
        (QUANTITIES.replace("-3", "three"), "broken"),
        (QUANTITIES.replace("-3", "nan"), "target"),
        (QUANTITIES.replace("-3", ""), "broken"),
        (QUANTITIES.replace("0.25", "nan"), "quantities of 1 samples are no numbers, first b"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as told:
        read_predictions(path)
    assert str(told.value).startswith(str(path))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("task", KINDS)
def test_missing_and_truncated_files_are_refused(tmp_path: Path, suffix: str, task: str) -> None:
    path = tmp_path / f"predictions.{suffix}"
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(path)
    write_predictions(path, some(task), HOSTILE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(DataError):
        read_predictions(path)


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_targets_that_are_missing_in_a_parquet_are_refused(tmp_path: Path, task: str) -> None:
    path = tmp_path / "predictions.parquet"
    write_predictions(path, some(task), HOSTILE)
    table = pd.read_parquet(path)
    table.loc[3, f"target_{HOSTILE[2]}"] = None
    table.to_parquet(path)
    with pytest.raises(DataError, match="target"):
        read_predictions(path)
