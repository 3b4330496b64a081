"""Recipes as users write them: what they mean, and what is said of broken ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fusionkit.errors import RecipeError
from fusionkit.flow import FeatureSpec
from fusionkit.recipe import Recipe, load_recipe
from fusionkit.registry import Registry

GOOD = """\
data:
  source: tiles
  root: some/where
  files: {image: a.npz, hsi: [b.npz, c.npz]}
  batch_size: 8
modalities:
  image: {encoder: {name: net, width: 16}, shape: [3, 9, 9]}
  hsi: plain
fusion: {name: join, dim: 64}
loss: ce
train: {lr: 3e-5, epochs: 2}
"""

Load = Callable[..., Recipe]
A_WEIGHT = "a weight is a number of 0 or more, a schedule such as {from: 0, to: 0.5}, `uncertainty` or `dwa`"


@pytest.fixture
def load(acme: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Write a recipe's text as `r.yaml` in the current folder and load it."""
    monkeypatch.chdir(tmp_path)

    def load(text: str | dict[str, Any], *overrides: str) -> Recipe:
        if isinstance(text, str):
            Path("r.yaml").write_text(text, encoding="utf-8")
        return load_recipe("r.yaml" if isinstance(text, str) else text, overrides, registry=acme)

    return load


@pytest.fixture
def told(load: Load) -> Callable[..., list[str]]:
    """Everything that is said of a broken recipe."""

    def told(text: str | dict[str, Any], *overrides: str) -> list[str]:
        with pytest.raises(RecipeError) as error:
            load(text, *overrides)
        assert error.value.exit_code == 2
        return str(error.value).splitlines()

    return told


def with_line(line: str, instead_of: str) -> str:
    """`GOOD` with one line replaced; the line that starts so."""
    (old,) = [found for found in GOOD.splitlines() if found.startswith(instead_of)]
    return GOOD.replace(old, line)


# What recipes mean


def test_a_recipe_and_its_defaults(load: Load) -> None:
    recipe = load(GOOD)
    assert (recipe.name, recipe.task, recipe.seed, recipe.baselines) == ("r", "classification", 0, False)
    assert (recipe.data.source, recipe.data.batch_size, recipe.data.split) == ("tiles", 8, None)
    assert dict(recipe.dataset.options) == {
        "root": Path("some/where"),
        "files": {"image": "a.npz", "hsi": ["b.npz", "c.npz"]},
        "labels": None,
        "size": (3, 4),
        "names": None,
    }
    assert list(recipe.modalities) == ["image", "hsi"]
    assert recipe.modalities["image"].encoder.options.width == 16  # type: ignore[attr-defined]
    assert (recipe.modalities["image"].shape, recipe.modalities["hsi"].shape) == ((3, 9, 9), None)
    assert (recipe.fusion.name, dict(recipe.fusion.options)) == ("join", {"dim": 64, "dropout": 0.1})
    assert [(term.loss.name, term.weight) for term in recipe.losses] == [("ce", 1.0)]
    assert (recipe.train.lr, recipe.train.epochs) == (3e-5, 2)
    assert recipe.sources == {"r.yaml": GOOD}


def test_chosen_components_are_built_from_context_and_options(load: Load) -> None:
    recipe = load(GOOD)
    spec = FeatureSpec(4, 1)
    assert recipe.fusion.build({"image": spec}).inputs == {"image": spec}
    assert recipe.dataset.build().root == Path("some/where")


def test_plain_data_are_as_good_as_a_file(load: Load) -> None:
    data = json.loads(json.dumps(load(GOOD).located.data))
    data["data"]["root"] = Path("some/where")
    recipe = load(data)
    assert recipe.name == "recipe"
    assert recipe.resolved() | {"name": "r"} == load(GOOD).resolved()
    assert data["data"]["root"] == Path("some/where")


def test_the_resolved_recipe_is_a_recipe_that_means_the_same(load: Load) -> None:
    text = with_line("loss: {ce: 1, focal: {weight: .5, gamma: 1}}", "loss") + "augment: [flip]\nmetrics: [gain]\n"
    resolved = load(text, "data.split={test: 0.2}", "train.lr_scale.encoder.hsi=0").resolved()
    assert resolved["data"]["size"] == [3, 4]
    assert resolved["train"]["lr_scale"] == {"encoder.hsi": 0}
    assert resolved["metrics"] == [{"name": "gain", "power": 1}]
    assert load(json.loads(json.dumps(resolved))).resolved() == resolved


def test_a_file_name_that_is_no_run_name_becomes_one(acme: Registry, tmp_path: Path) -> None:
    path = tmp_path / "my recipe (2).yaml"
    path.write_text(GOOD)
    recipe = load_recipe(path, registry=acme)
    assert recipe.name == "my-recipe-2-"
    assert load_recipe(recipe.resolved(), registry=acme).name == recipe.name


@pytest.mark.parametrize(
    ("loss", "terms"),
    [
        ("loss: focal", [("focal", 1.0, 2.0)]),
        ("loss: {name: focal, gamma: 1, weight: 3}", [("focal", 3.0, 1.0)]),
        ("loss: {ce: 1, focal: 0.5}", [("ce", 1.0, None), ("focal", 0.5, 2.0)]),
        ("loss: {ce: {label_smoothing: .1}, focal: {weight: 0}}", [("ce", 1.0, None), ("focal", 0.0, 2.0)]),
        ("loss: [ce, {name: focal, weight: 2, gamma: 1}]", [("ce", 1.0, None), ("focal", 2.0, 1.0)]),
    ],
)
def test_the_forms_of_loss(load: Load, loss: str, terms: list[tuple]) -> None:
    found = load(with_line(loss, "loss")).losses
    assert [(t.loss.name, t.weight, getattr(t.loss.options, "gamma", None)) for t in found] == terms


def test_the_official_split_has_a_name(load: Load) -> None:
    split = load(GOOD, "data.split=official").data.split
    assert split is not None
    assert (split.column, split.test, split.val) == (None, None, 0.15)


def test_precision_may_be_a_number(load: Load) -> None:
    assert load(GOOD, "train.precision=16").train.precision == "16"
    assert load(GOOD, "train.precision=bf16").train.precision == "bf16"


def test_an_error_of_later_work_names_the_place_of_its_keys(load: Load) -> None:
    recipe = load(GOOD, "fusion.dim=3")
    assert str(recipe.error(("modalities", "image", "encoder"), "no")) == "r.yaml:7:11: modalities.image.encoder: no"
    assert str(recipe.error(("fusion", "dim"), "no")) == "override 'fusion.dim=3': fusion.dim: no"


# What is said of broken ones


@pytest.mark.parametrize(
    ("line", "instead_of", "problem"),
    [
        ("fusoin: join", "fusion", "r.yaml:9:1: fusoin: unknown key; did you mean 'fusion'?"),
        ("fusion: joyn", "fusion", "r.yaml:9:1: fusion: no fusion is named 'joyn'; did you mean 'join'?"),
        ("fusion: {name: joyn}", "fusion", "r.yaml:9:10: fusion.name: no fusion is named 'joyn'; did you mean 'join'?"),
        ("fusion: {name: join, dmi: 1}", "fusion", "r.yaml:9:22: fusion.dmi: unknown key; did you mean 'dim'?"),
        (
            'fusion: {name: join, dim: "256"}',
            "fusion",
            "r.yaml:9:22: fusion.dim: should be a whole number, not the text '256'",
        ),
        ("fusion: {name: join, dim: 0}", "fusion", "r.yaml:9:22: fusion.dim: should be greater than 0, not 0"),
        (
            "fusion: {name: join, dropout: .nan}",
            "fusion",
            "r.yaml:9:22: fusion.dropout: should be a finite number, not nan",
        ),
        ("fusion: add", "fusion", "r.yaml:9:1: fusion.dim: is required and missing"),
        (
            "fusion: {nmae: join}",
            "fusion",
            "r.yaml:9:1: fusion: name the fusion here, as text or under `name` beside "
            "its options; there are: add, join",
        ),
        (
            "fusion: 3",
            "fusion",
            "r.yaml:9:1: fusion: name the fusion here, as text or under `name` beside its options; "
            "there are: add, join",
        ),
        (
            "fusion:",
            "fusion",
            "r.yaml:9:1: fusion: name the fusion here, as text or under `name` beside its options; "
            "there are: add, join",
        ),
        ("", "fusion", "r.yaml:1:1: fusion: is required and missing"),
        (
            "task: segmentation",
            "fusion",
            "r.yaml:9:1: task: should be 'classification', 'multilabel', 'regression', 'grounding' or 'retrieval', "
            "not the text 'segmentation'",
        ),
        ("  hsi: palin", "  hsi", "r.yaml:8:3: modalities.hsi: no encoder is named 'palin'; did you mean 'plain'?"),
        (
            "  hsi: {encoder: {name: net, widht: 3}}",
            "  hsi",
            "r.yaml:8:30: modalities.hsi.encoder.widht: unknown key; did you mean 'width'?",
        ),
        (
            "  hsi: {encoder: net, nomalize: none}",
            "  hsi",
            "r.yaml:8:23: modalities.hsi.nomalize: unknown key; did you mean 'normalize'?",
        ),
        (
            "  hsi: {encoder: plain, normalize: zscore}",
            "  hsi",
            "r.yaml:8:25: modalities.hsi.normalize: should be 'auto', 'standard', 'whiten', 'quantile' or 'none', "
            "not the text 'zscore'",
        ),
        (
            "  hsi: {encoder: }",
            "  hsi",
            "r.yaml:8:9: modalities.hsi.encoder: name the encoder here, as text or under "
            "`name` beside its options; there are: net, plain",
        ),
        ("  hsi: {shape: [1]}", "  hsi", "r.yaml:8:3: modalities.hsi.encoder: is required and missing"),
        ("  hsi:", "  hsi", "r.yaml:8:3: modalities.hsi: name its encoder here, or write a mapping with `encoder`"),
        (
            "  type: plain",
            "  hsi",
            "r.yaml:8:3: modalities.type: torch keeps this name for itself; give the modality another",
        ),
        (
            "  2d: plain",
            "  hsi",
            "r.yaml:8:3: modalities.2d: '2d' is not allowed here; the name of a modality is a "
            "letter, then letters, digits and `_`",
        ),
        (
            "  3: plain",
            "  hsi",
            "r.yaml:8:3: modalities.3: '3' is not allowed here; the name of a modality is a "
            "letter, then letters, digits and `_`",
        ),
        ("  source: tile", "  source", "r.yaml:2:3: data.source: no dataset is named 'tile'; did you mean 'tiles'?"),
        ("  sorce: tiles", "  source", "r.yaml:2:3: data.sorce: unknown key; did you mean 'source'?"),
        ("", "  source", "r.yaml:1:1: data.source: is required and missing"),
        ("", "  root", "r.yaml:1:1: data.root: is required and missing"),
        ("  bath_size: 8", "  batch", "r.yaml:5:3: data.bath_size: unknown key; did you mean 'batch_size'?"),
        ("  label: x", "  batch", "r.yaml:5:3: data.label: unknown key; did you mean 'labels'?"),
        ("  lr: 3", "  batch", "r.yaml:5:3: data.lr: unknown key; it belongs to train"),
        (
            "  labels: {file: x, colum: 1}",
            "  batch",
            "r.yaml:5:21: data.labels.colum: unknown key; did you mean 'column'?",
        ),
        (
            "  labels: {train: x, test: {file: x, column: '1'}}",
            "  batch",
            "r.yaml:5:38: data.labels.test.column: should be a whole number, not the text '1'",
        ),
        ("  size: [1]", "  batch", "r.yaml:5:3: data.size.1: is required and missing"),
        ("  names: {1: a, b: c}", "  batch", "r.yaml:5:17: data.names.b: should be a whole number, not the text 'b'"),
        (
            "  split: offical",
            "  batch",
            "r.yaml:5:3: data.split: there is no split 'offical'; write `official`, or a "
            "mapping such as {column: fold, test: 0}",
        ),
        ("  split: {colum: x}", "  batch", "r.yaml:5:11: data.split.colum: unknown key; did you mean 'column'?"),
        ("  folds: all", "  batch", "r.yaml:5:3: data.folds: needs data.split.column, the column that holds the folds"),
        (
            "  root: ${NOT_SET_HERE}/x",
            "  root",
            "r.yaml:3:3: data.root: the environment variable NOT_SET_HERE is not set",
        ),
        ("loss: cross", "loss", "r.yaml:10:1: loss: no loss is named 'cross'; choose from ce, focal"),
        (
            "loss:",
            "loss",
            "r.yaml:10:1: loss: name the loss here, as text or under `name` beside its options; there are: ce, focal",
        ),
        ("loss: {}", "loss", "r.yaml:10:1: loss: at least one loss is needed"),
        ("loss: []", "loss", "r.yaml:10:1: loss: at least one loss is needed"),
        ("loss: {ce: 1, focl: 1}", "loss", "r.yaml:10:15: loss.focl: no loss is named 'focl'; did you mean 'focal'?"),
        (
            "loss: {ce: -1}",
            "loss",
            f"r.yaml:10:8: loss.ce: {A_WEIGHT}, not -1",
        ),
        (
            "loss: {ce: .inf}",
            "loss",
            f"r.yaml:10:8: loss.ce: {A_WEIGHT}, not inf",
        ),
        (
            "loss: {ce: true}",
            "loss",
            f"r.yaml:10:8: loss.ce: {A_WEIGHT}, not true",
        ),
        (
            "loss: {ce: '1'}",
            "loss",
            f"r.yaml:10:8: loss.ce: {A_WEIGHT}, not the text '1'",
        ),
        (
            "loss: {name: ce, weight: x}",
            "loss",
            f"r.yaml:10:18: loss.weight: {A_WEIGHT}, not the text 'x'",
        ),
        ("loss: {ce: {name: focal}}", "loss", "r.yaml:10:13: loss.ce.name: unknown key; it belongs to the top level"),
        (
            "loss: {ce: {labl_smoothing: .1}}",
            "loss",
            "r.yaml:10:13: loss.ce.labl_smoothing: unknown key; did you mean 'label_smoothing'?",
        ),
        ("loss: [ce, {name: ce}]", "loss", "r.yaml:10:12: loss.1: ce is given twice; a loss is one term"),
        ("train: {lr: '3e-5'}", "train", "r.yaml:11:9: train.lr: should be a number, not the text '3e-5'"),
        ("train: {epochs: 1.5}", "train", "r.yaml:11:9: train.epochs: should be a whole number, not 1.5"),
        ("train: {epochs: true}", "train", "r.yaml:11:9: train.epochs: should be a whole number, not true"),
        ("train: {batch_size: 4}", "train", "r.yaml:11:9: train.batch_size: unknown key; it belongs to data"),
        ("train: {devices: 0}", "train", "r.yaml:11:9: train.devices: should be greater than 0, not 0"),
        (
            "train: {lr_scale: {encoder.imag: 1}}",
            "train",
            "r.yaml:11:20: train.lr_scale.encoder.imag: no such part of the model; did you mean 'encoder.image'?",
        ),
        (
            "train: {epochs: 4, stages: [{epochs: 2, lr_scale: {encoder.imag: 0}}, {}]}",
            "train",
            "r.yaml:11:52: train.stages.0.lr_scale.encoder.imag: no such part of the model; did you mean "
            "'encoder.image'?",
        ),
        (
            "train: {epochs: 4, stages: [{epochs: 4}, {lr_scale: {head: 2}}]}",
            "train",
            "r.yaml:11:42: train.stages.1: of the 4 epochs 0 are left for it",
        ),
        (
            "train: {epochs: 4, stages: [{epochs: 1}, {epochs: 5}, {}]}",
            "train",
            "r.yaml:11:43: train.stages.1.epochs: of the 4 epochs 3 are left for it",
        ),
        (
            "train: {epochs: 4, stages: [{epochs: 1}, {epochs: 2}]}",
            "train",
            "r.yaml:11:43: train.stages.1.epochs: the stages end after 3 of 4 epochs",
        ),
        (
            "train: {epochs: 4, stages: [{}, {}]}",
            "train",
            "r.yaml:11:29: train.stages.0: say how many `epochs` it has; they may be left out of the last stage alone",
        ),
        (
            "train: {stages: [{epoch: 2}]}",
            "train",
            "r.yaml:11:19: train.stages.0.epoch: unknown key; did you mean 'epochs'?",
        ),
        ("train: 3", "train", "r.yaml:11:1: train: should be a mapping of keys to values, not 3"),
        ("augment: flip", "train", "r.yaml:11:1: augment: should be a list, not the text 'flip'"),
        ("augment: [flop]", "train", "r.yaml:11:11: augment.0: no augmentation is named 'flop'; did you mean 'flip'?"),
        ("metrics: gain", "train", "r.yaml:11:1: metrics: should be a list, not the text 'gain'"),
        ("metrics: [gian]", "train", "r.yaml:11:11: metrics.0: no metric is named 'gian'; did you mean 'gain'?"),
        (
            "metrics: [{name: gain, power: 0}]",
            "train",
            "r.yaml:11:24: metrics.0.power: should be greater than 0, not 0",
        ),
        (
            "metrics: [gain, {name: gain, power: 2}]",
            "train",
            "r.yaml:11:17: metrics.1: gain is given twice; a metric is one figure",
        ),
        (
            "train: {select: kapa}",
            "train",
            "r.yaml:11:9: train.select: classification has no figure 'kapa'; did you mean 'kappa'?",
        ),
        (
            "train: {select: gain}",
            "train",
            "r.yaml:11:9: train.select: classification has no figure 'gain'; to select by the metric gain, name it "
            "under `metrics` too",
        ),
        (
            "train: {select: gian}\nmetrics: [gain]",
            "train",
            "r.yaml:11:9: train.select: classification has no figure 'gian'; did you mean 'gain'?",
        ),
        ("train: {select: 3}", "train", "r.yaml:11:9: train.select: should be text, not 3"),
        ("name: a/b", "train", "r.yaml:11:1: name: 'a/b' is not allowed here; use letters, digits, `_`, `-` and `.`"),
        ("name: 3", "train", "r.yaml:11:1: name: should be text, not 3"),
    ],
)
def test_one_mistake_one_line(told: Any, line: str, instead_of: str, problem: str, monkeypatch: Any) -> None:
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    found = told(with_line(line, instead_of))
    assert problem in found
    if line and line.partition(":")[0].strip() in ("fusoin", "sorce", instead_of.strip()):
        assert found == [problem]


def test_sections_of_the_wrong_kind(told: Any) -> None:
    assert told("data: [tiles]\nmodalities: net\nfusion: join\nloss: ce") == [
        "r.yaml:1:1: data: should be a mapping of keys to values",
        "r.yaml:2:1: modalities: should be a mapping of keys to values, not the text 'net'",
    ]
    assert told("data: {source: 3}\nmodalities: {}\nfusion: join\nloss: ce") == [
        "r.yaml:1:8: data.source: should be text, not 3",
        "r.yaml:2:1: modalities: should have at least 1 item, not 0",
    ]


def test_all_problems_of_a_file_are_told_at_once_in_their_order(told: Any) -> None:
    text = GOOD.replace("width: 16", "widht: 16").replace("dim: 64", "dim: x").replace("lr: 3e-5", "lr: -1")
    text += "seed: 1\nseed: 2\naugment: !mine [flip]\nfusoin: 3\n"
    assert told(text, "train.epochs=none") == [
        "override 'train.epochs=none': train.epochs: should be a whole number, not the text 'none'",
        "r.yaml:7:32: modalities.image.encoder.widht: unknown key; did you mean 'width'?",
        "r.yaml:9:22: fusion.dim: should be a whole number, not the text 'x'",
        "r.yaml:11:9: train.lr: should be greater than 0, not -1",
        "r.yaml:13:1: seed: given twice, first in line 12; remove one",
        "r.yaml:14:1: augment: the tag !mine is not allowed",
        "r.yaml:15:1: fusoin: unknown key; did you mean 'fusion'?",
    ]


def test_an_option_with_the_name_of_a_key_of_the_core_is_refused(packages: Any, tmp_path: Path) -> None:
    from importlib.metadata import entry_points

    from fusionkit.registry import build_registry

    packages.add(
        "bad",
        plugin="from fusionkit import Component, hookimpl\n@hookimpl\ndef fusionkit_components():\n"
        "    yield Component('fusion', 'f', 'bad.parts:F')\n    yield Component('dataset', 'd', 'bad.parts:D')\n"
        "    yield Component('loss', 'l', 'bad.parts:L')\n    yield Component('encoder', 'e', 'bad.parts:E')\n",
        parts="from fusionkit import Dataset, Encoder, Fusion, Loss\n"
        "class F(Fusion):\n    def __init__(self, inputs, *, name: str = ''): ...\n    forward = None\n"
        "class D(Dataset):\n    def __init__(self, *, split: str = ''): ...\n    inputs = index = read = None\n"
        "class L(Loss):\n    def __init__(self, task, *, weight: float = 1): ...\n    forward = None\n"
        "class E(Encoder):\n    def __init__(self, spec, width: int = 1): ...\n    embed = None\n",
    )
    registry = build_registry(point for point in entry_points(group="fusionkit") if point.name == "bad")
    with pytest.raises(RecipeError) as error:
        load_recipe({"data": {"source": "d"}, "modalities": {"a": "e"}, "fusion": "f", "loss": "l"}, registry=registry)
    assert str(error.value).splitlines() == [
        "recipe: data.source: dataset 'd' of bad is broken: its option 'split' has the name of a key of the core",
        "recipe: modalities.a: encoder 'e' of bad is broken: "
        "option 'width' of E.__init__ needs a `*` before it: keyword-only",
        "recipe: fusion: fusion 'f' of bad is broken: its option 'name' has the name of a key of the core",
        "recipe: loss: loss 'l' of bad is broken: its option 'weight' has the name of a key of the core",
    ]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (
            {"data": {"source": object}},
            "recipe: a recipe holds text, numbers, lists and mappings, not <class 'object'>",
        ),
        ({("a",): 1}, "recipe: keys must be str, int, float, bool or None, not tuple"),
        ({"fusion": {"name": "joyn"}}, "recipe: fusion.name: no fusion is named 'joyn'; did you mean 'join'?"),
    ],
)
def test_plain_data_that_are_no_recipe(told: Any, data: dict, problem: str) -> None:
    assert problem in told(data)


# Files


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "r.yaml:1:1: the file is empty; a recipe is a mapping of keys to values"),
        (b"# nothing\n", "r.yaml:1:1: the file is empty; a recipe is a mapping of keys to values"),
        (b"- a\n- b\n", "r.yaml:1:1: a recipe is a mapping of keys to values"),
        (b"just words", "r.yaml:1:1: a recipe is a mapping of keys to values"),
        ("data: 铁路站".encode("gb18030"), "r.yaml: is no text in UTF-8"),
        ("data: x".encode("utf-16"), "r.yaml: is no text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n", "r.yaml: is no text in UTF-8"),
        (b"data:\n\tsource: tiles\n", "r.yaml:2:1: a tab indents this line; YAML takes spaces only"),
    ],
)
def test_files_that_are_no_recipe(
    content: bytes, problem: str, acme: Registry, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_bytes(content)
    with pytest.raises(RecipeError) as error:
        load_recipe("r.yaml", registry=acme)
    assert str(error.value) == problem


def test_files_that_are_not_there(acme: Registry, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no\.yaml: does not exist$"):
        load_recipe(tmp_path / "no.yaml", registry=acme)
    with pytest.raises(RecipeError, match=r"is a folder; name a recipe in it$"):
        load_recipe(tmp_path, registry=acme)
    (tmp_path / "file").touch()
    with pytest.raises(RecipeError, match=r"cannot be read: Not a directory$"):
        load_recipe(tmp_path / "file" / "r.yaml", registry=acme)


# Inheritance


def test_a_chain_of_bases_relative_to_each_file(load: Load) -> None:
    Path("sub/deep").mkdir(parents=True)
    Path("sub/deep/root.yaml").write_text(GOOD + "name: root\nseed: 1\n")
    Path("sub/middle.yaml").write_text("base: deep/root.yaml\nfusion: {dim: 32}\nmodalities: {hsi: null}\n")
    recipe = load("base: sub/middle.yaml\ntrain: {epochs: 7}\nmodalities: {extra: plain}\n", "fusion.dropout=0")
    assert (recipe.name, recipe.seed) == ("r", 1)
    assert dict(recipe.fusion.options) == {"dim": 32, "dropout": 0.0}
    assert (recipe.train.epochs, recipe.train.lr) == (7, 3e-5)
    assert list(recipe.modalities) == ["image", "extra"]
    assert list(recipe.sources) == ["r.yaml", "sub/middle.yaml", "sub/deep/root.yaml"]
    assert "base" not in recipe.resolved()


def test_plain_data_may_have_a_base(load: Load) -> None:
    Path("root.yaml").write_text(GOOD)
    recipe = load({"base": "root.yaml", "fusion": {"dim": 5}})
    assert recipe.fusion.options.dim == 5  # type: ignore[attr-defined]
    assert list(recipe.sources) == ["recipe", "root.yaml"]


def test_another_component_drops_the_options_of_the_bases(load: Load) -> None:
    Path("root.yaml").write_text(with_line("fusion: {name: join, dropout: 0.5}", "fusion"))
    assert dict(load("base: root.yaml\nfusion: {name: add, dim: 1}\n").fusion.options) == {"dim": 1}
    assert load("base: root.yaml\ndata: {source: scenes}\n").data.batch_size == 8


def test_errors_name_the_file_that_is_wrong(load: Load, told: Any) -> None:
    Path("root.yaml").write_text(GOOD.replace("dim: 64", "dmi: 64").replace("lr: 3e-5", "lr: x"))
    assert told("base: root.yaml\ntrain: {epochs: -1}\ndata: {batch_size: 0, batch_size: 1}\n", "seed=x") == [
        "override 'seed=x': seed: should be a whole number, not the text 'x'",
        "r.yaml:2:9: train.epochs: should be greater than 0, not -1",
        "r.yaml:3:8: data.batch_size: should be greater than 0, not 0",
        "r.yaml:3:23: data.batch_size: given twice, first in line 3; remove one",
        "root.yaml:9:22: fusion.dmi: unknown key; did you mean 'dim'?",
        "root.yaml:11:9: train.lr: should be a number, not the text 'x'",
    ]


def test_bases_that_cannot_be(load: Load, told: Any) -> None:
    Path("a.yaml").write_text("base: b.yaml\n")
    Path("b.yaml").write_text("\nbase: r.yaml\n")
    Path("list.yaml").write_text("- 1\n")
    assert told("base: a.yaml\n") == [
        "b.yaml:2:1: base: r.yaml inherits from itself: r.yaml -> a.yaml -> b.yaml -> r.yaml"
    ]
    assert told("base: r.yaml\n") == ["r.yaml:1:1: base: r.yaml inherits from itself: r.yaml -> r.yaml"]
    assert told("seed: 1\nbase: ../no.yaml\n") == ["r.yaml:2:1: base: ../no.yaml does not exist"]
    assert told("base: .\n") == ["r.yaml:1:1: base: . is a folder; name a recipe in it"]
    assert told("base: [a.yaml, b.yaml]\n") == ["r.yaml:1:1: base: name one recipe here, as text"]
    assert told("base: list.yaml\n") == ["list.yaml:1:1: a recipe is a mapping of keys to values"]


def test_a_modality_that_no_base_has_cannot_be_removed(load: Load, told: Any) -> None:
    Path("root.yaml").write_text(GOOD)
    assert told("base: root.yaml\nmodalities: {lidar: null}\n") == [
        "r.yaml:2:14: modalities.lidar: name its encoder here, or write a mapping with `encoder`"
    ]


# Overrides


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("train.epochs=x", "train.epochs: should be a whole number, not the text 'x'"),
        ("train.epohcs=1", "train.epohcs: unknown key; did you mean 'epochs'?"),
        ("fusion.dmi=1", "fusion.dmi: unknown key; did you mean 'dim'?"),
        ("fusion=joyn", "fusion.name: no fusion is named 'joyn'; did you mean 'join'?"),
        ("fusion.name=joyn", "fusion.name: no fusion is named 'joyn'; did you mean 'join'?"),
        ("fusion.name=add", "fusion.dim: is required and missing"),
        ("modalities.hsi=palin", "modalities.hsi.encoder.name: no encoder is named 'palin'; did you mean 'plain'?"),
        ("modalities.hsi.encoder.widht=1", "modalities.hsi.encoder.widht: unknown key; this component has no options"),
        ("data.source.x=1", "data.source: should be text"),
        (
            "train.lr_scale.encoder.hs=1",
            "train.lr_scale.encoder.hs: no such part of the model; did you mean 'encoder.hsi'?",
        ),
        ("train.lr=.nan", "train.lr: should be a finite number, not nan"),
        ("loss.focl=1", "loss.focl: unknown key; choose from label_smoothing, name, weight"),
        ("train.epochs", "write key=value, for example train.epochs=5"),
    ],
)
def test_what_is_said_of_an_override(told: Any, override: str, problem: str) -> None:
    assert told(GOOD, override) == [f"override {override!r}: {problem}"]


def test_all_bad_overrides_are_told_at_once(told: Any) -> None:
    assert told(GOOD, "a", "train.epochs=[1", "train.lr=1") == [
        "override 'a': write key=value, for example train.epochs=5",
        "override 'train.epochs=[1': YAML syntax: a `,` or the closing `]` is missing (opened in line 1)",
    ]


def test_overrides_are_remembered(load: Load) -> None:
    assert load(GOOD, "train.epochs=1", "seed=4").overrides == ("train.epochs=1", "seed=4")
    assert load(GOOD, "modalities.hsi=null").modalities.keys() == {"image"}


# The broken recipes of the foundation issue that loading alone can tell; shapes and classes are for fusionkit.check


@pytest.mark.parametrize(
    ("text", "override", "problem"),
    [
        (GOOD + "sed: 3\n", None, "r.yaml:12:1: sed: unknown key; did you mean 'seed'?"),
        (
            GOOD.replace("epochs: 2", "epochs: two"),
            None,
            "r.yaml:11:19: train.epochs: should be a whole number, not the text 'two'",
        ),
        (
            GOOD.replace("name: join", "name: jion"),
            None,
            "r.yaml:9:10: fusion.name: no fusion is named 'jion'; did you mean 'join'?",
        ),
        (None, None, "r.yaml: does not exist"),
        (GOOD.replace("  source", "\tsource"), None, "r.yaml:2:1: a tab indents this line; YAML takes spaces only"),
        (GOOD + "loss: focal\n", None, "r.yaml:12:1: loss: given twice, first in line 10; remove one"),
        (GOOD, "train.epochs:5", "override 'train.epochs:5': write key=value, for example train.epochs=5"),
        (GOOD + "base: r.yaml\n", None, "r.yaml:12:1: base: r.yaml inherits from itself: r.yaml -> r.yaml"),
    ],
    ids=[
        "unknown key",
        "wrong type",
        "misspelt fusion",
        "missing file",
        "tab",
        "duplicate key",
        "bad override",
        "cycle",
    ],
)
def test_broken_recipes(
    acme: Registry, tmp_path: Path, monkeypatch: Any, text: Any, override: Any, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("r.yaml").write_text(text)
    with pytest.raises(RecipeError) as error:
        load_recipe("r.yaml", [override] if override else [], registry=acme)
    assert str(error.value) == problem
    assert error.value.exit_code == 2
