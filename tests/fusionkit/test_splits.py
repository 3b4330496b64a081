"""Division into train, val and test: what is promised holds for random data too."""

from __future__ import annotations

import warnings
from itertools import combinations

import numpy as np
import pytest
from fusionkit_fakes import index_of, once
from sklearn.model_selection import StratifiedGroupKFold

from fusionkit.contract import Index
from fusionkit.errors import DataError
from fusionkit.sections import Split
from fusionkit.splits import PARTS, Partition, divide


def assert_apart(partition: Partition) -> None:
    for one, other in combinations(partition.parts().values(), 2):
        assert not set(one.tolist()) & set(other.tolist())


# Fractions


def test_a_fraction_is_met_and_every_class_has_its_share() -> None:
    random = np.random.default_rng(0)
    targets = random.choice(5, size=1000, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    partition = once(index_of(targets), test=0.2, val=0.15)
    assert {part: len(held) for part, held in partition.parts().items()} == {"train": 680, "val": 120, "test": 200}
    assert_apart(partition)
    assert np.array_equal(np.sort(np.concatenate(list(partition.parts().values()))), np.arange(1000))
    for label in range(5):
        has = (targets == label).sum()
        assert abs((targets[partition.test] == label).sum() - 0.2 * has) <= 1
        left = has - (targets[partition.test] == label).sum()
        assert abs((targets[partition.val] == label).sum() - 0.15 * left) <= 1


@pytest.mark.parametrize("share", [0.01, 0.33, 0.5, 0.9])
def test_any_fraction_is_met_to_the_sample(share: float) -> None:
    partition = once(index_of(np.arange(400) % 4), test=share, val=0.1)
    assert len(partition.test) == round(400 * share)


def several(targets: np.ndarray, **facts: object) -> Index:
    """An index of labels or quantities."""
    names = tuple(f"t{k}" for k in range(targets.shape[1]))
    return Index([f"s{i}" for i in range(len(targets))], targets, names, **facts)  # type: ignore[arg-type]


def test_every_label_has_its_share_and_so_have_samples_without_any() -> None:
    random = np.random.default_rng(0)
    targets = (random.random((2000, 4)) < [0.6, 0.3, 0.05, 0.01]).astype(np.int64)
    targets[::20] = -1
    known = np.flatnonzero(targets[:, 0] >= 0)
    partition = once(several(targets), test=0.2, val=0.15)
    assert_apart(partition)
    assert np.array_equal(np.sort(np.concatenate(list(partition.parts().values()))), known)
    assert len(partition.test) == round(0.2 * len(known))
    # Drawn alike by the rarest label that a sample has: that of those, and of samples with none, is met to the sample.
    rarest = np.where(targets > 0, targets[known].sum(0), 10**6).argmin(1)
    stratum = np.where((targets > 0).any(1), rarest, 4)
    for one in range(5):
        of = known[stratum[known] == one]
        assert abs(np.isin(partition.test, of).sum() - 0.2 * len(of)) <= 1
        left = len(of) - np.isin(partition.test, of).sum()
        assert abs(np.isin(partition.val, of).sum() - 0.15 * left) <= 1
    shares = targets[partition.test].sum(0) / targets[known].sum(0)
    assert shares[3] == pytest.approx(0.2, abs=1 / targets[known, 3].sum())
    assert shares == pytest.approx(0.2, abs=0.04)


def test_quantities_are_drawn_alike_over_the_range_of_the_first() -> None:
    random = np.random.default_rng(0)
    targets = np.stack([random.lognormal(size=1000), random.normal(size=1000)], 1)
    targets[::25, 1] = np.nan
    known = np.flatnonzero(~np.isnan(targets[:, 1]))
    partition = once(several(targets), test=0.2, val=0.15)
    assert np.array_equal(np.sort(np.concatenate(list(partition.parts().values()))), known)
    edges = np.quantile(targets[known, 0], np.linspace(0, 1, 11))
    for part, share in (("test", 0.2), ("val", 0.8 * 0.15), ("train", 0.8 * 0.85)):
        held = targets[getattr(partition, part), 0]
        found, _ = np.histogram(held, edges)
        assert found == pytest.approx(np.full(10, share * len(known) / 10), abs=1.5)


def test_a_quantity_with_few_values_is_drawn_alike_too() -> None:
    targets = np.repeat([0.0, 1.0, 7.0], [500, 300, 200])[:, None]
    partition = once(several(targets), test=0.2)
    assert [int((targets[partition.test] == value).sum()) for value in (0, 1, 7)] == [100, 60, 40]


@pytest.mark.parametrize("kind", ["labels", "quantities"])
def test_groups_of_labels_and_quantities_stay_together(kind: str) -> None:
    random = np.random.default_rng(2)
    groups = random.integers(0, 60, 600)
    level = random.normal(size=60)[groups]
    targets = (level[:, None] > [0.0, 1.2]).astype(np.int64) if kind == "labels" else level[:, None]
    partition = once(several(targets, groups=groups), test=0.25, val=0.2)
    for one, other in combinations(partition.parts().values(), 2):
        assert not set(groups[one]) & set(groups[other])
    assert len(partition.test) == pytest.approx(150, abs=12)
    assert targets[partition.test].mean(0) == pytest.approx(targets.mean(0), abs=0.12)


def test_folds_and_official_splits_leave_out_what_has_no_target() -> None:
    targets = np.arange(40.0)[:, None]
    targets[::8] = np.nan
    fold = np.arange(40) % 4
    partitions = divide(several(targets, columns={"fold": fold}), Split(column="fold", val=0.2), folds=True)
    assert (
        sorted(np.concatenate([partition.test for partition in partitions]))
        == np.flatnonzero(np.arange(40) % 8).tolist()
    )
    split = np.array(["train", "val", "test", "train"])[fold]
    partition = once(several(targets, split=split))
    assert sorted(np.concatenate(list(partition.parts().values()))) == np.flatnonzero(np.arange(40) % 8).tolist()
    with pytest.raises(DataError, match="no labelled samples"):
        once(several(np.full((4, 2), np.nan)), test=0.5)


def test_rare_classes_are_never_test_whole() -> None:
    for seed in range(30):
        # Class 0 is the rarest: it comes first where classes are dealt out in order.
        targets = np.repeat([0, 1, 2, 3], [2, 3, 1, 200])
        partition = once(index_of(targets), test=0.2, val=0.15, seed=seed)
        trained = np.bincount(targets[partition.train], minlength=4)
        assert (trained > 0).all()


@pytest.mark.parametrize(("count", "share"), [(3, 0.05), (3, 0.3), (4, 0.05), (4, 0.5), (7, 0.2), (20, 0.7)])
def test_tiny_data_leave_something_for_every_part(count: int, share: float) -> None:
    for groups in (None, np.arange(count) // 2 if count > 4 else None):
        partition = once(index_of(np.arange(count) % 2, groups=groups), test=share, val=0.3)
        assert all(len(held) for held in partition.parts().values())
        assert_apart(partition)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(DataError, match="one sample to draw test from") as told:
        once(index_of([0]), test=0.5)
    assert told.value.option == ("split", "test")
    with pytest.raises(DataError, match="one sample to draw val from"):
        once(index_of([0, 1]), test=0.5)


def test_the_division_depends_on_its_seed_alone() -> None:
    index = index_of(np.arange(300) % 3, groups=np.arange(300) // 2)
    first, again, other = (once(index, test=0.2, seed=seed) for seed in (4, 4, 5))
    for part in PARTS:
        assert np.array_equal(getattr(first, part), getattr(again, part))
    assert not np.array_equal(first.test, other.test)


def test_unlabelled_samples_are_in_no_part() -> None:
    targets = np.where(np.arange(120) % 4 == 0, -1, np.arange(120) % 3)
    partition = once(index_of(targets), test=0.25)
    assert sorted(np.concatenate(list(partition.parts().values()))) == np.flatnonzero(targets >= 0).tolist()


def test_forty_thousand_singletons_need_no_search() -> None:
    random = np.random.default_rng(1)
    targets = random.integers(0, 9, 40_000)
    groups = np.where(random.random(40_000) < 0.02, random.integers(0, 200, 40_000), 1000 + np.arange(40_000))
    partition = once(index_of(targets, groups=groups), test=0.2)
    assert abs(len(partition.test) - 8000) < 40


# Groups


def some_groups(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets and groups: sizes from 1 to 40, each group with its own mix of classes."""
    random = np.random.default_rng(seed)
    count, classes = int(random.integers(6, 60)), int(random.integers(2, 9))
    sizes = random.integers(1, random.integers(2, 40), count)
    mixes = random.dirichlet(np.full(classes, 0.4), count)
    groups = np.repeat(random.permutation(count), sizes)
    targets = np.concatenate([random.choice(classes, size, p=mix) for size, mix in zip(sizes, mixes, strict=True)])
    order = random.permutation(len(groups))
    return targets[order], groups[order]


@pytest.mark.parametrize("seed", range(40))
def test_no_group_is_on_both_sides(seed: int) -> None:
    targets, groups = some_groups(seed)
    other = np.random.default_rng(seed + 1000).integers(0, max(3, len(targets) // 2), len(targets))
    index = index_of(targets, groups=groups, columns={"plot": other.astype(str)})
    try:
        partition = once(index, test=0.25, val=0.2, group="plot", seed=seed)
    except DataError as error:  # random links may make one group of all
        assert "one group of samples to draw" in str(error)  # noqa: PT017
        return
    assert_apart(partition)
    assert partition.shared_groups == 0
    for one, two in combinations(partition.parts().values(), 2):
        assert not set(groups[one]) & set(groups[two])
        assert not set(other[one]) & set(other[two])


def test_linked_groups_stay_together() -> None:
    # a-b share a group, b-c share a plot: all three are one, and so on along the chain of each ten.
    n = 200
    groups = np.arange(n) // 2
    plots = np.array([f"p{(i + 1) // 2 if i % 10 else 'start' + str(i)}" for i in range(n)])
    index = index_of(np.arange(n) % 2, groups=groups, columns={"plot": plots})
    partition = once(index, test=0.2, group="plot")
    for one, other in combinations(partition.parts().values(), 2):
        assert not set(one // 10) & set(other // 10)


def test_groups_share_classes_out_as_well_as_scikit_learn_does() -> None:
    ours, theirs = [], []
    for seed in range(12):
        targets, groups = some_groups(seed)
        classes = np.unique(targets)

        def error(test: np.ndarray, targets: np.ndarray = targets, classes: np.ndarray = classes) -> float:
            has = np.array([(targets == label).sum() for label in classes])
            taken = np.array([(targets[test] == label).sum() for label in classes])
            return float(((taken - 0.2 * has) ** 2 / has).sum())

        ours.append(error(once(index_of(targets, groups=groups), test=0.2, val=0.2).test))
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes rarer than the folds
            theirs.append(error(next(folds.split(targets, targets, groups))[1]))
    assert np.mean(ours) <= np.mean(theirs)


def test_groups_of_a_class_each_are_shared_out_too() -> None:
    # Taking a group takes a whole class, which no class asks for; the total does.
    classes = np.repeat(np.arange(20), 5)
    partition = once(index_of(classes, groups=classes), test=0.2, val=0.25)
    assert 15 <= len(partition.test) <= 25
    assert 15 <= len(partition.val) <= 25


def test_a_pattern_finds_the_group_in_a_column() -> None:
    plots = np.array([f"plot{i // 10}_{i % 10}" for i in range(200)])
    partition = once(
        index_of(np.arange(200) % 2, columns={"name": plots}), test=0.2, group="name", group_pattern=r"(.+)_\d+"
    )
    for one, other in combinations(partition.parts().values(), 2):
        assert not set(one // 10) & set(other // 10)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "no regular expression"), (r"\d+", "bracket around the group"), (r"x(\d+)", "does not match 's0'")],
)
def test_bad_patterns_are_named(pattern: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as told:
        once(index_of([0, 1, 0, 1]), test=0.5, group="id", group_pattern=pattern)
    assert told.value.option == ("split", "group_pattern")


def test_a_named_group_on_two_sides_of_a_given_split_is_refused() -> None:
    official = np.array(["train"] * 6 + ["test"] * 4)
    index = index_of(np.arange(10) % 2, split=official, columns={"plot": np.array(list("aabbcccdde"))})
    with pytest.raises(DataError, match=r"1 values of 'plot', such as 'c', are in both train and test") as told:
        once(index, group="plot")
    assert told.value.option == ("split", "group")


def test_the_datasets_own_groups_on_two_sides_of_a_given_split_are_counted() -> None:
    official = np.array(["train"] * 6 + ["test"] * 4)
    index = index_of(np.arange(10) % 2, split=official, groups=np.array([0, 1, 2, 3, 4, 5, 5, 5, 8, 9]))
    assert once(index).shared_groups == 2


# Columns


COLUMNS = {
    "fold": np.arange(60) % 5,
    "site": np.array(["OSBS", "MLBS", "TALL"])[np.arange(60) % 3],
    "held": np.arange(60) % 4 == 0,
    "flag": np.where(np.arange(60) % 4 == 0, "True", "false").astype(object),
    "share": np.arange(60) % 5 / 10,
}


@pytest.mark.parametrize(
    ("column", "test", "expected"),
    [
        ("fold", 0, COLUMNS["fold"] == 0),
        ("fold", "0", COLUMNS["fold"] == 0),
        ("fold", [0, 3], np.isin(COLUMNS["fold"], [0, 3])),
        ("site", "OSBS", COLUMNS["site"] == "OSBS"),
        ("site", ["OSBS", "TALL"], COLUMNS["site"] != "MLBS"),
        ("held", True, COLUMNS["held"]),
        ("held", 1, COLUMNS["held"]),
        ("flag", True, COLUMNS["held"]),
        ("share", 0.3, COLUMNS["share"] == 0.3),
        ("id", ["s7", "s8"], np.isin(np.arange(60), [7, 8])),
    ],
)
def test_values_of_a_column_are_test(column: str, test: object, expected: np.ndarray) -> None:
    partition = once(index_of(np.arange(60) % 2, columns=COLUMNS), column=column, test=test, val=0.2)
    assert np.array_equal(partition.test, np.flatnonzero(expected))
    assert_apart(partition)
    assert sum(map(len, partition.parts().values())) == 60


def test_values_of_a_column_are_val_and_train() -> None:
    index = index_of(np.arange(60) % 2, columns=COLUMNS)
    partition = once(index, column="fold", test=0, val=[1, 2])
    assert np.array_equal(partition.val, np.flatnonzero(np.isin(COLUMNS["fold"], [1, 2])))
    assert np.array_equal(partition.train, np.flatnonzero(COLUMNS["fold"] > 2))
    partition = once(index, column="fold", test=0, val=1, train=[3])
    assert np.array_equal(partition.train, np.flatnonzero(COLUMNS["fold"] == 3))


@pytest.mark.parametrize(
    ("split", "message", "option"),
    [
        ({"column": "plot", "test": 0}, "there is no column 'plot'; choose from", ("split", "column")),
        ({"column": "fould", "test": 0}, "did you mean 'fold'", ("split", "column")),
        ({"column": "fold", "test": 9}, "has no value 9; it has 0, 1, 2, 3, 4", ("split", "test")),
        ({"column": "site", "test": "osbs"}, "it has MLBS, OSBS, TALL", ("split", "test")),
        ({"column": "fold"}, "say which value of the column is test", ("split", "test")),
        ({"column": "fold", "test": 0, "val": 0}, "val and test overlap in 12 samples", ("split", "test")),
        ({"column": "fold", "test": 0, "val": 1, "train": [0, 2]}, "train and test overlap", ("split", "test")),
        ({"column": "fold", "test": 0, "val": 1, "train": [1]}, "train and val overlap", ("split", "val")),
        ({"column": "fold", "test": [0, 1, 2, 3, 4], "val": None}, "no sample is left for train", ("split", "train")),
        ({"column": "fold", "test": []}, "no sample is left for test", ("split", "test")),
        ({"column": "fold", "test": 0, "val": None}, "no sample is left for val", ("split", "val")),
        ({"test": 0.2, "group": "plot"}, "there is no column 'plot'", ("split", "group")),
        ({"test": 20}, "test is a fraction such as 0.2", ("split", "test")),
        ({"test": 1.0}, "test is a fraction such as 0.2", ("split", "test")),
        ({"test": 0.2, "val": 3}, "val is a fraction such as 0.15", ("split", "val")),
        ({"test": 0.2, "train": 0.3}, "train is all that is neither", ("split", "train")),
        ({}, "no official split", ("split",)),
        ({"test": 0.2, "blocks": 8}, "blocks need windows of one scene", ("split", "blocks")),
    ],
)
def test_impossible_divisions_are_refused_with_the_key_to_blame(
    split: dict, message: str, option: tuple[str, ...]
) -> None:
    with pytest.raises(DataError, match=message) as told:
        once(index_of(np.arange(60) % 2, columns=COLUMNS), **split)
    assert told.value.option == option


def test_no_samples_and_no_labels_are_refused() -> None:
    with pytest.raises(DataError, match="no samples"):
        divide(Index([], np.array([], dtype=int), ("a", "b")), None)
    with pytest.raises(DataError, match="no labelled samples"):
        divide(Index(["x"], np.array([-1]), ("a", "b")), None)


# Official


def test_the_official_split_is_kept_and_val_drawn_from_train_by_group() -> None:
    official = np.array(["train"] * 40 + ["test"] * 15 + [""] * 5)
    groups = np.arange(60) // 4
    partition = divide(index_of(np.arange(60) % 2, split=official, groups=groups), None)[0]
    assert partition.test.tolist() == list(range(40, 55))
    assert sorted([*partition.train, *partition.val]) == list(range(40))
    assert 2 <= len(partition.val) <= 10
    assert not set(groups[partition.train]) & set(groups[partition.val])


def test_an_official_val_is_taken_as_it_is() -> None:
    official = np.array(["train", "val", "test"] * 10)
    partition = once(index_of(np.arange(30) % 2, split=official))
    assert partition.val.tolist() == list(range(1, 30, 3))


# Folds


def test_every_labelled_sample_is_test_in_one_fold() -> None:
    targets = np.where(np.arange(90) % 7 == 0, -1, np.arange(90) % 3)
    plots = (np.arange(90) // 3).astype(str)
    folds = np.arange(90) // 3 % 5
    index = index_of(targets, columns={"fold": folds, "plot": plots})
    partitions = divide(index, Split(column="fold", group="plot"), folds=True)
    assert [partition.fold for partition in partitions] == list("01234")
    assert sorted(np.concatenate([partition.test for partition in partitions])) == np.flatnonzero(targets >= 0).tolist()
    for partition in partitions:
        assert_apart(partition)
        assert set(folds[partition.test]) == {int(partition.fold or -1)}
        assert not set(plots[partition.train]) & set(plots[partition.val])
        assert sum(map(len, partition.parts().values())) == (targets >= 0).sum()


def test_folds_may_be_names_or_truth_values() -> None:
    index = index_of(np.arange(60) % 2, columns=COLUMNS)
    assert [p.fold for p in divide(index, Split(column="site"), folds=True)] == ["MLBS", "OSBS", "TALL"]
    first, second = divide(index, Split(column="held"), folds=True)
    assert np.array_equal(second.test, np.flatnonzero(COLUMNS["held"]))
    assert np.array_equal(first.test, np.flatnonzero(~COLUMNS["held"]))


@pytest.mark.parametrize(
    "column", [np.where(np.arange(20) < 3, np.nan, 1.0 * (np.arange(20) % 2)), ["", *"ab" * 9, ""]]
)
def test_labelled_samples_of_no_fold_are_refused(column: object) -> None:
    index = index_of(np.arange(20) % 2, columns={"fold": np.asarray(column)})
    with pytest.raises(DataError, match=r"[23] labelled samples have no value in column 'fold'"):
        divide(index, Split(column="fold"), folds=True)


def test_one_fold_is_none() -> None:
    with pytest.raises(DataError, match="one value only"):
        divide(index_of([0, 1] * 5, columns={"fold": np.zeros(10)}), Split(column="fold"), folds=True)


def test_bad_samples_leave_the_partition_and_its_findings_stay() -> None:
    partition = Partition(np.array([0, 3]), np.array([1]), np.array([2, 4]), "x", 5, 6, shared_groups=7)
    kept = partition.keep(np.array([True, True, False, True, True]))
    assert [held.tolist() for held in kept.parts().values()] == [[0, 3], [1], [4]]
    assert (kept.fold, kept.left_out, kept.shared_pixels, kept.shared_groups) == ("x", 5, 6, 7)


# What an index promises


def test_an_index_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(DataError, match="2 samples have 3 values of targets"):
        Index(["a", "b"], np.array([0, 1, 1]), ("x", "y"))
    with pytest.raises(DataError, match="2 samples have 1 values of column 'fold'"):
        Index(["a", "b"], np.array([0, 1]), ("x", "y"), columns={"fold": np.array([1])})
    for targets in ([0, 2], [-2, 0]):
        with pytest.raises(DataError, match="count from 0 to 1"):
            Index(["a", "b"], np.array(targets), ("x", "y"))
    for labels in ([[0, 2], [0, 1]], [[0, -2], [1, 1]]):
        with pytest.raises(DataError, match="the targets do not hold 0 and 1"):
            Index(["a", "b"], np.array(labels), ("x", "y"))
    with pytest.raises(DataError, match="the targets are 2 a sample, and there are 3 names of them"):
        Index(["a"], np.array([[0, 1]]), ("x", "y", "z"))
    with pytest.raises(DataError, match="a target is infinite"):
        Index(["a"], np.array([[0.0, np.inf]]), ("x", "y"))
    with pytest.raises(DataError, match=r"quantities are targets \[n, K\]"):
        Index(["a", "b"], np.array([0.0, 1.0]), ("x", "y"))


def test_an_index_tells_its_task_and_whose_target_is_known() -> None:
    for targets, task, known in [
        (np.array([0, -1, 1]), "classification", [True, False, True]),
        (np.array([[0, 1], [-1, -1], [0, 0]]), "multilabel", [True, False, True]),
        (np.array([[-3.0, 1], [np.nan, 2], [0, np.nan]]), "regression", [True, False, False]),
    ]:
        index = Index(["a", "b", "c"], targets, ("x", "y"))
        assert index.task == task
        assert index.labelled.tolist() == known
