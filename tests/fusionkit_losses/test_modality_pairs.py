"""What the losses between modalities have in common: which are compared, and in what space."""

from __future__ import annotations

import pytest
import torch
from fusionkit_losses.cosine_consistency import CosineConsistency
from fusionkit_losses.cross_modal_triplet import CrossModalTriplet
from fusionkit_losses.info_nce import InfoNCE

from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import Batch, Output, Task

TASK = Task("classification", ("a", "b"), (1, 1))
LOSSES = [CosineConsistency, CrossModalTriplet, InfoNCE]


def model(**widths: int) -> Output:
    """What a model says of two samples, on the meta device."""
    with torch.device("meta"):
        return Output(torch.zeros(2, 2), torch.zeros(2, 1), {name: torch.zeros(2, D) for name, D in widths.items()})


@pytest.mark.parametrize("loss", LOSSES)
def test_all_modalities_are_compared_two_by_two(loss):
    made = loss(TASK, dim=3)
    made.fit_to(model(image=4, text=5, lidar=6))
    assert made.pairs == [("image", "text"), ("image", "lidar"), ("text", "lidar")]
    assert {weight.shape for weight in made.projections.parameters()} == {(3, 4), (3, 5), (3, 6)}
    assert {weight.device.type for weight in made.projections.parameters()} == {"cpu"}


@pytest.mark.parametrize("loss", LOSSES)
def test_those_named_are_compared_and_no_other_is_projected(loss):
    made = loss(TASK, dim=3, between=["lidar", "image"])
    made.fit_to(model(image=4, text=5, lidar=6))
    assert made.pairs == [("lidar", "image")]
    assert set(made.projections) == {"image", "lidar"}


@pytest.mark.parametrize("loss", LOSSES)
def test_models_that_it_cannot_be_asked_of_are_told(loss):
    with pytest.raises(ShapeError, match="no modality 'txt'; did you mean 'text'"):
        loss(TASK, between=["image", "txt"]).fit_to(model(image=4, text=4))
    with pytest.raises(ShapeError, match="the embedding of image alone"):
        loss(TASK).fit_to(model(image=4))
    with pytest.raises(ShapeError, match=r"image has 4, text has 5.*set `dim`"):
        loss(TASK, dim=None).fit_to(model(image=4, text=5))
    loss(TASK, dim=None, between=["image", "text"]).fit_to(model(image=4, text=4, lidar=5))


@pytest.mark.parametrize("between", [[], ["image"], ["image", "image"]])
def test_two_different_modalities_are_wanted(between):
    with pytest.raises(RequestError, match="two modalities or more, each once"):
        CosineConsistency(TASK, between=between)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_computes_in_32_bits(loss, dtype):
    torch.manual_seed(0)
    made = loss(TASK, dim=8)
    made.fit_to(model(image=300, text=300))
    values = {name: (1e2 * torch.randn(6, 300)).to(dtype) for name in ("image", "text")}
    present = {name: torch.ones(6, dtype=torch.bool) for name in values}
    batch = Batch({}, present, torch.arange(6) % 2, torch.arange(6))
    fine = {name: value.float() for name, value in values.items()}
    expected = made(Output(torch.zeros(6, 2), torch.zeros(6, 1), fine), batch)
    with torch.autocast("cpu", dtype):
        found = made(Output(torch.zeros(6, 2), torch.zeros(6, 1), values), batch)
    assert found.dtype == torch.float32
    assert found.item() == expected.item()
