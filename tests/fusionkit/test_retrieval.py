"""Held against loops that follow the definitions word for word."""

import numpy as np
import pytest
from scipy.stats import permutation_test
from sklearn.metrics import average_precision_score

from fusionkit import retrieval
from fusionkit.headlines import HEADLINES


def make(things=40, captions=5, width=8, classes=None, seed=0, levels=None):
    """Random embeddings of things with several descriptions each, in any order; `levels` makes ties."""
    random = np.random.default_rng(seed)
    number = random.permutation(np.repeat(np.arange(things), captions))
    label = random.integers(classes, size=things) if classes else np.full(things, -1)
    images = random.normal(size=(things, width))
    texts = images[number] + 2 * random.normal(size=(len(number), width))
    if levels:
        images, texts = (np.sign(v) if levels == 2 else np.round(v) + (np.round(v) == 0) for v in (images, texts))
    return np.stack([number, label[number]], axis=1), np.hstack([images[number], texts])


def by_hand(target, answers):
    """The figures, query by query."""
    width = answers.shape[1] // 2
    longest = [max(np.linalg.norm(part, axis=1)) for part in np.split(answers, 2, axis=1)]
    similarity = lambda a, b: float(a @ b) / longest[0] / longest[1]  # noqa: E731
    things = sorted(set(target[:, 0].tolist()))
    images = {thing: answers[np.flatnonzero(target[:, 0] == thing)[0], :width] for thing in things}
    classes = {thing: int(target[target[:, 0] == thing][0, 1]) for thing in things}
    texts = [(int(thing), text) for thing, text in zip(target[:, 0], answers[:, width:], strict=True)]

    def one(query, thing, candidates):
        found = [(round(similarity(query, vector), 7), of) for of, vector in candidates]
        best = max(score for score, of in found if of == thing)
        position = 1 + sum(score >= best for score, of in found if of != thing)
        ordered = sorted(found, key=lambda item: (-item[0], classes[item[1]] == classes[thing]))
        seen, precisions = 0, []
        for place, (_, of) in enumerate(ordered, 1):
            if classes[of] == classes[thing]:
                seen += 1
                precisions.append(seen / place)
        return position, np.mean(precisions)

    forward = [one(images[thing], thing, texts) for thing in things]
    backward = [one(text, thing, list(images.items())) for thing, text in texts]
    told = {}
    for way, found in (("forward", forward), ("backward", backward)):
        ranks = [position for position, _ in found]
        told |= {f"{way}_r{k}": np.mean([position <= k for position in ranks]) for k in (1, 5, 10)}
        told[f"{way}_median_rank"] = np.median(ranks)
        told[f"{way}_map"] = np.mean([precision for _, precision in found])
    told["mean_recall"] = np.mean([told[f"{way}_r{k}"] for way in ("forward", "backward") for k in (1, 5, 10)])
    told["mean_map"] = (told["forward_map"] + told["backward_map"]) / 2
    return told


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [None, 2])
def test_figures_are_those_of_brute_force(seed, levels):
    target, answers = make(classes=4, seed=seed, levels=levels)
    if levels:
        assert len(np.unique((answers[:, :8] @ answers[:, 8:].T).round(9))) < 20
    found = retrieval.figures(target, answers)
    assert tuple(found) == HEADLINES["retrieval"]
    expected = by_hand(target, answers)
    assert found == pytest.approx({name: expected[name] for name in found}, rel=1e-12)


def test_average_precision_is_that_of_scikit_learn():
    target, answers = make(things=60, captions=1, classes=5, seed=3)
    forward, _ = retrieval.rank(target, answers)
    images, texts = np.split(answers, 2, axis=1)
    for row, precision in zip(forward.rows, forward.precision, strict=True):
        relevant = target[:, 1] == target[row, 1]
        assert precision == pytest.approx(average_precision_score(relevant, texts @ images[row]))


def test_collapsed_embeddings_find_nothing():
    target, answers = make()
    found = retrieval.figures(target, np.ones_like(answers))
    assert found["mean_recall"] == 0
    assert found["forward_median_rank"] == 40 * 5 - 5 + 1
    assert np.isnan(found["mean_map"])


def test_perfect_embeddings_find_everything():
    target, _ = make(captions=3, classes=40)
    target[:, 1] = target[:, 0]
    perfect = np.hstack([np.eye(40)[target[:, 0]]] * 2)
    found = retrieval.figures(target, perfect)
    assert {name: value for name, value in found.items() if value != 1} == {}


def test_absent_modalities_are_neither_queries_nor_candidates():
    target, answers = make(seed=5)
    lacking = answers.copy()
    lacking[target[:, 0] == 7, 8:] = 0  # a thing that nobody describes
    lacking[target[:, 0] == 9, :8] = 0  # descriptions of something unseen: no right candidate
    forward, backward = retrieval.rank(target, lacking)
    assert set(target[forward.rows, 0]) == set(range(40)) - {7, 9}
    assert set(target[backward.rows, 0]) == set(range(40)) - {7, 9}
    # Those that cannot be found are still in the way of others.
    kept = ~np.isin(target[:, 0], (7, 9))
    alone = retrieval.rank(target[kept], answers[kept])[0]
    assert (forward.rank >= alone.rank).all()
    assert (forward.rank > alone.rank).any()


def test_large_sets_are_ranked_in_parts(monkeypatch):
    target, answers = make(classes=3)
    whole = retrieval.figures(target, answers)
    monkeypatch.setattr(retrieval, "_CHUNK", 999)
    assert retrieval.figures(target, answers) == whole


def test_weights_mean_repetition():
    target, answers = make(things=12, classes=3)
    weigh = retrieval._Weighed(*retrieval.rank(target, answers), len(target))
    counts = np.random.default_rng(0).integers(0, 4, 12)[target[:, 0]][np.newaxis]
    found = dict(zip(HEADLINES["retrieval"], weigh(counts)[0], strict=True))
    for way, ranking in zip(("forward", "backward"), weigh.ways, strict=True):
        ranks = np.repeat(ranking.rank, counts[0][ranking.rows])
        assert found[f"{way}_median_rank"] == np.median(ranks)
        assert found[f"{way}_r5"] == pytest.approx((ranks <= 5).mean())
        precision = np.repeat(ranking.precision, counts[0][ranking.rows])
        assert found[f"{way}_map"] == pytest.approx(precision.mean())


def test_intervals_hold_the_figure_and_resample_things():
    target, answers = make(things=200, captions=2, classes=4)
    found = retrieval.estimate(target, answers)
    figures = retrieval.figures(target, answers)
    for name, estimate in found.items():
        assert estimate.value == pytest.approx(figures[name])
        assert estimate.low <= estimate.value <= estimate.high
    # The spread of a mean over 200 things, each with two correlated descriptions.
    backward = retrieval.rank(target, answers)[1]
    of_things = np.zeros(200)
    np.add.at(of_things, target[backward.rows, 0], backward.rank <= 10)
    expected = 1.96 * (of_things / 2).std() / np.sqrt(200)
    width = (found["backward_r10"].high - found["backward_r10"].low) / 2
    assert width == pytest.approx(expected, rel=0.1)


def test_comparison():
    target, answers = make(things=60, captions=2, seed=1)
    random = np.random.default_rng(0)
    worse = answers + random.normal(size=answers.shape) * 2
    worse[:, :8] = worse[np.unique(target[:, 0], return_index=True)[1], :8][target[:, 0]]
    found = retrieval.compare(target, answers, worse)
    first, second = retrieval.figures(target, answers), retrieval.figures(target, worse)
    assert found.differences["mean_recall"].value == pytest.approx(first["mean_recall"] - second["mean_recall"])
    weigh = [retrieval._Weighed(*retrieval.rank(target, a), len(target)).shares() for a in (answers, worse)]
    assert weigh[0].sum() == pytest.approx(first["mean_recall"])
    apart = np.bincount(target[:, 0], weigh[0] - weigh[1])
    told = permutation_test((apart,), np.sum, permutation_type="samples", n_resamples=9999, random_state=0)
    assert found.p_value == pytest.approx(told.pvalue, abs=0.02)
    same = retrieval.compare(target, answers, answers)
    assert same.p_value == 1
    assert same.verdict == "no evidence"


@pytest.mark.parametrize(
    ("target", "answers", "why"),
    [
        (np.zeros((3, 2), int), np.ones((3, 5)), r"\[n, 2 E\]"),
        (np.zeros(3, int), np.ones((3, 4)), r"\[n, 2\]"),
        (np.zeros((0, 2), int), np.ones((0, 4)), "no samples"),
        (np.zeros((1, 2), int), np.full((1, 4), np.nan), "finite"),
        (np.zeros((2, 2), int), np.array([[1.0, 1, 0, 0]] * 2), "absent"),
        (np.array([[0, -1], [1, -1]]), np.array([[1.0, 0], [0, 1]]), "both modalities"),
    ],
)
def test_refused(target, answers, why):
    with pytest.raises(ValueError, match=why):
        retrieval.figures(target, answers)
