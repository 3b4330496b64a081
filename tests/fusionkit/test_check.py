"""`fusionkit check`: shapes, tokens, parameters and multiply-adds, without reading a sample."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fusionkit_fakes import Cat, Conv, Linear, Share, Unreadable, recipe, registry
from torch import nn

from fusionkit.check import CheckReport, check, cost
from fusionkit.contract import Encoder
from fusionkit.errors import RecipeError
from fusionkit.flow import Features, InputSpec, Task
from fusionkit.model import Blueprint
from fusionkit.recipe import load_recipe

TASK = Task("classification", ("a", "b", "c"), (1, 1, 1))


def checked(**changes: Any) -> CheckReport:
    return check(load_recipe(recipe(**changes), registry=registry()))


def cost_of(*encoders: Any, spec: InputSpec) -> tuple[int, int]:
    """Parameters and multiply-adds of encoders of one shape, concatenated to width 6, with a head for 3 classes."""
    names = [f"m{number}" for number in range(len(encoders))]
    fusion = Cat
    if encoders[-1] is Share:
        fusion, encoders, names = Share, encoders[:-1], names[:-1]
    plan = Blueprint(dict.fromkeys(names, spec), dict(zip(names, encoders, strict=True)), fusion, fusion, TASK)
    found = cost(plan)
    return found.parameters, found.multiply_adds


def test_rows_agree_with_a_calculation_by_hand() -> None:
    report = checked(
        modalities={
            "image": {"encoder": {"name": "conv", "dim": 4, "depth": 2}},
            "vector": {"encoder": {"name": "linear", "dim": 8, "depth": 1}},
            "steps": {"encoder": {"name": "linear", "dim": 8, "depth": 0}},
        },
        fusion={"name": "cat", "dim": 6},
        loss={"entropy": 1, "branches": 0.5},
    )
    rows = {row.part: row for row in report.rows}
    image = rows["image"]
    assert (image.component, image.input, image.features, image.tokens) == ("conv", "2 x 6 x 6", "4 x 2 x 2", 4)
    assert image.parameters == (2 * 4 * 9 + 4) + 2 * (4 * 4 * 9)
    assert image.multiply_adds == 36 * 2 * 4 * 9 + 9 * 4 * 4 * 9 + 4 * 4 * 4 * 9
    vector = rows["vector"]
    assert (vector.input, vector.features, vector.tokens) == ("5", "8", 1)
    assert (vector.parameters, vector.multiply_adds) == ((5 * 8 + 8) + (8 * 8 + 8), 5 * 8 + 8 * 8)
    steps = rows["steps"]
    assert (steps.input, steps.features, steps.tokens) == ("4 x 3", "8", 4)
    assert (steps.parameters, steps.multiply_adds) == (3 * 8 + 8, 4 * 3 * 8)
    assert (rows["fusion"].parameters, rows["fusion"].multiply_adds) == (20 * 6 + 6, 20 * 6)
    assert (rows["head"].parameters, rows["head"].multiply_adds) == (6 * 3 + 3, 6 * 3)
    assert (rows["branch image"].parameters, rows["branch vector"].multiply_adds) == (4 * 3 + 3, 8 * 3)
    *parts, total = report.rows
    assert total.part == "total"
    assert total.parameters == sum(row.parameters for row in parts)
    assert total.multiply_adds == sum(row.multiply_adds for row in parts)


def test_whitening_costs_a_square_of_the_channels_at_every_pixel() -> None:
    encoder = {"name": "conv", "dim": 4, "depth": 2}
    plain, whitened = (
        checked(modalities={"image": {"encoder": encoder, "normalize": how}, "vector": "linear"})
        for how in ("standard", "whiten")
    )
    assert whitened.rows[0].multiply_adds - plain.rows[0].multiply_adds == 36 * 2 * 2
    assert whitened.rows[-1].multiply_adds == sum(row.multiply_adds for row in whitened.rows[:-1])


def test_shared_weights_count_once_and_their_work_as_often_as_it_is_done() -> None:
    spec = InputSpec((5,))
    plain = partial(Linear, dim=4, depth=0)
    parameters, adds = cost_of(plain, plain, Share, spec=spec)
    assert parameters == (5 * 4 + 4) + (8 * 6 + 6) + (6 * 3 + 3)
    assert adds == 2 * 5 * 4 + 8 * 6 + 6 * 3


def test_a_shared_weight_stands_in_the_row_of_its_first_owner() -> None:
    rows = {
        row.part: row.parameters
        for row in checked(data={"source": "twins"}, modalities={"one": "conv", "two": "conv"}, fusion="share").rows
    }
    stages = 2 * (4 * 4 * 9)
    assert (rows["one"], rows["two"]) == ((2 * 4 * 9 + 4) + stages, stages)
    assert rows.pop("total") == sum(rows.values())


class Grouped(Encoder):
    """Depthwise convolution with dilation, then a transposed one."""

    def __init__(self, spec: InputSpec):
        super().__init__(spec)
        self.deep = nn.Conv2d(4, 8, 3, groups=4, dilation=2, padding=2)
        self.up = nn.ConvTranspose2d(8, 2, 2, stride=2)

    def embed(self, value: torch.Tensor, valid: torch.Tensor | None) -> Features:
        return Features.from_map(self.up(self.deep(value)))


class Attention(Encoder):
    """One transformer layer of width 8 with two heads and 16 hidden units."""

    def __init__(self, spec: InputSpec):
        super().__init__(spec)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def embed(self, value: torch.Tensor, valid: torch.Tensor | None) -> Features:
        return Features(self.layer(value))


class Recurrent(Encoder):
    """A GRU of width 5 over its input."""

    def __init__(self, spec: InputSpec):
        super().__init__(spec)
        self.cell = nn.GRU(8, 5, batch_first=True)

    def embed(self, value: torch.Tensor, valid: torch.Tensor | None) -> Features:
        return Features(self.cell(value)[0])


HEAD = 6 * 3


@pytest.mark.parametrize(
    ("encoder", "shape", "adds", "parameters"),
    [
        (Grouped, (4, 5, 5), 25 * 8 * 9 + 25 * 8 * 2 * 4 + 2 * 6, 8 * 9 + 8 + 8 * 2 * 4 + 2),
        # Four projections of 10 tokens, two products of 10 x 10 in width 8, and two layers of the feed-forward part.
        (Attention, (10, 8), 10 * 4 * 64 + 2 * 100 * 8 + 2 * 10 * 8 * 16 + 8 * 6, 4 * 72 + 144 + 136 + 4 * 8),
        (Recurrent, (10, 8), 10 * 3 * (8 * 5 + 5 * 5) + 5 * 6, 3 * (40 + 25 + 5 + 5)),
    ],
)
def test_multiply_adds_of_other_layers(encoder: type, shape: tuple[int, ...], adds: int, parameters: int) -> None:
    width = {Grouped: 2, Attention: 8, Recurrent: 5}[encoder]
    assert cost_of(encoder, spec=InputSpec(shape)) == (parameters + width * 6 + 6 + HEAD + 3, adds + HEAD)


def test_the_report_is_a_table() -> None:
    text = str(checked())
    lines = text.splitlines()
    assert lines[0].split() == ["part", "component", "input", "features", "tokens", "parameters", "multiply-adds"]
    assert lines[1].split()[:2] == ["image", "conv"]
    assert lines[-1].split()[0] == "total"
    assert len({len(line) for line in lines}) == 1


# Without data


def test_no_sample_is_read() -> None:
    report = checked(data={"source": "unreadable"})
    assert not report.notes
    with pytest.raises(AssertionError, match="a sample was read"):
        Unreadable().read(0)


DECLARED = {"image": {"encoder": "conv", "shape": [2, 6, 6]}, "vector": {"encoder": "linear", "shape": [5]}}


def test_declared_shapes_and_classes_stand_in_for_data_that_are_not_there() -> None:
    data = {"source": "toy", "gone": "/no/such/folder", "class_names": ["x", "y", "z", "w"]}
    report = checked(data=data, modalities=DECLARED)
    assert report.notes == [
        "the data are not at hand (/no/such/folder: there is no such folder); "
        "shapes and classes are taken as the recipe declares them"
    ]
    assert "note: the data are not at hand" in str(report)
    assert next(row for row in report.rows if row.part == "head").features == "4 classes"
    known = checked(data={"source": "toy", "gone": "/no/such/folder", "names": True}, modalities=DECLARED)
    assert next(row for row in known.rows if row.part == "head").features == "3 classes"


@pytest.mark.parametrize(
    ("data", "modalities"),
    [
        ({"gone": "/no/such/folder"}, DECLARED),
        ({"gone": "/no/such/folder", "class_names": ["x", "y"]}, DECLARED | {"vector": "linear"}),
        ({"gone": "/", "class_names": ["x", "y"]}, DECLARED),
    ],
    ids=["no class names", "a shape is missing", "the data are there and wrong"],
)
def test_where_too_little_is_declared_the_data_are_missed(data: dict, modalities: dict) -> None:
    with pytest.raises(RecipeError, match=r"data.gone: /.*: there is no such folder"):
        checked(data={"source": "toy"} | data, modalities=modalities)


# What does not fit, with its line


PLUS = "data: {source: toy}\nfusion: plus\nloss: entropy\n"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (
            PLUS + "modalities:\n  image: linear\n",
            "5:3: modalities.image.encoder: the encoder of image cannot read 2 x 6",
        ),
        (
            PLUS + "modalities:\n  image: conv\n  vector: conv\n",
            "6:3: modalities.vector.encoder: the encoder of vector",
        ),
        (
            PLUS + "modalities: {image: conv, vector: {encoder: {name: linear, dim: 7}}}\n",
            "2:1: fusion: Plus cannot fuse",
        ),
        (
            PLUS + "modalities: {image: {encoder: conv, shape: [2, 6, 7]}}\n",
            "4:37: modalities.image.shape: the recipe says",
        ),
        (
            PLUS + "modalities: {image: conv}\ntrain:\n  optimizer: rubbish\n",
            "6:3: train.optimizer: no optimiser is named",
        ),
        (PLUS.replace("entropy", "picky") + "modalities: {image: conv}\n", "3:1: loss: this loss needs four classes"),
        (
            PLUS.replace("toy", "toy, class_names: [a, b]") + "modalities: {image: conv}\n",
            "1:21: data.class_names: 2 names",
        ),
    ],
)
def test_problems_are_told_with_file_line_and_key(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as told:
        check(load_recipe(path, registry=registry()))
    assert str(told.value).startswith(f"{path}:{place}")
    assert len(str(told.value).splitlines()) == 1
    assert told.value.exit_code == 2


def test_the_cost_of_a_model_is_for_one_sample() -> None:
    assert cost_of(partial(Conv, depth=0, dim=4), spec=InputSpec((2, 6, 6))) == (
        (2 * 4 * 9 + 4) + (4 * 6 + 6) + (6 * 3 + 3),
        36 * 2 * 4 * 9 + 4 * 6 + 6 * 3,
    )


def test_ranks_of_a_map_are_refused_with_their_line() -> None:
    chosen = recipe(modalities={"image": {"encoder": "conv", "normalize": "quantile"}, "vector": "linear"})
    message = "recipe: modalities.image.normalize: quantile is for vectors and sequences; image is 2 x 6 x 6"
    with pytest.raises(RecipeError, match=message):
        check(load_recipe(chosen, registry=registry()))
