"""Variants over seeds: figures and tests against SciPy and by hand, rows, refusals, and how often nothing counts."""

from dataclasses import replace

import numpy as np
import pytest
from made_runs import NAMES, MadeCell, made_grid, made_run, probabilities
from scipy.stats import binomtest, t, ttest_rel
from sklearn.metrics import cohen_kappa_score

from fusionkit.ablation import ablation
from fusionkit.errors import RequestError
from fusionkit.runs import Run
from fusionkit.signflip import sign_flip_test


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return made_grid(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def found(cells):
    return ablation(cells)


def predicted(run):
    return run.predictions.answers.argmax(1), run.predictions.target


def test_rows_are_baselines_first_then_variants(found):
    assert [row.name for row in found.rows] == ["image alone", "early stack", "concat", "gmu", "late", "sum"]
    assert [row.is_baseline for row in found.rows] == [True, True, False, False, False, False]
    assert (found.reference, found.n, found.primary) == ("concat", 240, "oa")
    assert found.row("concat").against is None
    assert all(row.seeds == (0, 1, 2) for row in found.rows)


def test_figures_are_those_of_the_runs(cells, found):
    for cell, run in cells:
        told = found.row(cell.name).figures[cell.seed]
        prediction, target = predicted(run)
        assert told["oa"] == pytest.approx((prediction == target).mean())
        assert told["kappa"] == pytest.approx(cohen_kappa_score(target, prediction))
        assert told == pytest.approx({name: held.value for name, held in run.result.metrics.items()})
    values = [run.result.metrics["oa"].value for cell, run in cells if cell.name == "gmu"]
    held = found.row("gmu").metrics["oa"]
    assert (held.mean, held.deviation) == pytest.approx((np.mean(values), np.std(values, ddof=1)))


def test_tests_are_those_of_scipy_on_the_same_arrays(cells, found):
    def right(name):
        return np.array([np.equal(*predicted(run)) for cell, run in cells if cell.name == name], float)

    for row in found.variants[1:]:
        apart = right(row.name) - right("concat")
        against = row.against
        assert against.p_samples == sign_flip_test(apart.mean(0))
        assert against.p_seeds == pytest.approx(ttest_rel(right(row.name).mean(1), right("concat").mean(1)).pvalue)
        assert against.differences["oa"].value == pytest.approx(apart.mean())
        covariance = np.cov(apart) / 240
        shared = max((covariance.sum() - covariance.trace()) / 6, 0)
        between = max(apart.mean(1).var(ddof=1), covariance.trace() / 3 - shared)
        reach = against.differences["oa"].high - apart.mean()
        freedom = 2 * ((between + 3 * shared) / between) ** 2
        assert reach == pytest.approx(t.ppf(0.975, freedom) * (between / 3 + shared) ** 0.5, rel=0.1)
        assert against.p_value == max(against.p_samples, against.p_seeds, against.p_both)


def test_no_interval_leaves_the_scale_of_its_figure(tmp_path):
    """With two seeds of six samples, Student's t reaches far."""
    for row in ablation(made_grid(tmp_path, seeds=(0, 1), n=6)).rows:
        assert all(0 <= row.metrics[name].low <= row.metrics[name].high <= 1 for name in ("oa", "aa", "macro_f1"))
        assert -1 <= row.metrics["kappa"].low <= row.metrics["kappa"].high <= 1
        if row.against:
            assert -1 <= row.against.differences["oa"].low <= row.against.differences["oa"].high <= 1


def test_verdicts_and_their_words(found):
    told = {row.name: row.against.words for row in found.rows if row.against}
    assert told["late"] == "better"
    assert told["sum"] == told["image alone"] == "worse"
    assert told["gmu"] == told["early stack"] == "no evidence of a difference"


def test_holm_is_over_all_rows_that_are_compared(found):
    raw = sorted(row.against.p_value for row in found.rows if row.against)
    adjusted = sorted(row.against.adjusted for row in found.rows if row.against)
    assert adjusted[0] == pytest.approx(5 * raw[0])
    assert all(one >= other for one, other in zip(adjusted, raw, strict=True))


def test_a_baseline_may_be_the_reference(cells):
    found = ablation(cells, "image alone")
    assert found.row("image alone").against is None
    assert found.row("late").against.verdict == "better"


def test_baselines_stand_beside_the_reference(cells, found):
    late = ablation(cells, "late")
    assert late.row("image alone").runs == late.row("late").runs
    assert found.row("image alone").runs == found.row("concat").runs


def test_order_of_runs_and_of_samples_changes_nothing(cells, found, tmp_path):
    target = cells[0][1].predictions.target
    turned = []
    for number, (cell, run) in enumerate(reversed(cells)):
        held = run.predictions
        order = np.random.default_rng(number).permutation(len(held))
        ids = [held.ids[k] for k in order]
        again = made_run(tmp_path / str(number), target[order], held.answers[order], seed=cell.seed, ids=ids)
        turned.append((cell, again))
    other = ablation(turned, "concat")
    assert [row.name for row in other.rows] == ["sum", "late", "gmu", "concat"]
    for row in other.rows:
        base = found.row(row.name)
        assert (row.figures, row.metrics) == (base.figures, base.metrics)
        if row.against and base.against:
            assert replace(row.against, adjusted=0) == replace(base.against, adjusted=0)


def test_one_seed_is_mcnemar_and_never_more_than_weak_evidence(cells):
    one = [(cell, run) for cell, run in cells if cell.seed == 0]
    found = ablation(one)
    right = {cell.name: np.equal(*predicted(run)) for cell, run in one}
    first, second = (right["late"] & ~right["concat"]).sum(), (right["concat"] & ~right["late"]).sum()
    against = found.row("late").against
    assert against.test == "exact McNemar"
    assert against.p_value == pytest.approx(binomtest(int(first), int(first + second)).pvalue)
    assert (against.p_seeds, against.effect, against.detectable) == (None, None, None)
    assert against.adjusted < 0.001
    assert against.words == "weak evidence"
    assert any("One seed" in note for note in found.notes)


def test_missing_seeds_are_paired_and_told(cells):
    left = [(cell, run) for cell, run in cells if (cell.name, cell.seed) != ("late", 1)]
    found = ablation(left)
    assert found.row("late").against.seeds == (0, 2)
    assert "late lacks seed 1 of the reference and is compared on the others." in found.notes


def test_variants_without_a_common_seed_are_not_compared(cells):
    kept = {("concat", 0), ("late", 1)}
    found = ablation([(cell, run) for cell, run in cells if (cell.name, cell.seed) in kept])
    assert found.row("late").against is None
    assert "late lacks seed 0 of the reference and is not compared." in found.notes


def test_different_code_is_marked(cells, tmp_path):
    held = cells[-1][1].predictions
    other = made_run(tmp_path / "other", held.target, held.answers, seed=2, commit="fedcba9876543210")
    found = ablation([*cells[:-1], (cells[-1][0], other)])
    assert "Different code: concat was made by 0123456789." in found.notes
    assert "Different code: sum was made by 0123456789, fedcba9876." in found.notes


def test_groups_are_resampled_and_few_of_them_are_weak_evidence(tmp_path):
    groups = np.arange(240) // 40
    found = ablation(made_grid(tmp_path, groups=groups.astype(str)))
    against = found.row("late").against
    assert (against.groups, against.test) == (6, "sign-flip test over groups")
    assert against.verdict != "better"
    assert found.interval == "6 groups; so few groups give a rough interval only"


def test_without_baselines_it_says_so(tmp_path):
    target = np.arange(40) % 4
    right = np.arange(40) % 3 > 0
    runs = [made_run(tmp_path / str(seed), target, probabilities(target, right, seed), seed=seed) for seed in (0, 1)]
    found = ablation([(MadeCell("concat", run.result.seed), run) for run in runs])
    assert [row.name for row in found.rows] == ["concat"]
    assert "baselines: true" in found.notes[0]


class TestOtherTasks:
    def test_regression_takes_errors_the_other_way_round(self, tmp_path):
        random = np.random.default_rng(0)
        target = random.normal(50, 10, (120, 2))
        cells = []
        for name, noise in {"first": 6, "second": 2}.items():
            for seed in range(3):
                answers = target + random.normal(0, noise, target.shape)
                run = made_run(
                    tmp_path / f"{name}{seed}", target, answers, seed=seed, task="regression", names=("wet", "dry")
                )
                cells.append((MadeCell(name, seed), run))
        found = ablation(cells)
        against = found.row("second").against
        rmse = [run.result.metrics["rmse"].value for _, run in cells]
        assert against.differences["rmse"].value == pytest.approx(np.mean(rmse[3:]) - np.mean(rmse[:3]))
        assert against.verdict == "better"
        assert found.row("second").confusion is None

    def test_labels_and_their_map(self, tmp_path):
        random = np.random.default_rng(0)
        target = random.integers(0, 2, (90, 3))
        cells = []
        for name, noise in {"first": 0.6, "second": 0.2}.items():
            for seed in range(3):
                answers = (0.5 + 0.3 * (2 * target - 1) + random.normal(0, noise, target.shape)).clip(0, 1)
                run = made_run(
                    tmp_path / f"{name}{seed}", target, answers, seed=seed, task="multilabel", names=("a", "b", "c")
                )
                cells.append((MadeCell(name, seed), run))
        found = ablation(cells)
        assert found.row("second").against.verdict == "better"
        assert found.row("second").metrics["map"].mean == pytest.approx(
            np.mean([run.result.metrics["map"].value for _, run in cells[3:]])
        )
        assert found.row("first").confusion[0].shape == (3, 2, 2)

    def test_boxes(self, tmp_path):
        random = np.random.default_rng(0)
        corner = random.uniform(0, 0.5, (60, 2))
        target = np.hstack([corner, corner + 0.4])
        cells = []
        for name, shift in {"first": 0.16, "second": 0.02}.items():
            for seed in range(3):
                answers = target + random.normal(0, shift, (60, 1))
                run = made_run(
                    tmp_path / f"{name}{seed}",
                    target,
                    answers,
                    seed=seed,
                    task="grounding",
                    names=("left", "top", "right", "bottom"),
                )
                cells.append((MadeCell(name, seed), run))
        found = ablation(cells)
        assert found.row("second").against.verdict == "better"
        assert found.row("first").figures[0] == pytest.approx(
            {name: held.value for name, held in cells[0][1].result.metrics.items()}
        )

    def test_retrieval_resamples_things(self, tmp_path):
        random = np.random.default_rng(0)
        things = np.arange(60) // 2
        target = np.stack([things, np.full(60, -1)], axis=1)
        shown = random.normal(size=(30, 8))[things]
        cells = []
        for name, noise in {"first": 1.5, "second": 0.5}.items():
            for seed in range(3):
                answers = np.hstack([shown, shown + random.normal(0, noise, shown.shape)])
                run = made_run(tmp_path / f"{name}{seed}", target, answers, seed=seed, task="retrieval", names=())
                cells.append((MadeCell(name, seed), run))
        found = ablation(cells)
        assert found.interval == "30 groups"
        assert found.row("second").against.verdict == "better"


class TestRefused:
    def run(self, folder, **changes):
        target = np.arange(40) % 4
        given = {"target": target, "answers": probabilities(target, np.arange(40) % 3 > 0, 0)} | changes
        return made_run(folder, given.pop("target"), given.pop("answers"), **given)

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"ids": [f"t{k}" for k in range(40)]}, "different test samples"),
            ({"target": (np.arange(40) + 1) % 4}, "different test samples"),
            ({"fingerprint": "beef"}, "their data differ (fingerprints f00d and beef)"),
            ({"names": ("a", "b", "c", "d")}, "classes field, forest, water & wetland, town and a, b, c, d"),
            ({"task": "regression", "target": np.ones((40, 4)), "answers": np.ones((40, 4))}, "task classification"),
        ],
    )
    def test_runs_that_have_not_the_same_test(self, tmp_path, changes, told):
        runs = [self.run(tmp_path / "one"), self.run(tmp_path / "other", seed=1, **changes)]
        with pytest.raises(RequestError) as caught:
            ablation([(MadeCell("same", run.result.seed), run) for run in runs])
        assert told in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_variant_with_other_modalities_has_another_fingerprint(self, tmp_path):
        runs = [
            self.run(tmp_path / "one"),
            self.run(tmp_path / "two", fingerprint="beef", recipe={"data": {"source": "urfc", "inputs": ["image"]}}),
        ]
        assert len(ablation([(MadeCell(run.name, 0), run) for run in runs]).rows) == 2

    def test_two_runs_of_one_cell(self, tmp_path):
        runs = [self.run(tmp_path / name) for name in ("one", "two")]
        with pytest.raises(RequestError, match="both of same, seed 0: leave one out"):
            ablation([(MadeCell("same", 0), run) for run in runs])

    def test_no_such_reference(self, cells):
        with pytest.raises(RequestError, match="did you mean 'concat'"):
            ablation(cells, "conca")

    def test_nothing_to_compare(self):
        with pytest.raises(RequestError, match="no finished runs"):
            ablation([])

    def test_an_unfinished_run(self, tmp_path):
        (tmp_path / "resolved.yaml").write_text("name: x")
        with pytest.raises(RequestError, match="unfinished run"):
            ablation([(MadeCell("x", 0), Run(tmp_path))])

    def test_predictions_cut_short(self, tmp_path):
        run = self.run(tmp_path / "one")
        lines = (run.path / "predictions.csv").read_text().splitlines(keepends=True)
        (run.path / "predictions.csv").write_text("".join(lines[:-3]))
        with pytest.raises(RequestError, match="37 predictions, but the result is of 40 samples"):
            ablation([(MadeCell("x", 0), run)])


def test_names_have_the_classes(found):
    assert found.classes == NAMES
