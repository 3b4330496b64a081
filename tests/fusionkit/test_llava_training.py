"""LLaVA from images and captions to a language model that has learned of images, in two stages of one run."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from fusionkit_fakes_text import GPT2, write_language_model
from PIL import Image

from fusionkit import experiment
from fusionkit.assembly import blueprint, make_task, recipe_inputs
from fusionkit.check import check
from fusionkit.errors import RecipeError
from fusionkit.optimization import Rates, make_optimizer
from fusionkit.progress import Progress
from fusionkit.recipe import load_recipe

pytestmark = pytest.mark.usefixtures("undrawn")

QUIET = Progress(quiet=True)
CAPTIONS = {"plane stands on the runway": (200, 40, 40), "ship lies in the harbour": (40, 40, 200)}
RECIPE = """
name: llava
task: retrieval
data:
  source: image_text
  format: csv
  root: {root}
  file: captions.csv
  size: 32
  split: {{test: 0.25, val: 0.25}}
  batch_size: 6
modalities:
  image: {{encoder: {{name: timm, model: test_vit, penultimate: true}}}}
  text: {{encoder: {{name: causal_lm, model: {root}/model, length: 8, head: true}}}}
fusion: {{name: llava, text: text, projector: mlp2x_gelu}}
loss: [captioning]
train:
  epochs: 20
  lr: 3.0e-2
  weight_decay: 0
  select: loss
  warmup_epochs: 0.1
  lr_scale: {{encoder.image: 0}}
  stages: [{{epochs: 5, lr_scale: {{encoder.text: 0}}}}, {{lr_scale: {{encoder: 0.5, fusion: 0.5}}}}]
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two colours with a caption each, and a tiny language model."""
    folder = tmp_path_factory.mktemp("captions")
    random = np.random.default_rng(0)
    rows = []
    for number in range(48):
        caption = list(CAPTIONS)[number % 2]
        pixels = np.full((32, 32, 3), CAPTIONS[caption]) + random.integers(-20, 20, (32, 32, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02}.png")
        rows.append((f"{number:02}.png", caption))
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])
    write_language_model(folder / "model", GPT2)
    return folder


def recipe(root: Path) -> Path:
    path = root / "llava.yaml"
    path.write_text(RECIPE.format(root=root), encoding="utf-8")
    return path


def trained(root: Path, runs: Path) -> tuple[list[dict[str, str]], dict[str, torch.Tensor]]:
    """The rows of figures, one an epoch, and the weights at the end."""
    run = experiment.run(recipe(root), runs=runs, progress=QUIET)
    with (run.path / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    weights = torch.load(run.path / "checkpoints/fusion/last.ckpt", weights_only=True)["objective"]
    return rows, {name.removeprefix("model."): value for name, value in weights.items()}


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, str]], dict]:
    return trained(root, tmp_path_factory.mktemp("runs"))


def test_it_learns_what_an_image_is_called(root: Path, finished: tuple) -> None:
    """Of two captions of five words, without the image the cross-entropy is ln 2 / 5 at least."""
    rows, weights = finished
    losses = [float(row["val/captioning"]) for row in rows]
    assert [row["stage"] for row in rows] == ["1"] * 5 + ["2"] * 15
    assert losses[4] < losses[0] < 3
    assert losses[-1] < 0.07 < losses[4]
    model = load_recipe(recipe(root)).modalities["text"].encoder.target
    spec = model.tokenizer(model=str(root / "model"), length=8).spec
    begun = model(spec, model=str(root / "model"), length=8, head=True).state_dict()
    assert all(
        not torch.equal(weights[f"encoders.text.{name}"], value) for name, value in begun.items() if "c_" in name
    )


@pytest.mark.slow
def test_the_same_again(root: Path, finished: tuple, tmp_path: Path) -> None:
    rows, weights = trained(root, tmp_path)
    assert [row["val/captioning"] for row in rows] == [row["val/captioning"] for row in finished[0]]
    assert all(torch.equal(value, finished[1][name]) for name, value in weights.items())


def test_each_stage_has_its_parts(root: Path) -> None:
    """In the first one the projector alone learns, in the second the language model too, and the tower never."""
    read = load_recipe(recipe(root))
    inputs = recipe_inputs(read, read.dataset.build())
    model, *_ = blueprint(read, inputs, make_task(read, ())).prove()
    rates = Rates(make_optimizer(model, read.train), read.train, shared=False)

    def learning(epoch: int) -> set[str]:
        rates.begin(epoch)
        return {
            ".".join(name.split(".")[:2]) for name, parameter in model.named_parameters() if parameter.requires_grad
        }

    assert learning(0) == learning(4) == {"fusion.project"}
    assert learning(5) == learning(19) == {"fusion.project", "encoders.text"}


def test_a_wrong_name_is_told_with_its_place(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(RECIPE.format(root=root).replace("text: text", "text: txt"), encoding="utf-8")
    with pytest.raises(RecipeError, match="llava has no modality 'txt'"):
        check(load_recipe(path))
