"""Grids as users write them: which cells they mean, and what is said of broken ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fusionkit.errors import RecipeError
from fusionkit.grids import Grid, by_variant, load_grid
from fusionkit.registry import Registry

BASE = """\
data: {source: tiles, root: some/where, batch_size: 8}
modalities:
  image: {encoder: {name: net, width: 16}, shape: [3, 9, 9]}
  hsi: plain
fusion: {name: join, dim: 64}
loss: {ce: 1, focal: {gamma: 1, weight: .5}}
augment: [flip]
train: {lr: 3e-5, epochs: 2}
"""
Load = Callable[..., Grid]


@pytest.fixture
def load(acme: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Write a grid's text as `g.yaml` beside its base `r.yaml`, in the current folder, and load it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(BASE)

    def load(text: str, *overrides: str) -> Grid:
        (tmp_path / "g.yaml").write_text("base: r.yaml\n" + text)
        return load_grid("g.yaml", overrides, registry=acme)

    return load


@pytest.fixture
def told(load: Load) -> Callable[..., list[str]]:
    """Everything that is said of a broken grid."""

    def told(text: str, *overrides: str) -> list[str]:
        with pytest.raises(RecipeError) as error:
            load(text, *overrides)
        assert error.value.exit_code == 2
        return str(error.value).splitlines()

    return told


# What grids mean


def test_axes_are_crossed_and_seeds_are_innermost(load: Load) -> None:
    grid = load("axes: {fusion: [join, {name: add, dim: 8}], train.lr: [1e-3, 1e-2]}\nseeds: 2\n")
    assert [(cell.name, cell.seed) for cell in grid.cells] == [
        ("fusion=join, train.lr=0.001", 0),
        ("fusion=join, train.lr=0.001", 1),
        ("fusion=join, train.lr=0.01", 0),
        ("fusion=join, train.lr=0.01", 1),
        ("fusion=add(dim=8), train.lr=0.001", 0),
        ("fusion=add(dim=8), train.lr=0.001", 1),
        ("fusion=add(dim=8), train.lr=0.01", 0),
        ("fusion=add(dim=8), train.lr=0.01", 1),
    ]
    last = grid.cells[-1]
    assert last.levels == {"fusion": "add(dim=8)", "train.lr": "0.01"}
    assert (last.recipe["fusion"], last.recipe["train"]["lr"]) == ({"name": "add", "dim": 8}, 0.01)
    assert last.recipe["seed"] == 1
    assert last.recipe["train"]["epochs"] == 2
    assert (grid.name, grid.reference) == ("g", "fusion=join, train.lr=0.001")


def test_a_level_of_a_component_is_laid_over_the_base_like_a_recipe(load: Load) -> None:
    cells = load("axes: {fusion: [{name: join, dropout: 0}, {name: add, dim: 8}]}\nseeds: 1\n").cells
    assert cells[0].recipe["fusion"] == {"name": "join", "dim": 64, "dropout": 0}
    assert cells[1].recipe["fusion"] == {"name": "add", "dim": 8}


def test_levels_may_have_names(load: Load) -> None:
    grid = load("axes: {loss: {plain: {focal: null}, soft: {ce: {label_smoothing: .1}, focal: null}}}\nseeds: 1\n")
    plain, soft = grid.cells
    assert (plain.name, soft.name) == ("loss=plain", "loss=soft")
    assert plain.recipe["loss"] == [{"name": "ce", "label_smoothing": 0.0, "weight": 1.0}]
    assert soft.recipe["loss"] == [{"name": "ce", "label_smoothing": 0.1, "weight": 1.0}]


@pytest.mark.parametrize(
    ("levels", "names"),
    [
        (
            "[{train.lr: 1e-3, train.epochs: 5}, {train.lr: 1e-2}]",
            ["train.lr=0.001 train.epochs=5", "train.lr=0.01"],
        ),
        ("{slow: {train.lr: 1e-3, train.epochs: 5}, fast: {train.lr: 1e-2}}", ["slow", "fast"]),
    ],
)
def test_keys_that_change_together(load: Load, levels: str, names: list[str]) -> None:
    cells = load(f"axes:\n  pace: {levels}\nseeds: 1\n").cells
    assert [cell.levels["pace"] for cell in cells] == names
    assert [(cell.recipe["train"]["lr"], cell.recipe["train"]["epochs"]) for cell in cells] == [(1e-3, 5), (1e-2, 2)]


def test_parts_are_left_out_one_at_a_time(load: Load) -> None:
    grid = load("remove: [hsi, focal, flip, train.lr]\nseeds: 1\n")
    full, no_hsi, no_focal, no_flip, no_rate = (cell.recipe for cell in grid.cells)
    assert list(by_variant(grid.cells)) == [f"without={p}" for p in ("nothing", "hsi", "focal", "flip", "lr")]
    assert [list(r["modalities"]) for r in (full, no_hsi, no_focal)] == [["image", "hsi"], ["image"], ["image", "hsi"]]
    assert [[t["name"] for t in r["loss"]] for r in (full, no_focal)] == [["ce", "focal"], ["ce"]]
    assert [len(r["augment"]) for r in (full, no_flip)] == [1, 0]
    assert [r["train"]["lr"] for r in (full, no_rate)] == [3e-5, 1e-3]
    assert grid.reference == "without=nothing"


def test_removal_is_crossed_with_the_axes(load: Load) -> None:
    grid = load("axes: {loss: [ce, {ce: 1, focal: 2}]}\nremove: [focal]\nseeds: 1\n")
    assert list(by_variant(grid.cells)) == ["loss=ce, without=nothing", "loss=ce=1 focal=2, without=nothing"]
    assert grid.notes == (
        "loss=ce, without=focal is the same as loss=ce, without=nothing",
        "loss=ce=1 focal=2, without=focal is the same as loss=ce, without=nothing",
    )


def test_identical_cells_are_one(load: Load) -> None:
    grid = load("axes: {fusion: [join, {name: join, dropout: .1}, {name: join, dropout: .2}]}\nseeds: 3\n")
    assert len(grid.cells) == 6
    assert grid.notes == ("fusion=join(dropout=0.1) is the same as fusion=join",)
    assert len({cell.fingerprint for cell in grid.cells}) == 6


def test_baselines_are_trained_beside_the_reference_alone(load: Load) -> None:
    grid = load("axes: {fusion: [join, {name: add, dim: 8}]}\nreference: {fusion: add(dim=8)}\nseeds: 2\n")
    assert [cell.recipe["baselines"] for cell in grid.cells] == [False, False, True, True]
    one = load("axes: {fusion: [join]}\nseeds: 1\n", "modalities={hsi: null}")
    assert [cell.recipe["baselines"] for cell in one.cells] == [False]


@pytest.mark.parametrize(
    "reference", ["fusion=join, train.lr=0.01", "{train.lr: 1e-2}", "{fusion: join, train.lr: .01}"]
)
def test_the_reference_by_its_name_or_by_its_levels(load: Load, reference: str) -> None:
    quoted = reference if reference.startswith("{") else f"'{reference}'"
    grid = load(f"axes: {{fusion: [join], train.lr: [1e-3, 1e-2]}}\nreference: {quoted}\n")
    assert grid.reference == "fusion=join, train.lr=0.01"


def test_a_reference_that_is_the_same_as_another_variant(load: Load) -> None:
    grid = load("axes: {fusion: [join, {name: join, dropout: .1}]}\nreference: join(dropout=0.1)\n")
    assert grid.reference == "fusion=join"


def test_a_fingerprint_is_of_what_the_results_depend_on(load: Load) -> None:
    text = "axes: {fusion: [join]}\nseeds: [3]\n"
    [cell] = load(text).cells
    [same] = load(text, "data.num_workers=2", "data.timeout=1", "name=other").cells
    [other] = load(text, "train.lr=1").cells
    [seed] = load(text.replace("3", "4")).cells
    assert cell.fingerprint == same.fingerprint
    assert len({cell.fingerprint, other.fingerprint, seed.fingerprint}) == 3


def test_seeds_are_a_number_or_a_list(load: Load) -> None:
    assert load("axes: {fusion: [join]}\n").seeds == [0, 1, 2, 3, 4]
    assert load("axes: {fusion: [join]}\nseeds: [7, 2]\n").seeds == [7, 2]


def test_a_grid_without_axes_is_one_variant(load: Load) -> None:
    assert [cell.name for cell in load("seeds: 2\n").cells] == ["base", "base"]


# What is said of broken ones


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "axes: {trian.lr: [1, 2]}",
            "g.yaml:2:8: axes.trian.lr: a recipe has no such key; did you mean 'train'?",
        ),
        (
            "axes: {fusoin: [join, add]}",
            "g.yaml:2:17: axes.fusoin.0: 'fusoin' is no key of a recipe; did you mean 'fusion'?",
        ),
        ("axes: {fusion: []}", "g.yaml:2:8: axes.fusion: has no level; an axis needs one at least"),
        (
            "axes: {fusion: join}",
            "g.yaml:2:8: axes.fusion: should be a list of levels, or a mapping from names to levels",
        ),
        ("axes: {fusion: [join, join]}", "g.yaml:2:23: axes.fusion.1: the level join is given twice"),
        ("axes: {fusion: [jion]}", "g.yaml:2:17: fusion.name: no fusion is named 'jion'; did you mean 'join'?"),
        (
            "axes: {train.lr: [1], pace: [{train.lr: 2, train.epochs: 3}]}",
            "g.yaml:2:23: axes.pace: train.lr is changed by the axis train.lr already; tie them in one axis",
        ),
        (
            "axes: {fusion.dim: [1, 2], fusion: [join]}",
            "g.yaml:2:28: axes.fusion: fusion would undo fusion.dim of the axis fusion.dim; write this axis before it",
        ),
        ("axes: {seed: [1, 2]}", "g.yaml:2:8: axes.seed: is no axis; write `seeds`, a number or a list"),
        ("axes: {pace: [{base: x}]}", "g.yaml:2:16: axes.pace.0.base: cannot be changed here; a grid has one base"),
        (
            "axes: {pace: [{trane.lr: 1}]}",
            "g.yaml:2:16: axes.pace.0.trane.lr: a recipe has no such key; did you mean 'train'?",
        ),
        ("axes: {train.lrr: [1]}", "g.yaml:2:20: train.lrr: unknown key; did you mean 'lr'?"),
        ("axes: {without: [{train.lr: 1}]}", None),
        ("axis: {fusion: [join]}", "g.yaml:2:1: axis: unknown key; did you mean 'axes'?"),
        (
            "fusion: join",
            "g.yaml:2:1: fusion: unknown key; it belongs to the base recipe, or its values to `axes`",
        ),
        ("seeds: 0", "g.yaml:2:1: seeds: should be greater than 0, not 0"),
        ("seeds: [1, 2, 1]", "g.yaml:2:15: seeds.2: the seed 1 is given twice"),
        (
            "remove: [lidar]",
            "g.yaml:2:10: remove.0: 'lidar' is no one part of the recipe; choose from ce, flip, focal, hsi, image",
        ),
        ("remove: [hsj]", "g.yaml:2:10: remove.0: 'hsj' is no one part of the recipe; did you mean 'hsi'?"),
        ("remove: [data]", "g.yaml:2:10: data: is required and missing"),
        ("reference: fusion=add", "g.yaml:2:1: reference: there is no variant 'fusion=add'; choose from base"),
        (
            "reference: {fusion: add}\naxes: {fusion: [join]}",
            "g.yaml:2:13: reference.fusion: fusion has no level 'add'; choose from join",
        ),
        (
            "reference: {fushion: join}\naxes: {fusion: [join]}",
            "g.yaml:2:13: reference.fushion: there is no axis 'fushion'; did you mean 'fusion'?",
        ),
        (
            f"axes: {{train.lr: {list(range(1, 1001))}, train.epochs: {list(range(1, 1001))}}}\nseeds: 2",
            "g.yaml:1:1: 2,000,000 cells (1000 of train.lr x 1000 of train.epochs x 2 seeds); "
            "a grid has at most 10,000",
        ),
    ],
)
def test_one_mistake_one_line(told: Callable[..., list[str]], text: str, problem: str | None) -> None:
    [line] = told(text + "\n")
    if problem is not None:
        assert line == problem


def test_the_base_is_named_where_it_cannot_be_read(told: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "r.yaml").unlink()
    assert told("seeds: 1\n") == ["g.yaml:1:1: base: r.yaml does not exist"]
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe")
    assert told("seeds: 1\n") == ["g.yaml:1:1: base: r.yaml is no text in UTF-8"]


def test_all_problems_of_all_cells_are_told_at_once_and_once(told: Callable[..., list[str]]) -> None:
    assert told("axes: {fusion: [jion, join, {name: add}], loss: [ce, {focal: -1}]}\nseeds: two\n") == [
        "g.yaml:3:1: seeds: should be a whole number; or should be a list, not the text 'two'"
    ]
    assert told("axes: {fusion: [jion, join, {name: add}], loss: [ce, {focal: -1}]}\n") == [
        "g.yaml:2:17: fusion.name: no fusion is named 'jion'; did you mean 'join'?",
        "g.yaml:2:29: fusion.dim: is required and missing",
        "g.yaml:2:54: loss.focal.weight: a weight is a number of 0 or more, a schedule such as {from: 0, to: 0.5}, "
        "`uncertainty` or `dwa`, not -1",
    ]


def test_a_mistake_in_the_base_is_told_once_with_its_own_line(told: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(BASE.replace("epochs: 2", "epochs: none"))
    assert told("axes: {fusion: [join, {name: add, dim: 2}]}\n") == [
        "r.yaml:8:19: train.epochs: should be a whole number, not the text 'none'"
    ]


def test_an_override_changes_the_base(load: Load, told: Callable[..., list[str]]) -> None:
    assert load("seeds: 1\n", "train.epochs=9").cells[0].recipe["train"]["epochs"] == 9
    assert told("seeds: 1\n", "train.epochs") == [
        "override 'train.epochs': write key=value, for example train.epochs=5"
    ]


# The grid that comes with fusionkit


def test_the_grid_of_the_demo_is_three_by_three_by_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSIONKIT_DATA", "data")
    grid = load_grid(Path(__file__).parents[2] / "recipes" / "grids" / "urfc_demo.yaml")
    assert (len(grid.cells), len(grid.variants), grid.notes) == (27, 9, ())
    assert grid.reference == "fusion=concat, loss=cross_entropy"
    assert [cell.seed for cell in grid.cells if cell.recipe["baselines"]] == [0, 1, 2]
