"""Panels of finished runs on made-up images with Chinese captions."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fusionkit import experiment
from fusionkit.panel_attention import Attention
from fusionkit.panels import write_panels
from fusionkit.progress import Progress
from fusionkit.runs import Run
from fusionkit.saved import SavedRun
from fusionkit.webfont import font_source

pytestmark = pytest.mark.usefixtures("undrawn")

COLOURS = {"红色": (200, 30, 30), "绿色": (30, 200, 30), "蓝色": (30, 30, 200)}
HOSTILE = "<script>alert(1)</script> & 河"
RECIPE = """
name: pairs
task: {task}
data:
  source: image_text
  file: captions.csv
  root: {root}
  size: 16
  split: {{test: 0.3, val: 0.2}}
  batch_size: 16
  {label}
modalities:
  image: {{encoder: {{name: patch_cnn, width: 8}}}}
  text: {{encoder: {{name: text_transformer, tokenizer: word, vocabulary: 60, length: 8, width: 16, layers: 1}}}}
fusion: {fusion}
train: {{epochs: 2, lr: 3.0e-3}}
baselines: {baselines}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images of one colour, each with two captions; one of them tries to be HTML."""
    folder = tmp_path_factory.mktemp("pairs")
    random = np.random.default_rng(0)
    rows = []
    for number in range(40):
        name = list(COLOURS)[number % 3]
        pixels = np.full((16, 16, 3), COLOURS[name]) + random.integers(-20, 20, (16, 16, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02}.png")
        rows += [(f"{number:02}.png", f"一片{name}农田", name), (f"{number:02}.png", f"{HOSTILE} {name}", name)]
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "caption", "colour"), *rows])
    return folder


def finished(root: Path, runs: Path, **keys: Any) -> Run:
    path = runs / "pairs.yaml"
    path.write_text(RECIPE.format(root=root, **keys), encoding="utf-8")
    return experiment.run(path, runs=runs, progress=Progress(quiet=True))


@pytest.fixture(scope="module")
def classified(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    keys = {"task": "classification", "label": "label: colour", "fusion": "{name: cross_attention, dim: 16}"}
    return finished(root, tmp_path_factory.mktemp("classes"), baselines="true", **keys)


@pytest.fixture(scope="module")
def retrieved(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    keys = {"task": "retrieval", "label": "", "fusion": "{name: dual_encoder, dim: 16}"}
    return finished(root, tmp_path_factory.mktemp("retrieval"), baselines="false", **keys)


class Page(HTMLParser):
    """Tags, and the texts of the elements of each class."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.current = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.current = dict(attrs).get("class") or tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.setdefault(self.current, []).append(data.strip())

    def having(self, name: str) -> int:
        return sum(name in (attributes.get("class") or "").split() for _, attributes in self.tags)


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_a_page_of_a_classification(classified: Run, root: Path) -> None:
    page = read(write_panels(classified.path, number=2))
    titles = page.texts["h2"]
    assert set(titles) <= {
        "Fusion gains: ours right, the baseline wrong",
        "Fusion loses: ours wrong, the baseline right",
        "Both right",
        "Both wrong",
    }
    counted = re.findall(r"(\d+) of 24 test samples, of which (\d)", " ".join(page.texts["note"]))
    assert sum(int(size) for size, _ in counted) == 24
    assert all(int(shown) == min(2, int(size)) for size, shown in counted)
    assert page.having("panel") == sum(int(shown) for _, shown in counted)
    with (root / "captions.csv").open(encoding="utf-8") as file:
        captions = {f"{row['image']}#{i % 2}": row["caption"] for i, row in enumerate(csv.DictReader(file))}
    ids = page.texts["id"]
    assert page.texts["said"] == [captions[id] for id in ids]
    answers = dict(zip(classified.predictions.ids, classified.predictions.answers, strict=True))
    for id in ids:
        name = classified.result.classes[int(answers[id].argmax())]
        assert f"{name}, {answers[id].max():.0%}" in page.texts["td"]
    assert page.having("word") > 0


def test_a_page_is_one_file_and_text_stays_text(classified: Run) -> None:
    text = write_panels(classified.path, number=50).read_text(encoding="utf-8")
    page = Page(text)
    assert HOSTILE in " ".join(page.texts["said"])
    assert not any(tag in ("script", "link", "iframe") for tag, _ in page.tags)
    sources = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "default-src 'none'" in text
    assert "data:font/woff" in text
    assert max(map(len, sources)) < 40_000


def test_the_report_links_to_it_once(classified: Run) -> None:
    for _ in range(2):
        write_panels(classified.path)
    assert (classified.path / "report.html").read_text(encoding="utf-8").count('<a href="panels.html">') == 1
    assert Run.load(classified.path).result.n == 24


def test_attention_is_the_fusions_own(classified: Run, root: Path) -> None:
    """The recipe has not asked for it; each word's weights over the cells add up to one."""
    assert not classified.resolved["fusion"]["keep_attention"]
    saved = SavedRun.open(classified.path)
    attention = Attention(saved)
    sample = {"image": np.asarray(Image.open(root / "03.png")).transpose(2, 0, 1), "text": np.array("一片红色农田")}
    looks = attention.of(sample)
    assert [look.token for look in looks] == list("一片红色农田")
    assert {look.image for look in looks} == {"image"}
    model = saved.model(None)
    with torch.no_grad():
        weights = model(saved.batch([sample])).attention["text<-image"]
    for k, look in enumerate(looks):
        assert look.weights.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(look.weights.ravel(), weights[0, :, k].mean(0).numpy(), atol=1e-6)
    assert attention.of({"image": None, "text": np.array("红色")}) == []
    assert attention.of({"image": sample["image"], "text": None}) == []


def test_the_first_five_of_a_retrieval(retrieved: Run) -> None:
    """By brute force: of equals, those that are right come last."""
    page = read(write_panels(retrieved.path, number=3))
    held = retrieved.predictions
    images, texts = np.split(held.answers, 2, axis=1)
    candidates = re.findall(r"(\d\d\.png#\d)", " ".join(page.texts["id"]))
    panels = [candidates[i : i + 11] for i in range(0, len(candidates), 11)]
    assert len(panels) == page.having("panel") > 2
    place = {id: row for row, id in enumerate(held.ids)}
    marked = 0
    for query, *found in panels:
        row = place[query]
        for shown, similar, step in ((found[:5], texts @ images[row], 1), (found[5:], images[::2] @ texts[row], 2)):
            thing = held.target[::step, 0] == held.target[row, 0]
            best = sorted(range(len(similar)), key=lambda k: (-round(float(similar[k]), 6), thing[k]))[:5]
            values = [round(float(similar[place[id] // step]), 5) for id in shown]
            assert values == [round(float(similar[k]), 5) for k in best]
            marked += sum(held.target[place[id], 0] == held.target[row, 0] for id in shown)
    assert page.having("right") == marked > 0


def test_what_cannot_be_read_any_more_is_told(retrieved: Run, root: Path, tmp_path: Path) -> None:
    for path in root.iterdir():
        (tmp_path / path.name).write_bytes(b"" if path.suffix == ".png" else path.read_bytes())
    page = read(write_panels(retrieved.path, overrides=[f"data.root={tmp_path}"], number=1))
    assert any("cannot be read" in text for text in page.texts["trouble"])


def test_mistakes(retrieved: Run, tmp_path: Path, root: Path, fusionkit: Callable[..., Any]) -> None:
    (tmp_path / "captions.csv").write_text("image,caption\nother.png,text\n")
    told = fusionkit("panels", retrieved.path, f"data.root={tmp_path}")
    assert told.code == 2
    assert "24 test samples of" in told.err
    assert "are not among the data, the first is" in told.err
    told = fusionkit("panels", retrieved.path, "train.epochs=3")
    assert (told.code, "only data.* can be changed" in told.err) == (2, True)
    assert fusionkit("panels", tmp_path).code == 2
    done = fusionkit("panels", retrieved.path, "-n", 1)
    assert (done.code, done.out.strip()) == (0, str(retrieved.path / "panels.html"))


def test_without_images_there_is_no_page(tmp_path: Path, fusionkit: Callable[..., Any]) -> None:
    random = np.random.default_rng(0)
    np.savez(tmp_path / "v.npz", a=random.normal(size=(60, 4)), y=np.arange(60) % 2)
    recipe = {
        "data": {"source": "arrays", "root": tmp_path, "inputs": {"a": "v.npz:a"}, "labels": "v.npz:y"},
        "modalities": {"a": "mlp"},
        "fusion": "concat",
        "train": {"epochs": 1},
    }
    recipe["data"]["split"] = {"test": 0.3, "val": 0.2}  # type: ignore[index]
    run = experiment.run(recipe, runs=tmp_path / "runs", progress=Progress(quiet=True))
    told = fusionkit("panels", run.path)
    assert (told.code, "none of its modalities (a) is an image to show" in told.err) == (2, True)
    assert not (run.path / "panels.html").exists()


def test_a_font_for_chinese_alone() -> None:
    assert font_source("Latin, ü") == ""
    assert font_source("红").startswith("data:font/woff;base64,")
    assert len(font_source("红绿")) < 5000
