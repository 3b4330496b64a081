"""Soft accuracy against the official evaluation of VQA, written out person by person."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusionkit import experiment, raters
from fusionkit.contract import Index
from fusionkit.errors import DataError, RecipeError
from fusionkit.estimates import Comparison, Estimate
from fusionkit.predictions import read_predictions
from fusionkit.progress import Progress
from fusionkit.raters import NO_CLASS, NOBODY
from fusionkit.runs import Run

pytestmark = pytest.mark.usefixtures("undrawn")

QUIET = Progress(quiet=True)


def official(answers: list[int], said: int) -> float:
    """Each person is left out in turn: min(agreeing others / 3, 1), and the mean of that."""
    worth = []
    for person in range(len(answers)):
        others = answers[:person] + answers[person + 1 :]
        worth.append(min(1, sum(other == said for other in others) / 3))
    return sum(worth) / len(worth)


def test_as_the_official_evaluation() -> None:
    random = np.random.default_rng(0)
    given = random.integers(-1, 4, (200, 10))
    said = random.integers(0, 5, 200)
    expected = [official(row, k) for row, k in zip(given.tolist(), said.tolist(), strict=True)]
    np.testing.assert_allclose(raters.soft_accuracy(given, said), expected, atol=1e-12)


def test_by_hand() -> None:
    """Of ten people one, two, three and four agree: 0.3, 0.6, 0.9 and 1."""
    given = np.array([[7] * k + [NO_CLASS] * (10 - k) for k in range(11)])
    found = raters.soft_accuracy(given, np.full(11, 7))
    np.testing.assert_allclose(found, [0, 0.3, 0.6, 0.9, *[1] * 7])


def test_fewer_people() -> None:
    given = np.array([[1, 1, 2, NOBODY, NOBODY], [NOBODY] * 5])
    found = raters.soft_accuracy(given, np.array([1, 1]))
    assert found[0] == pytest.approx(official([1, 1, 2], 1))
    assert np.isnan(found[1])
    assert raters.estimate(found).value == found[0]


def test_intervals_and_tests_are_by_group() -> None:
    soft = np.array([1.0] * 10 + [0.3] * 10)
    groups = np.array([0] * 10 + [1] * 10)
    found = raters.estimate(soft, groups=groups)
    assert (found.value, found.low, found.high) == pytest.approx((0.65, 0.3, 1))
    of_classes = Comparison(20, {"oa": Estimate(0.1)}, 3, 1, 0.6)
    alone = raters.decide(of_classes, soft, np.full(20, 0.3))
    assert list(alone.differences) == ["soft_accuracy", "oa"]
    assert alone.differences["soft_accuracy"].value == pytest.approx(0.35)
    assert alone.p_value == pytest.approx(2 / 2**10)
    assert raters.decide(of_classes, soft, np.full(20, 0.3), groups=groups).p_value == 1


@pytest.mark.parametrize(
    "held", [np.zeros((3, 2), int), np.array([0, 1]), np.array([[0, 2], [1, 1]]), np.array([[-3], [0]])]
)
def test_raters_that_do_not_fit(held: np.ndarray) -> None:
    with pytest.raises(DataError, match="raters"):
        Index(["a", "b"], np.array([0, 1]), ("x", "y"), raters=held)


# A run over the official files

RECIPE = """
name: vqa
data:
  source: vqa
  root: {root}
  questions: {{train: q_train.json, val: q_val.json}}
  annotations: {{train: a_train.json, val: a_val.json}}
  images: images
  answers: 4
  size: 8
  split: {{column: split, test: val, val: 0.2}}
  batch_size: 16
modalities:
  image: {{encoder: {{name: patch_cnn, width: 8}}}}
  text: {{encoder: {{name: text_transformer, tokenizer: word, vocabulary: 30, length: 6, width: 16, layers: 1}}}}
fusion: {{name: concat, dim: 16, dropout: 0}}
train: {{epochs: 6, lr: 5.0e-3, select: soft_accuracy}}
baselines: true
"""
COLOURS = {"red": (220, 30, 30), "green": (30, 220, 30)}
NOT_ALL = ["red"] * 2 + [f"shade {k}" for k in range(8)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red and green images, and two questions about each; most people have a name of their own for red."""
    folder = tmp_path_factory.mktemp("vqa")
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    for part, count in (("train", 60), ("val", 30)):
        questions, annotations = [], []
        for number in range(count):
            colour = list(COLOURS)[number % 2]
            image = number + (1000 if part == "val" else 0)
            pixels = np.full((8, 8, 3), COLOURS[colour]) + random.integers(-20, 20, (8, 8, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
                folder / "images" / f"COCO_{part}2014_{image:012d}.jpg", quality=95
            )
            told = {
                "What colour is it?": NOT_ALL if colour == "red" else [colour] * 10,
                "Is it an image?": ["yes"] * 10,
            }
            for k, (question, answers) in enumerate(told.items()):
                key = {"question_id": 10 * image + k, "image_id": image}
                questions.append(key | {"question": question})
                annotations.append(key | {"answers": [{"answer": answer} for answer in answers]})
        (folder / f"q_{part}.json").write_text(json.dumps({"data_subtype": f"{part}2014", "questions": questions}))
        (folder / f"a_{part}.json").write_text(json.dumps({"annotations": annotations}))
    return folder


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = root / "vqa.yaml"
    path.write_text(RECIPE.format(root=root))
    return experiment.run(path, runs=tmp_path_factory.mktemp("runs"), progress=QUIET)


def test_the_result_holds_the_soft_accuracy(finished: Run, root: Path) -> None:
    result = finished.result
    predictions, names = read_predictions(finished.path / "predictions.csv")
    given = {row["question_id"]: row for row in json.loads((root / "a_val.json").read_text())["annotations"]}
    expected = [
        official(
            [names.index(a["answer"]) if a["answer"] in names else -1 for a in given[int(id)]["answers"]], int(said)
        )
        for id, said in zip(predictions.ids, predictions.prediction, strict=True)
    ]
    assert next(iter(result.metrics)) == "soft_accuracy"
    assert result.metrics["soft_accuracy"].value == pytest.approx(np.mean(expected))
    np.testing.assert_allclose(predictions.soft, expected, atol=1e-6)
    assert result.metrics["soft_accuracy"].value > 0.75
    assert "soft accuracy" in str(result.table())


def test_fusion_is_judged_by_it(finished: Run) -> None:
    comparison = finished.result.comparison
    assert comparison is not None
    assert comparison.answer.startswith("Fusion helps: soft accuracy")
    assert "sign-flip test of soft accuracy" in comparison.answer


def test_the_epoch_is_chosen_by_it(finished: Run) -> None:
    with (finished.path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(0 <= float(row["val/soft_accuracy"]) <= 1 for row in rows)


def test_it_needs_the_answers_of_people(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", x=random.normal(size=(40, 3)), y=random.integers(0, 2, 40))
    (tmp_path / "r.yaml").write_text(
        f"data: {{source: arrays, root: {tmp_path}, inputs: {{x: 'a.npz:x'}}, labels: 'a.npz:y', "
        "split: {test: 0.2}}\n"
        "modalities: {x: mlp}\nfusion: concat\ntrain: {select: soft_accuracy}\n"
    )
    with pytest.raises(RecipeError, match="arrays has no answers of several people"):
        experiment.run(tmp_path / "r.yaml", runs=tmp_path, progress=QUIET)


def test_the_report_tells_of_it(finished: Run) -> None:
    page = (finished.path / "report.html").read_text()
    assert "as VQA is measured" in page
    assert "difference in soft accuracy" in page


def test_the_recipe_runs_on_the_official_files(root: Path, tmp_path: Path) -> None:
    """Small: other encoders, and few questions."""
    folder = tmp_path / "vqa"
    folder.mkdir()
    for part in ("train", "val"):
        (folder / f"v2_OpenEnded_mscoco_{part}2014_questions.json").symlink_to(root / f"q_{part}.json")
        (folder / f"v2_mscoco_{part}2014_annotations.json").symlink_to(root / f"a_{part}.json")
        (folder / f"{part}2014").symlink_to(root / "images")
    small = [
        f"data.root={folder}", "data.size=8", "data.num_workers=0", "modalities.image.shape=null",
        "modalities.image.encoder={name: patch_cnn, width: 8}", "modalities.text.encoder.width=16",
        "fusion.dim=16", "fusion.depth=1", "train.epochs=1", "baselines=false",
    ]  # fmt: skip
    recipe = Path(__file__).parents[2] / "recipes" / "vqa.yaml"
    result = experiment.run(recipe, runs=tmp_path / "runs", overrides=small, progress=QUIET).result
    assert result.n == 60
    assert result.metrics["soft_accuracy"].value is not None
