"""One reading of all samples: what is bad, twice or missing, and the statistics of train."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fusionkit_fakes import Held, index_of

from fusionkit.contract import Index
from fusionkit.errors import BadSample, DataError, FusionkitError
from fusionkit.flow import InputSpec
from fusionkit.normalization import QUANTILES
from fusionkit.splits import Partition
from fusionkit.survey import Survey, survey

SPECS = {"map": InputSpec((3, 4, 5)), "vector": InputSpec((6,)), "steps": InputSpec((7, 2), ragged=True)}
COUNT = 200
PARTITION = Partition(np.arange(0, 120), np.arange(120, 150), np.arange(150, COUNT))


def data(seed: int = 0) -> dict[str, list]:
    """Channels far from zero and of different spread; some values absent, some sequences short."""
    random = np.random.default_rng(seed)
    offset = np.array([0.0, 1000.0, -5.0])[:, None, None]
    return {
        "map": [(random.normal(size=(3, 4, 5)) * [[[1]], [[0.1]], [[7]]] + offset) for _ in range(COUNT)],
        "vector": [None if i % 5 == 0 else random.integers(0, 100, 6).astype(np.int16) for i in range(COUNT)],
        "steps": [random.normal(size=(1 + i % 7, 2)).astype(np.float32) for i in range(COUNT)],
    }


def surveyed(values: dict[str, list], *partitions: Partition, index: Index | None = None, **options: Any) -> Survey:
    index = index or index_of(np.arange(COUNT) % 3)
    return survey(Held(SPECS, values, index), index, SPECS, partitions or [PARTITION], **options)


def test_statistics_are_those_of_numpy_over_train_alone() -> None:
    values = data()
    for i in range(120, COUNT):  # would show if val or test had a part
        values["map"][i] = values["map"][i] + 1e4
    (found,) = surveyed(values).statistics
    maps = np.stack(values["map"][:120])
    np.testing.assert_allclose(found["map"].mean, maps.mean((0, 2, 3)), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found["map"].std, maps.std((0, 2, 3)), rtol=1e-10)
    vectors = np.stack([value for value in values["vector"][:120] if value is not None]).astype(np.float64)
    np.testing.assert_allclose(found["vector"].mean, vectors.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found["vector"].std, vectors.std(0), rtol=1e-12)
    steps = np.concatenate(values["steps"][:120]).astype(np.float64)
    np.testing.assert_allclose(found["steps"].mean, steps.mean(0), rtol=1e-10)
    np.testing.assert_allclose(found["steps"].std, steps.std(0), rtol=1e-12)


@pytest.mark.parametrize("workers", [0, 2])
def test_covariances_are_those_of_numpy_over_train_alone_and_only_where_wanted(workers: int) -> None:
    values = data()
    (found,) = surveyed(values, whitened=frozenset(("map", "steps")), workers=workers).statistics
    maps = np.stack(values["map"][:120]).swapaxes(0, 1).reshape(3, -1)
    np.testing.assert_allclose(found["map"].covariance, np.cov(maps, bias=True), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found["map"].std, maps.std(1), rtol=1e-10)
    steps = np.concatenate(values["steps"][:120]).astype(np.float64)
    np.testing.assert_allclose(found["steps"].covariance, np.cov(steps.T, bias=True), rtol=1e-10, atol=1e-10)
    assert found["vector"].covariance is None


@pytest.mark.parametrize("workers", [0, 2])
def test_quantiles_are_those_of_numpy_over_train_alone_and_only_where_wanted(workers: int) -> None:
    values, grid = data(), np.linspace(0, 1, QUANTILES)
    folds = [PARTITION, Partition(np.arange(60), np.arange(60, 120), np.arange(120, COUNT))]
    found = surveyed(values, *folds, ranked=frozenset(("vector", "steps")), workers=workers).statistics
    for partition, statistics in zip(folds, found, strict=True):
        train = partition.train.tolist()
        vectors = np.stack([values["vector"][i] for i in train if values["vector"][i] is not None]).astype(np.float64)
        np.testing.assert_allclose(statistics["vector"].quantiles, np.quantile(vectors, grid, axis=0).T, rtol=1e-12)
        steps = np.concatenate([values["steps"][i] for i in train]).astype(np.float64)
        np.testing.assert_allclose(statistics["steps"].quantiles, np.quantile(steps, grid, axis=0).T, rtol=1e-12)
        assert statistics["map"].quantiles is None


def test_a_small_spread_far_from_zero_is_kept_and_a_constant_has_none() -> None:
    values = data()
    random = np.random.default_rng(1)
    for i in range(COUNT):
        values["map"][i][0] = 1e7 + random.normal(size=(4, 5))  # the difference of squares would lose this
        values["map"][i][1] = 0.1  # 0.1 has no exact sum
    (found,) = surveyed(values).statistics
    assert found["map"].std[0] == pytest.approx(np.stack(values["map"][:120])[:, 0].std(), rel=1e-8)
    assert found["map"].std[1] == 0


def test_every_fold_has_the_statistics_of_its_own_train() -> None:
    values = data()
    other = Partition(np.arange(80, COUNT), np.arange(40, 80), np.arange(40))
    first, second = surveyed(values, PARTITION, other).statistics
    np.testing.assert_allclose(first["map"].mean, np.stack(values["map"][:120]).mean((0, 2, 3)), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(second["map"].mean, np.stack(values["map"][80:]).mean((0, 2, 3)), rtol=1e-10, atol=1e-10)


def test_the_number_of_workers_changes_nothing() -> None:
    values = data()
    values["map"][70] = np.full((3, 4, 5), np.nan)
    alone, together = surveyed(values), surveyed(values, workers=2)
    assert alone.statistics == together.statistics
    assert alone.fingerprint == together.fingerprint
    assert alone.bad == together.bad
    assert np.array_equal(alone.good, together.good)


def test_bad_samples_are_put_aside_counted_and_listed() -> None:
    values = data()
    values["map"][3][1, 2, 2] = np.nan
    values["map"][130] = np.full((3, 4, 5), np.inf)
    values["steps"][160] = np.zeros((8, 2))
    values["map"][199] = BadSample("image is truncated", "/data/199.png", line=7)
    for modality in values.values():
        modality[45] = None
    found = surveyed(values, max_bad=0.025)
    assert np.flatnonzero(~found.good).tolist() == [3, 45, 130, 160, 199]
    assert [(bad.id, bad.split, bad.reason, bad.path, bad.line) for bad in found.bad] == [
        ("s3", "train", "map holds NaN", "", None),
        ("s45", "train", "no modality is present", "", None),
        ("s130", "val", "map holds infinity, or a number too great for 32 bits", "", None),
        ("s160", "test", "steps is 8 x 2, not 7 x 2", "", None),
        ("s199", "test", "image is truncated", "/data/199.png", 7),
    ]
    good = [i for i in range(120) if i not in (3, 45)]
    expected = np.stack([values["map"][i] for i in good]).mean((0, 2, 3))
    np.testing.assert_allclose(found.statistics[0]["map"].mean, expected, rtol=1e-10, atol=1e-9)
    assert set(found.digests) == set(range(COUNT)) - {3, 45, 130, 160, 199}


def test_too_many_bad_samples_end_the_work_with_examples() -> None:
    values = data()
    for i in (3, 45, 130, 160, 199):
        values["map"][i] = np.full((3, 4, 5), np.nan)
    with pytest.raises(FusionkitError) as told:
        surveyed(values, max_bad=0.024)
    assert "5 of 200 samples (2.5%) are bad, more than data.max_bad (2.4%)" in str(told.value)
    assert "s3: map holds NaN" in str(told.value)
    assert told.value.exit_code == 1


def test_samples_lost_while_listing_count_and_faulty_lines_do_not() -> None:
    lost = [(f"lost{i}", BadSample("there is no label", "labels.csv", line=i)) for i in range(4)]
    lines = [("s1", BadSample("no time", "1.txt", line=line)) for line in range(50)]
    index = index_of(np.arange(COUNT) % 3, bad=[*lines, *lost])
    found = surveyed(data(), index=index, max_bad=0.02)
    assert len(found.bad) == 54
    assert found.bad[0].id == "s1"
    assert found.bad[0].line == 0
    assert found.good.all()
    with pytest.raises(FusionkitError, match="4 of 204 samples") as told:
        surveyed(data(), index=index, max_bad=0.019)
    assert "lost0: labels.csv: there is no label" in str(told.value)


def test_a_modality_that_no_train_sample_has_is_refused() -> None:
    values = data()
    values["vector"][:120] = [None] * 120
    with pytest.raises(DataError, match="no good train sample has the modality vector"):
        surveyed(values)


def test_what_is_absent_and_how_far_values_reach() -> None:
    values = data()
    found = surveyed(values)
    assert found.absent == {"map": 0, "vector": 40, "steps": 0}
    maps = np.stack(values["map"])
    assert found.ranges["map"] == (maps.min(), maps.max())


def test_identical_samples_are_found_across_parts() -> None:
    values = data()
    for one, other in [(155, 2), (156, 2), (157, 130), (4, 3)]:
        for modality in values.values():
            modality[one] = modality[other]
    for modality in ("map", "steps"):  # the third modality tells these two apart
        values[modality][158] = values[modality][11]
    found = surveyed(values)
    train, val, test = PARTITION.parts().values()
    assert found.identical(test, np.concatenate([train, val])) == 3
    assert found.identical(test, val) == 1
    assert found.identical(train, val) == 0
    assert found.duplicates() == 4


def test_absent_zero_and_another_type_are_not_identical() -> None:
    values = data()
    values["vector"][1], values["vector"][6] = np.zeros(6, np.int16), np.zeros(6, np.float32)
    for modality in ("map", "steps"):
        for i in (5, 6):
            values[modality][i] = values[modality][1]
    assert surveyed(values).duplicates() == 0


def test_the_same_value_in_another_modality_is_not_identical() -> None:
    specs = {"one": InputSpec((2,)), "two": InputSpec((2,))}
    here, gone = np.ones(2), None
    index = index_of([0, 1, 0, 1])
    held = Held(specs, {"one": [here, gone, here, here], "two": [gone, here, here, gone]}, index)
    found = survey(held, index, specs, [Partition(np.array([0, 2]), np.array([1]), np.array([3]))])
    assert found.identical(np.array([1]), np.array([0])) == 0
    assert found.identical(np.array([3]), np.array([0, 1])) == 1
    assert found.duplicates() == 1


def test_the_fingerprint_changes_with_content_labels_and_names() -> None:
    prints = {surveyed(data()).fingerprint}
    values = data()
    values["map"][199] = values["map"][199] + 1e-9
    prints.add(surveyed(values).fingerprint)
    prints.add(surveyed(data(), index=index_of((np.arange(COUNT) + (np.arange(COUNT) == 7)) % 3)).fingerprint)
    renamed = index_of(np.arange(COUNT) % 3)
    renamed.ids = [*renamed.ids[:-1], "other"]
    prints.add(surveyed(data(), index=renamed).fingerprint)
    assert len(prints) == 4
    assert surveyed(data()).fingerprint in prints


def test_samples_of_no_part_are_not_read() -> None:
    values = data()
    values["map"][10] = values["map"][11] = RuntimeError("this was not to be read")
    partition = Partition(np.arange(12, 120), np.arange(120, 150), np.arange(150, COUNT))
    found = surveyed(values, partition)
    assert found.good.sum() == COUNT - 12


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    surveyed(data(), progress=lambda done, total: told.append((done, total)))
    assert told == [(64, 200), (128, 200), (192, 200), (200, 200)]
