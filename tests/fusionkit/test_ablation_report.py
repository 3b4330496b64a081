"""The files and figures of an ablation: what they hold, that they are safe, and differences of confusion matrices."""

import csv
import re

import numpy as np
import pytest
from made_runs import NAMES, MadeCell, made_grid, made_run
from sklearn.metrics import confusion_matrix

from fusionkit.ablation import ablation
from fusionkit.ablation_report import legend, sentence, write_ablation, write_confusion_difference
from fusionkit.errors import RequestError
from fusionkit.figures_ablation import ablation_figure, confusion_difference, counts_apart


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return made_grid(tmp_path_factory.mktemp("grid"), n=120)


@pytest.fixture(scope="module")
def found(cells):
    return ablation(cells)


@pytest.fixture(scope="module")
def written(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "new"
    wild = [
        (MadeCell("<script>alert(1)</script>/.." if cell.name == "late" else cell.name, cell.seed), run)
        for cell, run in cells
        if cell.name != "sum"
    ]
    write_ablation(folder, ablation(wild))
    return folder


def test_files(written):
    tables = {f"{stem}.{kind}" for stem in ("table", "costs") for kind in ("md", "csv", "tex")}
    expected = tables | {"runs.csv", "ablation.png", "ablation.pdf", "ablation.html", "confusion_difference"}
    assert {path.name for path in written.iterdir()} == expected
    assert len(list((written / "confusion_difference").iterdir())) == 6


def test_page_is_self_contained_and_escaped(written):
    text = (written / "ablation.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert text.count("data:image/png;base64,") == 3
    assert "no evidence of a difference" in text


def test_legend_tells_how(found):
    told = " ".join(legend(found))
    assert "120 samples (test)" in told
    assert "sign-flip test over samples" in told
    assert "paired t-test over seeds" in told
    assert "Holm" in told


def test_legend_of_one_seed_claims_nothing_of_recipes(cells):
    told = " ".join(legend(ablation([(cell, run) for cell, run in cells if cell.seed == 0])))
    assert "exact McNemar. It speaks of these very models" in told
    assert "t-test" not in told


def test_sentences(found):
    gmu, late = found.row("gmu"), found.row("sum")
    assert sentence(found, gmu).startswith("gmu: no evidence of a difference from concat (OA ")
    assert "would have been found with 80 % power" in sentence(found, gmu)
    assert sentence(found, late).startswith("sum: worse than concat (OA -")


class TestConfusionDifference:
    def test_counts_are_summed_over_common_seeds(self, cells, found):
        counts, shares, seeds = counts_apart(found.row("late"), found.row("sum"))
        by_hand = [
            sum(
                confusion_matrix(run.predictions.target, run.predictions.answers.argmax(1))
                for cell, run in cells
                if cell.name == name
            )
            for name in ("late", "sum")
        ]
        assert seeds == (0, 1, 2)
        np.testing.assert_array_equal(counts, by_hand[0] - by_hand[1])
        np.testing.assert_allclose(shares, 100 * counts / by_hand[1].sum(1, keepdims=True))
        assert (counts.sum(1) == 0).all()

    def test_any_two_variants_are_written(self, found, tmp_path):
        stem = write_confusion_difference(tmp_path, found, "late", "sum")
        table = list(csv.reader((tmp_path / f"{stem}.csv").open(encoding="utf-8")))
        assert table[0] == ["reference", *NAMES]
        counts, _, _ = counts_apart(found.row("late"), found.row("sum"))
        np.testing.assert_array_equal(np.array([line[1:] for line in table[1:]], int), counts)
        assert (tmp_path / f"{stem}.pdf").stat().st_size > 1000

    def test_names_of_files_are_short_and_differ(self, cells, tmp_path):
        long = ["非常长的名字" * 20 + end for end in "ab"]
        names = dict(zip(("late", "gmu"), long, strict=True))
        found = ablation([(MadeCell(names.get(cell.name, cell.name), cell.seed), run) for cell, run in cells])
        stems = {write_confusion_difference(tmp_path, found, name, "sum") for name in long}
        stems.add(write_confusion_difference(tmp_path, found, *long))
        assert len(stems) == 3
        assert all((tmp_path / f"{stem}.png").is_file() for stem in stems)

    def test_figure_has_a_number_where_something_differs(self, found):
        counts, shares, _ = counts_apart(found.row("late"), found.row("sum"))
        figure = confusion_difference(found.row("late"), found.row("sum"), NAMES)
        told = [text.get_text() for text in figure.axes[0].texts]
        assert f"{counts[0, 0]:+d}" in told
        assert f"{shares[0, 0]:+.1f}" in told

    def test_labels_have_a_row_each(self, tmp_path):
        random = np.random.default_rng(0)
        target = random.integers(0, 2, (50, 2))
        cells = [
            (
                MadeCell(name, 0),
                made_run(tmp_path / name, target, random.uniform(0, 1, (50, 2)), task="multilabel", names=("a", "b")),
            )
            for name in ("one", "two")
        ]
        found = ablation(cells)
        counts, _, _ = counts_apart(found.row("one"), found.row("two"))
        assert counts.shape == (2, 4)
        labels = [text.get_text() for text in confusion_difference(*found.rows, ("a", "b")).axes[0].get_yticklabels()]
        assert labels == ["a", "b"]

    def test_refused_where_there_is_none(self, found, tmp_path):
        with pytest.raises(RequestError, match="no variant 'lat'"):
            write_confusion_difference(tmp_path, found, "lat", "sum")
        target = np.random.default_rng(0).normal(size=(30, 1))
        run = made_run(tmp_path / "run", target, target + 0.1, task="regression", names=("wet",))
        with pytest.raises(RequestError, match="no confusion matrix"):
            write_confusion_difference(tmp_path, ablation([(MadeCell("a", 0), run)]), "a", "a")


def test_figure_has_points_intervals_and_seeds(found):
    left, right = ablation_figure(found).axes
    assert [label.get_text() for label in left.get_yticklabels()] == [row.name for row in found.rows]
    held = found.row("gmu").metrics["oa"]
    spans = [tuple(line.get_xdata()) for line in left.lines if len(line.get_xdata()) == 2]
    assert (held.low, held.high) in spans
    gap = found.row("gmu").against.differences["oa"]
    spans = [line.get_xdata() for line in right.lines if len(line.get_xdata()) == 2]
    assert any(np.allclose(span, [100 * gap.low, 100 * gap.high]) for span in spans)


def test_a_folder_that_cannot_be_made(found, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="no files can be written"):
        write_ablation(tmp_path / "file" / "out", found)
