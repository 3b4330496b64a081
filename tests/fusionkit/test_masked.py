"""Maps with values that were not measured: from the survey to the prediction nothing depends on what stands there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fusionkit_fakes import Cat, Conv, Held, Linear, fusions_with_defaults, index_of
from fusionkit_fusions.early_stack import EarlyStack

from fusionkit.errors import BadSample
from fusionkit.flow import Batch, Features, InputSpec, Task
from fusionkit.loading import EVALUATION, Samples, collate, hold_against, read_checked
from fusionkit.model import Blueprint, FusionModel
from fusionkit.registry import load_registry
from fusionkit.splits import Partition
from fusionkit.survey import Survey, survey
from fusionkit.testing.subjects import subjects

MAP, VECTOR, STEPS = InputSpec((3, 8, 8)), InputSpec((5,)), InputSpec((4, 2), ragged=True)
SPECS = {"map": MAP, "vector": VECTOR}
COUNT = 30
TASK = Task("classification", ("a", "b", "c"), (1, 1, 1))
PARTITION = Partition(np.arange(20), np.arange(20, 25), np.arange(25, COUNT))


def maps(under: float = np.nan) -> list[np.ndarray]:
    """Holes of single values, of whole pixels, and a channel that sample 3 lacks; every fifth map has none."""
    random = np.random.default_rng(0)
    made = []
    for i in range(COUNT):
        value = random.normal(50, 3, MAP.shape) * [[[1]], [[10]], [[0.1]]]
        mask = (random.random(MAP.shape) < 0.2) | (random.random((1, 8, 8)) < 0.2)
        mask[1] |= i == 3
        made.append(value if i % 5 == 0 else np.ma.MaskedArray(np.where(mask, under, value), mask))
    return made


def held(under: float = np.nan) -> Held:
    random = np.random.default_rng(1)
    vectors = [random.normal(size=5).astype(np.float32) for _ in range(COUNT)]
    return Held(SPECS, {"map": maps(under), "vector": vectors}, index_of(np.arange(COUNT) % 3))


def surveyed(data: Held, **options: Any) -> Survey:
    return survey(data, data.listed, data.specs, [PARTITION], **options)


# The survey


@pytest.mark.parametrize("workers", [0, 2])
def test_statistics_are_those_of_the_measured_values_of_each_channel(workers: int) -> None:
    found = surveyed(held(), workers=workers)
    stacked = np.ma.stack([np.ma.asarray(value) for value in maps()])
    train = stacked[:20].swapaxes(0, 1).reshape(3, -1)
    np.testing.assert_allclose(found.statistics[0]["map"].mean, train.mean(1), rtol=1e-12)
    np.testing.assert_allclose(found.statistics[0]["map"].std, train.std(1), rtol=1e-10)
    assert found.ranges["map"] == (stacked.min(), stacked.max())
    assert found.bad == []


def test_covariances_are_those_of_pixels_measured_in_all_channels() -> None:
    found = surveyed(held(), whitened=frozenset(("map",))).statistics[0]["map"]
    train = np.ma.stack([np.ma.asarray(value) for value in maps()[:20]]).swapaxes(0, 1).reshape(3, -1)
    whole = train.data[:, ~np.ma.getmaskarray(train).any(0)]
    np.testing.assert_allclose(found.covariance, np.cov(whole, bias=True), rtol=1e-9)
    np.testing.assert_allclose(found.mean, whole.mean(1), rtol=1e-12)


def test_what_stands_under_a_mask_is_no_content_but_the_mask_is() -> None:
    assert surveyed(held(np.nan)).fingerprint == surveyed(held(-3)).fingerprint
    other = held()
    other.values["map"][4] = np.ma.MaskedArray(other.values["map"][4].filled(0), False)
    assert surveyed(other).fingerprint != surveyed(held()).fingerprint


def test_a_channel_that_was_never_measured_is_a_constant() -> None:
    data = held()
    for i, value in enumerate(data.values["map"]):
        mask = np.ma.getmaskarray(value).copy()
        mask[2] = True
        data.values["map"][i] = np.ma.MaskedArray(np.ma.getdata(value), mask)
    found = surveyed(data).statistics[0]["map"]
    assert (found.mean[2], found.std[2]) == (0, 0)
    assert found.std[0] > 0


# Samples and batches


def test_a_map_without_any_measurement_is_absent_and_one_without_a_hole_is_plain() -> None:
    data = held()
    data.values["map"][1] = np.ma.masked_all(MAP.shape)
    data.values["map"][2] = np.ma.MaskedArray(np.ones(MAP.shape))
    assert read_checked(data, 1, SPECS)["map"] is None
    assert type(read_checked(data, 2, SPECS)["map"]) is np.ndarray
    assert surveyed(data).absent["map"] == 1


def test_masked_values_may_be_anything_and_others_not() -> None:
    value = np.ma.MaskedArray(np.full(MAP.shape, np.nan), np.ones(MAP.shape, bool))
    value[0, 0, 0] = 4
    hold_against("map", value, MAP)
    value[0, 0, 1] = np.inf
    with pytest.raises(BadSample, match="map holds infinity"):
        hold_against("map", value, MAP)
    value[0, 0, 1] = np.nan
    with pytest.raises(BadSample, match="map holds NaN"):
        hold_against("map", value, MAP)


@pytest.mark.parametrize("spec", [VECTOR, STEPS], ids=str)
def test_only_maps_have_holes(spec: InputSpec) -> None:
    value = np.ma.MaskedArray(np.ones(spec.shape), False)
    hold_against("steps", value, spec)
    value[1] = np.ma.masked
    with pytest.raises(BadSample, match="steps has masked values, which maps alone may have"):
        hold_against("steps", value, spec)


def test_batches_have_zero_where_nothing_was_measured_and_say_so() -> None:
    numbers = np.arange(192, dtype=np.int16).reshape(MAP.shape)
    value = np.ma.MaskedArray(numbers, numbers % 7 == 0)
    stacked, valid = collate([value, None, value.data], MAP)
    assert stacked.dtype == torch.int16
    assert valid is not None
    np.testing.assert_array_equal(stacked[0].numpy(), value.filled(0))
    np.testing.assert_array_equal(stacked[2].numpy(), value.data)
    np.testing.assert_array_equal(valid[0].numpy(), ~value.mask)
    assert not valid[1].any()
    assert valid[2].all()
    assert collate([value.data, None], MAP)[1] is None


# The model


def a_batch(under: float = np.nan, positions: tuple[int, ...] = (0, 1, 2, 3, 4)) -> Batch:
    data = held(under)
    samples = Samples(data, data.listed.targets, SPECS)
    batch = samples.__getitems__([(EVALUATION, position) for position in positions])
    batch.inputs["map"] = batch.inputs["map"].masked_fill(~batch.valid["map"], under)  # what a batch need not keep to
    return batch


def a_model(**options: Any) -> FusionModel:
    encoders = {"map": Conv, "vector": Linear}
    statistics = surveyed(held(), whitened=options.get("whitened", frozenset())).statistics[0]
    plan = Blueprint(SPECS, encoders, Cat, Cat, TASK, normalized=frozenset(SPECS), **options)
    return plan.build(statistics).eval()


@pytest.mark.parametrize("options", [{}, {"whitened": frozenset(("map",))}, {"stood_in": frozenset(("map",))}], ids=str)
def test_what_stands_under_a_mask_changes_no_prediction(options: dict[str, Any]) -> None:
    model = a_model(**options)
    one, other = (model(a_batch(under)).logits for under in (np.nan, 1e6))
    assert torch.isfinite(one).all()
    assert torch.equal(one, other)


def test_what_is_masked_reaches_the_encoder_as_the_mean() -> None:
    model, batch = a_model(), a_batch()
    prepared = model.prepare(batch)["map"]
    assert (prepared.value[~batch.valid["map"]] == 0).all()
    statistics = surveyed(held()).statistics[0]["map"]
    mean, std = (torch.tensor(of).reshape(3, 1, 1) for of in (statistics.mean, statistics.std))
    expected = ((batch.inputs["map"] - mean) / std)[batch.valid["map"]].float()
    torch.testing.assert_close(prepared.value[batch.valid["map"]], expected, rtol=1e-4, atol=1e-4)
    assert prepared.measured is not None
    assert torch.equal(prepared.measured, batch.valid["map"].any(1))


def test_a_mask_that_hides_nothing_changes_nothing() -> None:
    model = a_model()
    data = held()
    for i, value in enumerate(data.values["map"]):
        data.values["map"][i] = np.ma.getdata(value) if i % 5 == 0 else np.ma.filled(value, 7)
    batch = Samples(data, data.listed.targets, SPECS).__getitems__([(EVALUATION, position) for position in range(5)])
    assert batch.valid == {}
    masked = replace(batch, valid={"map": torch.ones(5, *MAP.shape, dtype=torch.bool)})
    torch.testing.assert_close(model(masked).logits, model(batch).logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stood_in", [frozenset(), frozenset(("map",))])
def test_a_map_without_any_measured_value_is_absent(stood_in: frozenset[str]) -> None:
    model, batch = a_model(stood_in=stood_in), a_batch()
    batch.valid["map"][2] = False
    absent = replace(batch, present=batch.present | {"map": torch.arange(5) != 2})
    assert not model.prepare(batch)["map"].present[2]
    assert torch.equal(model(batch).logits, model(absent).logits)


def test_tokens_of_ground_without_a_measurement_are_masked_and_stay_so_over_the_stages() -> None:
    measured = torch.ones(2, 8, 8, dtype=torch.bool)
    measured[0, :4, 4:] = measured[0, 7] = False
    tokens = torch.randn(2, 16, 3)
    features = Features(tokens, (4, 4)).on_ground(measured)
    expected = torch.ones(2, 4, 4, dtype=torch.bool)
    expected[0, :2, 2:] = False  # and the last row has measured pixels in its upper half
    assert features.mask is not None
    assert torch.equal(features.mask, expected.flatten(1))
    torch.testing.assert_close(features.pooled[0], tokens[0][expected[0].flatten()].mean(0))
    smaller = features.with_map(torch.randn(2, 5, 2, 2))
    assert smaller.mask is not None
    assert smaller.mask.tolist() == [[True, False, True, True], [True] * 4]
    assert Features(tokens).on_ground(measured).mask is None
    assert Features(tokens, (4, 4)).on_ground(None).mask is None


@pytest.mark.parametrize("forgets", [False, True])
def test_the_mask_reaches_the_fusion_whatever_an_encoder_forgets(forgets: bool) -> None:
    given: list[Features] = []

    class Spy(Cat):
        def exchange(self, stage: int, features: dict[str, Features]) -> dict[str, Features]:
            given.append(features["map"])
            return features

        def forward(self, features: dict[str, Features]) -> torch.Tensor:
            given.append(features["map"])
            return super().forward(features)

    def conv(spec: InputSpec) -> Conv:
        return Conv(spec, forgets=forgets)

    model = Blueprint(SPECS, {"map": conv, "vector": Linear}, Spy, Spy, TASK).build({}).eval()
    batch = a_batch()
    batch.valid["map"][1, :, :4, :4] = False
    given.clear()
    model(batch)
    middle, last = given
    assert middle.mask is not None
    assert last.mask is not None
    assert middle.mask.unflatten(1, middle.grid)[1, :2, :2].sum() == 0
    assert last.mask.unflatten(1, last.grid).tolist()[1] == [[False, True], [True, True]]
    assert last.mask[0].all()


def test_stacked_maps_are_measured_where_any_of_them_is() -> None:
    specs = {"one": InputSpec((2, 8, 8)), "two": InputSpec((1, 8, 8))}
    model = Blueprint(specs, dict.fromkeys(specs, Conv), EarlyStack, EarlyStack, TASK).build({}).eval()
    batch = Batch(
        {name: torch.randn(3, *spec.shape) for name, spec in specs.items()},
        {"one": torch.ones(3, dtype=torch.bool), "two": torch.tensor([True, False, True])},
        torch.zeros(3, dtype=torch.int64),
        torch.arange(3),
        {"one": torch.ones(3, 2, 8, 8, dtype=torch.bool)},
    )
    batch.valid["one"][:, :, :4] = False
    measured = model.fusion.arrange(model.prepare(batch))["one"].measured
    assert measured is not None
    assert measured.all((1, 2)).tolist() == [True, False, True]
    assert not measured[1, :4].any()


@pytest.mark.parametrize("name", fusions_with_defaults())
def test_every_fusion_takes_maps_with_holes(name: str) -> None:
    """What stands in them changes nothing, nor does a mask that hides nothing, nor who else is in the batch."""
    subject = subjects(load_registry().resolve("fusion", name), counts=(2,)).taken[2]
    batch = Batch({}, {}, torch.zeros(4, dtype=torch.int64), torch.arange(4))
    for modality, value in subject.values(size=4).items():
        batch.inputs[modality], batch.present[modality] = value.value, value.present
        if value.valid is not None:
            batch.valid[modality] = value.valid
    found = {}
    for under in (None, 0.0, np.nan):
        holed = replace(batch, inputs=dict(batch.inputs), valid=dict(batch.valid))
        for modality, spec in subject.inputs.items():
            if len(spec.shape) == 3:
                measured = torch.ones(batch.inputs[modality].shape, dtype=torch.bool)
                if under is not None:
                    measured[0, :, : spec.shape[1] // 2] = measured[1, 0] = False
                    measured[2] = False  # absent
                    holed.inputs[modality] = batch.inputs[modality].masked_fill(~measured, under)
                holed.valid[modality] = measured
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            found[under] = subject.model(holed).logits
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        whole = subject.model(batch).logits
    torch.testing.assert_close(found[None], whole, rtol=1e-4, atol=1e-5)
    assert torch.isfinite(found[0.0]).all()
    assert torch.equal(found[0.0], found[np.nan])
    torch.testing.assert_close(found[0.0][3], whole[3], rtol=1e-4, atol=1e-5)
    if any(len(spec.shape) == 3 for spec in subject.inputs.values()):
        assert not torch.allclose(found[0.0][0], whole[0])
