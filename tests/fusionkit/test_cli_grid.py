"""`fusionkit grid`: what goes to which stream, and how a wrong request is told."""

from __future__ import annotations

import pytest

GRID = "base: toy.yaml\naxes: {fusion: [concat, late]}\nseeds: 2\n"
RECIPE = """\
data: {source: arrays, inputs: {near: "toy.npz:near", far: "toy.npz:far"}, labels: "toy.npz:label"}
modalities: {near: {encoder: mlp, shape: [3]}, far: {encoder: mlp, shape: [3]}}
fusion: {name: concat, dim: 8}
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A grid and its base, whose data are not at hand."""
    (tmp_path / "toy.yaml").write_text(RECIPE.replace("arrays,", "arrays, class_names: [a, b],"))
    (tmp_path / "g.yaml").write_text(GRID)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_dry_run_lists_every_cell_and_makes_nothing(fusionkit, toy):
    answer = fusionkit("grid", "g.yaml", "--dry-run")
    assert answer.code == 0, answer.err
    head, *rows = answer.out.splitlines()
    assert head.split() == ["fingerprint", "seed", "state", "variant"]
    assert [row.split()[1:] for row in rows] == [[seed, f"fusion={f}"] for f in ("concat", "late") for seed in "01"]
    assert "4 cells: 2 variants x 2 seeds, compared with fusion=concat" in answer.err
    assert "the data are not at hand" in answer.err
    assert not (toy / "grids").exists()


def test_a_grid_without_its_data_is_refused(fusionkit, toy):
    answer = fusionkit("grid", "g.yaml")
    assert (answer.code, answer.out) == (2, "")
    assert "the data are not at hand" in answer.err
    assert not list((toy / "grids").glob("*/cells/*"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere.yaml"], "there is no file nowhere.yaml, nor a shipped grid"),
        (["toy.yaml"], "toy.yaml:1:1: data: unknown key; it belongs to the base recipe"),
        (["."], "is a folder; name a grid in it"),
        (["g.yaml", "train.epochs=no"], "train.epochs"),
        (["g.yaml", "--backend", "dask"], "needs --scheduler with the address"),
        (["g.yaml", "--scheduler", "tcp://127.0.0.1:1"], "needs --backend dask"),
        (["g.yaml", "--backend", "slurm"], "slurm"),
        (["g.yaml", "--jobs", "0"], "--jobs"),
    ],
)
def test_a_wrong_request_is_told_and_leaves_nothing(fusionkit, toy, words, told):
    answer = fusionkit("grid", *words)
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err
    assert "Traceback" not in answer.err
    assert not (toy / "grids").exists()


def test_a_scheduler_that_does_not_answer_is_named(fusionkit, toy, monkeypatch):
    pytest.importorskip("distributed")
    from fusionkit import grid_backends

    monkeypatch.setattr(grid_backends, "_PATIENCE", 0.5)
    answer = fusionkit("grid", "g.yaml", "--backend", "dask", "--scheduler", "tcp://127.0.0.1:1")
    assert (answer.code, answer.out) == (2, "")
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in answer.err
