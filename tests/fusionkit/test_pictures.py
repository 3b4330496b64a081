"""Maps as pictures."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from fusionkit.pictures import SIDE, picture, source, with_attention, with_boxes


def test_bytes_are_shown_as_they_are() -> None:
    value = np.random.default_rng(0).integers(0, 256, (3, 4, 8), dtype=np.uint8)
    image = picture(value)
    assert image.size == (SIDE, SIDE // 2)
    step = SIDE // 8
    np.testing.assert_array_equal(np.asarray(image)[::step, ::step], value.transpose(1, 2, 0))


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_other_values_are_stretched_between_percentiles(bands: int) -> None:
    value = np.random.default_rng(0).normal(size=(bands, 64, 64)) * 7 + 1000
    seen = np.asarray(picture(value))[:: SIDE // 64, :: SIDE // 64].astype(int)
    for k in range(3):
        band = value[k if bands >= 3 else 0]
        low, high = np.percentile(band, 2), np.percentile(band, 98)
        expected = ((band - low) / (high - low)).clip(0, 1) * 255
        assert np.abs(seen[..., k] - expected).max() < 1.01


def test_what_was_not_measured_is_pale_and_counts_for_nothing() -> None:
    value = np.ma.MaskedArray(np.full((1, 2, 2), 5.0), mask=[[[True, False], [False, False]]])
    value[0, 1] = [6, 7]
    value.data[0, 0, 0] = np.nan
    seen = np.asarray(picture(value))
    assert seen[0, 0].tolist() == [238, 241, 244]
    assert seen[0, -1].tolist() == [0, 0, 0]
    assert seen[-1, -1].tolist() == [255, 255, 255]
    assert picture(np.zeros((3, 5, 5))).getextrema() == ((0, 0), (0, 0), (0, 0))


def test_large_maps_become_small() -> None:
    image = picture(np.zeros((3, 1000, 400), np.uint8))
    assert max(image.size) == SIDE
    held = Image.open(io.BytesIO(base64.b64decode(source(image, 50).partition(",")[2])))
    assert max(held.size) == 50


def test_boxes_lie_where_they_should() -> None:
    image = Image.new("RGB", (100, 200))
    seen = np.asarray(with_boxes(image, {"#ff0000": np.array([0.1, 0.5, 0.5, 1.4])}))
    red = (seen == [255, 0, 0]).all(2)
    rows, columns = red.nonzero()
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (10, 49, 100, 199)
    assert not red[120:180, 15:45].any()
    assert np.asarray(image).max() == 0
    for box in ([0.5, 0.5, 0.5, 0.5], [0.9, 0.9, 0.1, 0.1], [2.0, 2.0, 3.0, 3.0]):  # of no extent
        assert np.asarray(with_boxes(image, {"#ff0000": np.array(box)})).max() == 0


def test_attention_is_light() -> None:
    image = Image.new("RGB", (40, 40), (200, 100, 50))
    weights = np.zeros((2, 2))
    weights[1, 0] = 0.3
    seen = np.asarray(with_attention(image, weights)).astype(int)
    assert seen[-1, 0].tolist() == [200, 100, 50]
    assert seen[0, -1].tolist() == [40, 20, 10]
    assert np.asarray(with_attention(image, np.zeros((2, 2)))).max() == 40
