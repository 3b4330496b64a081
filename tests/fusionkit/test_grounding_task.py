"""A grounding from recipe to report: squares of two colours in an image, and phrases that name one of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusionkit import experiment, grounding
from fusionkit.errors import RecipeError
from fusionkit.flow import InputSpec
from fusionkit.predictions import read_predictions
from fusionkit.progress import Progress
from fusionkit.recipe import load_recipe
from fusionkit.registry import load_registry
from fusionkit.runs import Run
from fusionkit.saved import SavedRun

QUIET = Progress(quiet=True)
COLOURS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220)}
SIDE = 16
RECIPE = """
name: phrases
task: grounding
data:
  source: image_text
  root: {root}
  file: phrases.csv
  boxes: true
  size: 16
  split: {{test: 0.25, val: 0.2, group: image}}
  batch_size: 24
modalities:
  image: {{encoder: {{name: patch_cnn, width: 16, dropout: 0}}}}
  text: {{encoder: {{name: text_transformer, tokenizer: word, vocabulary: 20, length: 6, width: 16, layers: 1}}}}
fusion: {{name: region_attention, dim: 32, heads: 2, depth: 2, dropout: 0}}
loss:
  l1: 5
  iou: {{from: 0, to: 2, start: 4, end: 10}}
train: {{epochs: 12, lr: 3.0e-3, warmup_epochs: 1}}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with two squares of different colours, one in the left half and one in the right; a phrase for each."""
    folder = tmp_path_factory.mktemp("phrases")
    random = np.random.default_rng(0)
    rows = []
    for number in range(480):
        pixels = np.full((SIDE, SIDE, 3), 110) + random.integers(-10, 10, (SIDE, SIDE, 3))
        file = f"{number:03}.png"
        for half, colour in enumerate(random.permutation(list(COLOURS))[:2]):
            x, y = 8 * half + random.integers(0, 3), random.integers(0, SIDE - 5)
            pixels[y : y + 6, x : x + 6] = COLOURS[colour]
            rows.append((file, f"the {colour} square", x, y, x + 6, y + 6))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / file)
    with (folder / "phrases.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "caption", "x1", "y1", "x2", "y2"), *rows])
    return folder


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An epoch of it, with the baselines."""
    path = root / "phrases.yaml"
    path.write_text(RECIPE.format(root=root))
    runs, once = tmp_path_factory.mktemp("runs"), ["train.epochs=1", "loss={l1: 5, iou: 2}", "baselines=true"]
    return experiment.run(path, runs=runs, overrides=once, progress=QUIET)


@pytest.mark.slow
def test_phrases_are_found(root: Path, tmp_path: Path) -> None:
    """One box for all finds next to nothing; who does not read the phrase finds one of two."""
    path = tmp_path / "phrases.yaml"
    path.write_text(RECIPE.format(root=root))
    run = experiment.run(path, runs=tmp_path, progress=QUIET)
    target = run.predictions.target
    assert grounding.figures(target, np.tile(target.mean(0), (len(target), 1)))["acc_50"] < 0.2
    assert run.result.metrics["acc_50"].low > 0.65
    with (run.path / "metrics.csv").open() as file:
        weights = [float(row["weighted/iou"]) for row in csv.DictReader(file)]
    assert weights[:4] == [0] * 4  # the weight of the overlap rises late
    assert all(weight > 0 for weight in weights[4:])


def test_figures_are_those_of_the_boxes_in_the_file(finished: Run) -> None:
    predictions, names = read_predictions(finished.path / "predictions.csv")
    assert names == ("x1", "y1", "x2", "y2")
    figures = grounding.figures(predictions.target, predictions.answers)
    assert figures == pytest.approx({name: found.value for name, found in finished.result.metrics.items()}, abs=1e-6)
    with (finished.path / "predictions.csv").open() as file:
        overlap = [float(row["iou"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(overlap, grounding.iou(predictions.target, predictions.answers), atol=1e-12)


def test_phrases_of_an_image_are_resampled_together(finished: Run) -> None:
    assert finished.result.interval == "bootstrap over 120 groups"
    assert finished.result.comparison is not None
    assert set(finished.result.comparison.against) == {"image", "text"}
    assert {found.by_group for found in finished.result.comparison.against.values()} == {True}


def test_the_files_tell_of_a_grounding(finished: Run) -> None:
    names = {path.name for path in finished.path.iterdir()}
    assert {"overlap.png", "overlap.pdf", "predictions.csv", "report.html", "baselines.png"} <= names
    assert not {name for name in names if name.startswith(("confusion", "predicted"))}
    page = (finished.path / "report.html").read_text()
    assert "Acc@0.5" in page
    assert "Confusion" not in page
    told = json.loads((finished.path / "result.json").read_text())
    assert told["task"] == "grounding"
    assert told["per_class"] == told["per_quantity"] == []


def test_a_finished_run_grounds_new_phrases(finished: Run, root: Path) -> None:
    saved = SavedRun.load(finished.path)
    dataset = load_recipe(root / "phrases.yaml").dataset.build()
    place = {str(id): position for position, id in enumerate(dataset.index().ids)}
    samples = [dataset.read(place[id]) for id in finished.predictions.ids]
    np.testing.assert_allclose(saved.answers(saved.batch(samples)), finished.predictions.answers, atol=1e-5)
    alone = saved.answers(saved.batch([{"text": samples[0]["text"]}, {"image": samples[0]["image"]}, {}]))
    assert np.isfinite(alone).all()
    assert (alone[:, :2] < alone[:, 2:]).all()


def test_any_prediction_is_a_box(finished: Run, root: Path) -> None:
    """Whatever the head says, and whatever a loss reads of it."""
    saved = SavedRun.load(finished.path)
    dataset = load_recipe(root / "phrases.yaml").dataset.build()
    dataset.index()
    model = saved.model(None)
    torch.nn.init.normal_(model.head.weight, std=2.0)
    boxes = model(saved.batch([dataset.read(k) for k in range(20)])).logits
    assert 0 <= boxes.min() < 0.2
    assert 0.8 < boxes.max() <= 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("loss=cross_entropy", "cross_entropy is for classification, and the task is grounding"),
        ("train.select=oa", "grounding has no figure 'oa'"),
        ("augment=[mixup]", "the box of nothing"),
        ("augment=[dihedral]", "dihedral moves what the images show"),
        ("data.boxes=false", "or ask it for boxes"),
    ],
)
def test_what_does_not_go_with_it(root: Path, tmp_path: Path, change: str, problem: str) -> None:
    path = tmp_path / "phrases.yaml"
    path.write_text(RECIPE.format(root=root))
    with pytest.raises(RecipeError, match=problem):
        experiment.run(path, runs=tmp_path / "runs", overrides=[change], progress=QUIET)


def test_boxes_beyond_the_image_are_refused(tmp_path: Path) -> None:
    """Four quantities in pixels are no shares of an image."""
    random = np.random.default_rng(0)
    corners = {name: 10.0 * (1 + "abcd".index(name)) + random.uniform(size=40) for name in "abcd"}
    np.savez(tmp_path / "a.npz", map=random.normal(size=(40, 2, 8, 8)), **corners)
    quantities = ", ".join(f'{name}: "a.npz:{name}"' for name in "abcd")
    (tmp_path / "r.yaml").write_text(
        f"task: grounding\ndata: {{source: arrays, root: {tmp_path}, inputs: {{map: 'a.npz:map'}}, "
        f"quantities: {{{quantities}}}, split: {{test: 0.2}}}}\n"
        "modalities: {map: patch_cnn}\nfusion: region_attention\n"
    )
    with pytest.raises(RecipeError, match=r"40 targets are no boxes .* as shares of the image"):
        experiment.run(tmp_path / "r.yaml", runs=tmp_path, progress=QUIET)


def test_default_loss(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "phrases.yaml"
    path.write_text(
        RECIPE.format(root=root).replace("loss:\n  l1: 5\n  iou: {from: 0, to: 2, start: 4, end: 10}\n", "")
    )
    assert [term.loss.name for term in load_recipe(path).losses] == ["l1"]


@pytest.mark.parametrize(
    ("name", "options", "moves"),
    [
        ("dihedral", {}, True),
        ("crop", {}, True),
        ("rand_augment", {"geometric": True}, True),
        ("rand_augment", {}, False),
    ],
)
def test_augmentations_say_whether_they_move_what_has_a_box(name: str, options: dict[str, bool], moves: bool) -> None:
    made = load_registry().resolve("augmentation", name)({"image": InputSpec((3, 16, 16))}, **options)
    assert made.moves is moves


def test_the_recipe_runs_on_a_table_of_phrases(root: Path, tmp_path: Path) -> None:
    """Small: other encoders, and few phrases."""
    (tmp_path / "images").symlink_to(root)
    lines = (root / "phrases.csv").read_text().splitlines()[:121]
    parts = ["split", *(["train"] * 80 + ["val"] * 20 + ["test"] * 20)]
    (tmp_path / "phrases.csv").write_text("\n".join(f"{line},{part}" for line, part in zip(lines, parts, strict=True)))
    small = [
        f"data.root={tmp_path}", "data.size=16", "data.num_workers=0", "modalities.image.shape=null",
        "modalities.image.encoder={name: patch_cnn, width: 8}", "modalities.text.encoder.width=16",
        "fusion.dim=16", "fusion.depth=1", "train.epochs=6", "loss.iou={from: 0, to: 2, start: 2, end: 4}",
    ]  # fmt: skip
    recipe = Path(__file__).parents[2] / "recipes" / "grounding.yaml"
    result = experiment.run(recipe, runs=tmp_path / "runs", overrides=small, progress=QUIET).result
    assert (result.task, result.n, result.interval) == ("grounding", 20, "bootstrap over 10 groups")
