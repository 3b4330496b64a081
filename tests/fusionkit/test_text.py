"""Text from the file to the prediction: tokens learned from the training samples, kept with the run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusionkit import experiment
from fusionkit.check import check
from fusionkit.contract import Dataset, Index, Sample
from fusionkit.errors import BadSample, FusionkitError, RecipeError
from fusionkit.flow import InputSpec
from fusionkit.loading import Samples, collate, hold_against
from fusionkit.progress import Progress
from fusionkit.recipe import load_recipe
from fusionkit.runs import Run
from fusionkit.saved import SavedRun
from fusionkit.splits import Partition
from fusionkit.survey import survey

pytestmark = pytest.mark.usefixtures("undrawn")

COLOURS = {"红色": (200, 30, 30), "绿色": (30, 200, 30), "蓝色": (30, 30, 200)}
SHAPES = ("屋顶", "农田", "河流", "道路")
QUIET = Progress(quiet=True)
RECIPE = """
name: captions
task: retrieval
data:
  source: image_text
  format: csv
  root: {root}
  file: captions.csv
  size: 16
  split: {{test: 0.25, val: 0.2}}
  batch_size: 24
modalities:
  image: {{encoder: {{name: patch_cnn, width: 8}}}}
  text: {{encoder: {{name: text_transformer, tokenizer: word, vocabulary: 60, length: 12, width: 32, layers: 2}}}}
fusion: {{name: dual_encoder, dim: 16}}
train: {{epochs: 25, lr: 3.0e-3, warmup_epochs: 3}}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of one colour with a bright band, each with two Chinese captions that tell of both."""
    folder = tmp_path_factory.mktemp("captions")
    random = np.random.default_rng(0)
    rows = []
    for number in range(96):
        name = list(COLOURS)[number % 3]
        band = number // 3 % 4
        pixels = np.full((16, 16, 3), COLOURS[name]) + random.integers(-20, 20, (16, 16, 3))
        pixels[4 * band : 4 * band + 4] += 50
        file = f"{number:03}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / file)
        rows += [(file, f"一片{name}的{SHAPES[band]}"), (file, f"{SHAPES[band]}是{name}")]
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])
    return folder


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = root / "captions.yaml"
    path.write_text(RECIPE.format(root=root), encoding="utf-8")
    return experiment.run(path, runs=tmp_path_factory.mktemp("runs"), progress=QUIET)


def test_chinese_captions_find_their_images(finished: Run) -> None:
    """24 images of twelve kinds: by chance one of 24 is found; by what the captions say, one of two."""
    metrics = finished.result.metrics
    assert finished.result.n == 48
    assert metrics["backward_r5"].value > 0.7
    assert metrics["forward_r5"].value > 0.7


def test_captions_of_an_image_stay_on_one_side(finished: Run) -> None:
    images = [id.partition("#")[0] for id in finished.predictions.ids]
    assert all(images.count(image) == 2 for image in images)


def test_tokens_are_learned_from_training_texts_alone(root: Path, tmp_path: Path) -> None:
    text = (root / "captions.csv").read_text(encoding="utf-8").splitlines()
    folder = tmp_path / "data"
    folder.mkdir()
    for path in root.glob("*.png"):
        (folder / path.name).symlink_to(path)
    header, *rows = text
    parts = ["test" if int(row[:3]) >= 72 else "train" for row in rows]
    marked = [f"{row}鲸鱼,{part}" if part == "test" else f"{row},{part}" for row, part in zip(rows, parts, strict=True)]
    (folder / "captions.csv").write_text("\n".join([f"{header},split", *marked]), encoding="utf-8")
    recipe = RECIPE.format(root=folder).replace("{test: 0.25, val: 0.2}", "official")
    (tmp_path / "r.yaml").write_text(recipe, encoding="utf-8")
    run = experiment.run(tmp_path / "r.yaml", runs=tmp_path, overrides=["train.epochs=1"], progress=QUIET)
    state = (run.path / "tokenizers" / "text.json").read_text(encoding="utf-8")
    learned = json.dumps(json.loads(state), ensure_ascii=False)
    assert "屋" in learned
    assert "鲸" not in learned


def test_a_finished_run_reads_new_texts(finished: Run, root: Path) -> None:
    saved = SavedRun.load(finished.path)
    predictions = finished.predictions
    dataset = load_recipe(root / "captions.yaml").dataset.build()
    index = dataset.index()
    place = {str(id): position for position, id in enumerate(index.ids)}
    samples = [dataset.read(place[id]) for id in predictions.ids]
    found = saved.answers(saved.batch(samples))
    np.testing.assert_allclose(found, predictions.answers, atol=1e-5)
    (finished.path / "tokenizers" / "text.json").rename(finished.path / "kept.json")
    with pytest.raises(FusionkitError, match=r"text\.json: the tokenizer of text cannot be read"):
        SavedRun.load(finished.path).batch(samples)
    (finished.path / "kept.json").rename(finished.path / "tokenizers" / "text.json")


def test_check_needs_no_data_for_text(root: Path) -> None:
    shown = str(check(load_recipe(root / "captions.yaml")))
    assert "text_transformer" in shown


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("modalities.text.encoder={name: mlp}", "text is text, which mlp cannot read"),
        ("modalities.image.encoder={name: text_transformer}", "reads text, and image is 3 x 16 x 16"),
        ("modalities.text.encoder.tokenizer=bpe", "vocabulary"),
    ],
)
def test_what_does_not_go_together(root: Path, tmp_path: Path, change: str, problem: str) -> None:
    path = tmp_path / "captions.yaml"
    path.write_text(RECIPE.format(root=root), encoding="utf-8")
    with pytest.raises(RecipeError, match=problem) as told:
        experiment.run(path, runs=tmp_path / "runs", overrides=[change, "train.epochs=1"], progress=QUIET)
    assert "captions.yaml" in str(told.value) or change.partition("=")[0] in str(told.value)


class Texts(Dataset):
    """Texts in memory."""

    def __init__(self, texts: list[object]):
        self.texts = texts

    def inputs(self) -> dict[str, InputSpec]:
        return {"text": InputSpec((), text=True)}

    def index(self, progress: object = None) -> Index:
        return Index(list(map(str, range(len(self.texts)))), np.zeros(len(self.texts), int), ("a",))

    def read(self, i: int) -> Sample:
        found = self.texts[i]
        return {"text": found if found is None or isinstance(found, np.ndarray) else np.array(found)}


TOKENS = InputSpec((4,), ragged=True, text=True, vocabulary=9)


def test_the_survey_collects_training_texts() -> None:
    texts = ["one", "two", "two", "", "three", np.array([1.0]), "four"]
    dataset = Texts(texts)
    partition = Partition(np.array([0, 1, 3, 5]), np.array([2]), np.array([4, 6]))
    found = survey(dataset, dataset.index(), {"text": TOKENS}, [partition], max_bad=1.0)
    assert found.texts == [{"text": ["one", "two"]}]
    assert found.statistics == [{}]
    assert found.good.tolist() == [True, True, True, False, True, False, True]
    assert [(bad.id, bad.reason) for bad in found.bad] == [
        ("3", "text is an empty text"),
        ("5", "text is float64 (1,), not a text"),
    ]
    assert found.identical(np.array([1]), np.array([2])) == 1


@pytest.mark.parametrize("value", [np.array("  "), np.array(["a"]), np.array(3), np.array(b"a")])
def test_what_is_no_text(value: np.ndarray) -> None:
    with pytest.raises(BadSample, match="text"):
        hold_against("text", value, TOKENS)


class Letters:
    """The place of each letter in the alphabet."""

    def __call__(self, text: str) -> np.ndarray:
        return np.array([ord(letter) - ord("a") for letter in text][:4], np.int32)


def test_batches_hold_tokens() -> None:
    samples = Samples(Texts(["abc", "b", "cabac"]), np.zeros(3, int), {"text": TOKENS}, tokenizers={"text": Letters()})
    batch = samples.__getitems__([(-1, 0), (-1, 1), (-1, 2)])
    assert batch.inputs["text"].tolist() == [[0, 1, 2, 0], [1, 0, 0, 0], [2, 0, 1, 0]]
    assert batch.inputs["text"].dtype == torch.int64
    assert batch.valid["text"].sum(1).tolist() == [3, 1, 4]


def test_absent_texts() -> None:
    value, valid = collate([None, np.array([3], np.int32)], TOKENS)
    assert value.tolist() == [[0, 0, 0, 0], [3, 0, 0, 0]]
    assert valid is not None
    assert valid.sum(1).tolist() == [0, 1]
