"""Matrices of labels: what stands where, that it fits, and what is drawn of very many labels."""

import re
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fusionkit.figures import png
from fusionkit.figures_multilabel import label_confusions
from fusionkit.lettering import lettering

CHINESE = ["居住区", "学校", "工业园区", "火车站", "机场", "公园", "商业区", "政务区", "医院与疗养院附属设施用地"]
LONG = [f"Industrial, commercial and military units of kind number {i}" for i in range(19)]


def counts_of(labels, most=900):
    return np.random.default_rng(labels).integers(0, most, (labels, 2, 2))


def drawn(figure):
    with lettering():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return canvas.get_renderer()


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_matrices_say_percent_of_the_reference_and_counts():
    figure = label_confusions(np.array([[[90, 10], [40, 160]], [[7, 0], [0, 0]]]), ["a", "b"], title="t", subtitle="s")
    found = texts(figure)
    for expected in ("90", "10", "40", "160", "90.0", "10.0", "20.0", "80.0", "7", "100", "a", "b", "t", "s"):
        assert expected in found
    assert "n 200 · F1 0.86" in found  # 2 * 160 / (2 * 160 + 10 + 40)
    assert "n 0 · F1 –" in found
    assert "0.0" not in found


def test_rows_are_the_reference_in_every_matrix():
    counts = np.array([[[1, 2], [3, 4]], [[11, 12], [13, 14]]])
    figure = label_confusions(counts, ["a", "b"])
    place = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    for one, other in (("1", "3"), ("11", "13"), ("2", "4"), ("12", "14")):
        assert place[one][0] == place[other][0]
        assert place[one][1] < place[other][1]  # downwards
    assert place["1"][0] < place["2"][0] < place["11"][0] < place["12"][0]
    shares = [np.asarray(mesh.get_array()).ravel() for mesh in figure.axes[0].collections]
    np.testing.assert_allclose(shares, [[1 / 3, 2 / 3, 3 / 7, 4 / 7], [11 / 23, 12 / 23, 13 / 27, 14 / 27]])


@pytest.mark.parametrize(
    "names",
    [["one"], ["forest", "water"], CHINESE, LONG, [f"label {i}" for i in range(30)]],
    ids=["1", "2", "Chinese", "long", "30"],
)
def test_texts_do_not_touch_and_are_not_small(names):
    figure = label_confusions(counts_of(len(names), 99_999), names)
    renderer = drawn(figure)
    written = [text for text in figure.axes[0].texts if text.get_text() and text.get_rotation() == 0]
    boxes = [text.get_window_extent(renderer) for text in written]
    for k, box in enumerate(boxes):
        for other in boxes[k + 1 :]:
            assert not box.padded(-1.5).overlaps(other.padded(-1.5))
    smallest = min(text.get_fontsize() for text in written)
    assert smallest >= 6.5
    assert smallest / figure.get_figwidth() > 0.55
    assert png(figure, dpi=40)


def test_numbers_stay_in_their_cells():
    figure = label_confusions(counts_of(30, 10_000_000), [str(k) for k in range(30)])
    renderer = drawn(figure)
    axes = figure.axes[0]
    side = axes.transData.transform((1, 0))[0] - axes.transData.transform((0, 0))[0]
    cells = [text for text in axes.texts if re.fullmatch(r"[\d.<]+", text.get_text()) and text.get_ha() == "center"]
    assert max(text.get_window_extent(renderer).width for text in cells) <= side


def test_more_labels_than_can_be_read_get_bars_of_f1_best_first():
    counts = np.zeros((40, 2, 2), int)
    counts[:, 1, 1] = np.arange(40)
    counts[:, 1, 0] = 10
    counts[7] = [[50, 0], [0, 0]]
    figure = label_confusions(counts, [f"地类{k}" for k in range(40)])
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert (names[0], names[-2], names[-1]) == ("地类39", "地类0", "地类7")
    widths = [bar.get_width() for bar in axes.patches[40:]]
    np.testing.assert_allclose(widths[0], 78 / 88)
    assert all(one >= other for one, other in pairwise(widths))
    assert texts(figure).count("–") == 1
    assert len(label_confusions(counts[:30], names[:30]).axes[0].patches) == 0
    assert png(figure, dpi=40)


def test_hostile_names_are_drawn_as_they_are():
    for labels in (3, 33):
        names = ["$\\frac{$", "line\nbreak", "", *(str(k) for k in range(3, labels))]
        assert png(label_confusions(counts_of(labels), names, title="$_{", subtitle="$_"), dpi=40)
    with pytest.warns(UserWarning, match=r"empty boxes"):
        label_confusions(counts_of(1), ["lama \U0001f999"])


@pytest.mark.parametrize(("shape", "names"), [((2, 2, 2), 3), ((2, 2), 2), ((0, 2, 2), 0), ((2, 3, 3), 2)])
def test_names_and_counts_must_fit(shape, names):
    with pytest.raises(ValueError, match=f"{names} names for counts of"):
        label_confusions(np.zeros(shape, int), ["a"] * names)
