"""Runs made by hand, compared: what is one variant, how variants are named, what is refused; and the command."""

import numpy as np
import pytest
from made_runs import made_grid, made_run, probabilities

from fusionkit.compare import compare, tell_apart
from fusionkit.errors import RequestError

TARGET = np.arange(80) % 4


@pytest.fixture
def run(tmp_path):
    """Make a run: `run("a", seed=1, fusion={"name": "gmu"})`; other keys change its resolved recipe."""

    def make(folder, /, seed=0, commit="0123456789abcdef", share=0.7, **recipe):
        right = np.random.default_rng([seed, ord(folder)]).random(80) < share
        answers = probabilities(TARGET, right, seed)
        return made_run(tmp_path / folder, TARGET, answers, seed=seed, commit=commit, recipe=recipe)

    return make


def names(*runs):
    return [told.name for told in tell_apart(runs)]


def test_runs_that_differ_in_seed_are_one_variant(run):
    first, second = run("a", 0), run("b", 1)
    assert [(told.name, told.seed) for told in tell_apart([first, second])] == [("tiles", 0), ("tiles", 1)]
    assert len(compare([first, second]).rows) == 1


def test_variants_are_named_by_what_differs(run):
    one = run("a", train={"epochs": 3, "lr": 0.001})
    two = run("b", train={"epochs": 3, "lr": 0.01})
    assert names(one, two) == ["train.lr=0.001", "train.lr=0.01"]
    assert tell_apart([one, two])[0].levels == {"train.lr": "0.001"}


def test_a_component_stands_for_its_options(run):
    runs = [
        run("a", fusion={"name": "concat", "dim": 64}),
        run("b", fusion={"name": "gmu", "dim": 32, "gate": "tanh"}),
    ]
    assert names(*runs) == ["fusion=concat", "fusion=gmu"]
    runs.append(run("c", fusion={"name": "concat", "dim": 128}))
    assert names(*runs) == [
        "fusion=concat, fusion.dim=64", "fusion=gmu, fusion.dim=32", "fusion=concat, fusion.dim=128",
    ]  # fmt: skip


def test_what_is_missing_is_none(run):
    runs = [run("a", loss=[{"name": "focal"}]), run("b", loss=[{"name": "focal"}, {"name": "info_nce"}])]
    assert names(*runs) == ["loss.1=none", "loss.1=info_nce"]


def test_recipes_with_names_of_their_own_go_by_them(run):
    runs = [run("a", name="plain"), run("b", name="taught", train={"lr": 1}), run("c", seed=1, name="plain")]
    assert names(*runs) == ["plain", "taught", "plain"]
    assert tell_apart(runs)[1].levels["train.lr"] == "1"


def test_names_that_two_variants_share_do_not_count(run):
    runs = [run("a", name="x"), run("b", name="x", train={"epochs": 3, "lr": 1}), run("c", name="y", seed=1)]
    assert names(*runs) == ["train.lr=0.001", "train.lr=1", "train.lr=0.001"]


def test_how_and_where_data_are_read_tells_nothing_apart(run):
    runs = [run("a"), run("b", 1, data={"source": "urfc", "root": "/moved", "batch_size": 32, "num_workers": 4})]
    assert len(set(names(*runs))) == 1


def test_the_same_recipe_and_seed_by_other_code(run):
    runs = [run("a"), run("b", commit="fedcba9876543210")]
    assert names(*runs) == ["code=0123456789", "code=fedcba9876"]
    found = compare(runs)
    assert any(note.startswith("Different code") for note in found.notes)


def test_a_run_twice_is_refused(run):
    with pytest.raises(RequestError, match="same recipe, seed and code: leave one out"):
        compare([run("a"), run("b")])


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RequestError, match="no run folder"):
        compare([tmp_path])
    (tmp_path / "resolved.yaml").write_text("name: x")
    with pytest.raises(RequestError, match="unfinished run"):
        compare([tmp_path])


class TestCommand:
    def test_prints_the_table_and_writes_the_files(self, fusionkit, tmp_path):
        made_grid(tmp_path / "runs", seeds=(0, 1, 2), n=120, gains={"concat": 0.0, "late": 1.5})
        runs = sorted((tmp_path / "runs").iterdir())
        answer = fusionkit("compare", *runs, "-o", tmp_path / "out")
        assert answer.code == 0
        lines = answer.out.splitlines()
        assert [line.split("  ")[0] for line in lines[1:]] == [
            "image alone", "early stack", "fusion=concat", "fusion=late",
        ]  # fmt: skip
        assert lines[-1].endswith("better")
        assert "Holm" in answer.err
        assert (tmp_path / "out" / "ablation.html").is_file()

    def test_reference(self, fusionkit, run):
        one, two = run("a"), run("b", fusion={"name": "gmu"}, share=0.9)
        answer = fusionkit("compare", one.path, two.path, "--reference", "fusion=gmu")
        assert answer.out.splitlines()[2].endswith("reference")

    def test_other_test_samples_are_one_line(self, fusionkit, run, tmp_path):
        other = made_run(
            tmp_path / "other", TARGET, probabilities(TARGET, TARGET > 0, 0), seed=1, ids=[f"t{k}" for k in range(80)]
        )
        answer = fusionkit("compare", run("a").path, other.path)
        assert answer.code == 2
        assert answer.err.count("\n") == 1
        assert "cannot be compared: they have different test samples" in answer.err

    def test_a_folder_that_is_not_there(self, fusionkit, tmp_path):
        answer = fusionkit("compare", tmp_path / "a", tmp_path / "b")
        assert (answer.code, answer.err) == (2, f"error: {tmp_path / 'a'} is no run folder\n")
