"""Figures: what is written in them, that it fits, that Chinese has no empty boxes, and that files are sound."""

import re
import warnings
import zlib
from io import BytesIO
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image

from fusionkit.figures import Curve, confusion_figure, learning_curves, png, save, term_curves
from fusionkit.lettering import FAMILIES, lettering, missing_glyphs, printable, wrap, wrap_whole

CHINESE = ["居住区", "学校", "工业园区", "火车站", "机场", "公园", "商业区", "政务区", "医院"]
LONG = [f"Industrial, commercial and military units of kind number {i}" for i in range(12)]


def counts_of(classes, seed=0):
    random = np.random.default_rng(seed)
    return random.poisson(3, (classes, classes)) * (random.random((classes, classes)) < 0.4) + 40 * np.eye(
        classes, dtype=int
    )


def texts(figure):
    with lettering():
        FigureCanvasAgg(figure).draw()
    axes = figure.axes[0]
    return [text.get_text() for text in (*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels())]


def test_figure_of_two_classes_says_counts_percentages_and_accuracies():
    figure = confusion_figure(np.array([[90, 10], [40, 160]]), ["a", "b"], title="late", subtitle="300 samples")
    found = texts(figure)
    for expected in ("90", "10", "40", "160"):  # counts
        assert expected in found
    for expected in ("90.0", "10.0", "20.0", "80.0"):  # % of the reference
        assert expected in found
    assert "100" in found  # n of the first class
    assert "69.2" in found  # UA of a: 90 of 130
    assert "94.1" in found  # UA of b: 160 of 170
    assert "83.3" in found  # OA: 250 of 300
    assert {"late", "300 samples"} <= set(found)


def test_rows_are_the_reference():
    figure = confusion_figure(np.array([[3, 7], [0, 5]]), ["a", "b"])
    cells = {}
    for text in figure.axes[0].texts:
        column, row = (round(place) for place in text.get_position())
        cells.setdefault((row, column), []).append(text.get_text())
    assert cells[0, 1] == ["70.0", "7"]
    assert (1, 0) not in cells
    shares = figure.axes[0].collections[0].get_array()
    np.testing.assert_allclose(np.asarray(shares).reshape(2, 2), [[0.3, 0.7], [0, 1]])


def test_a_class_without_samples_has_no_accuracy():
    found = texts(confusion_figure(np.array([[5, 0], [0, 0]]), ["a", "b"]))
    assert found.count("–") == 2


def test_cell_texts_go_as_classes_come():
    both, count, none = (texts(confusion_figure(counts_of(k), [f"c{i}" for i in range(k)])) for k in (14, 30, 31))
    assert any(re.fullmatch(r"\d+\.\d", text) for text in both)
    assert not any(re.fullmatch(r"\d+\.\d", text) for text in count)
    assert len(count) > 30 * 30 * 0.3
    assert len(none) < 31 * 6


@pytest.mark.parametrize(
    "names",
    [["negative", "positive"], CHINESE, LONG, [f"class {i}" for i in range(25)], [f"地类{i}号" for i in range(60)]],
    ids=["2", "Chinese", "long", "25", "60"],
)
def test_names_do_not_overlap_and_are_not_small(names):
    figure = confusion_figure(counts_of(len(names)), names)
    with lettering():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    axes = figure.axes[0]
    labels = [label for label in axes.get_yticklabels() if label.get_text()]
    boxes = [label.get_window_extent(canvas.get_renderer()) for label in labels]
    for above, below in pairwise(boxes):
        assert above.y0 >= below.y1 - 1
    below = [label for label in axes.get_xticklabels() if label.get_text()]
    if below[0].get_rotation() in (0, 90):
        boxes = [label.get_window_extent(canvas.get_renderer()) for label in below]
        for left, right in pairwise(boxes):
            assert left.x1 <= right.x0 + 1
    inches = figure.get_figwidth()
    smallest = min(label.get_fontsize() for label in (*labels, *below))
    assert smallest >= 8
    assert smallest / inches > 0.55  # on a slide of the width of 13 inches, 7 points


def test_texts_in_cells_stay_in_their_cells():
    counts = counts_of(14) * 1000
    figure = confusion_figure(counts, CHINESE + [f"c{i}" for i in range(5)])
    with lettering():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    axes = figure.axes[0]
    side = abs(axes.transData.transform((1, 0))[0] - axes.transData.transform((0, 0))[0])
    cells = [text for text in axes.texts if re.fullmatch(r"[\d.<]+", text.get_text())]
    assert max(text.get_window_extent(canvas.get_renderer()).width for text in cells) <= side


def test_hostile_names_are_drawn_as_they_are():
    names = ["<script>alert(1)</script>", "$\\frac{$ and x_1", "line\nbreak\ttab", "\x07bell", "", "{{"]
    found = " ".join(" ".join(texts(confusion_figure(counts_of(6), names))).split())
    assert "$\\frac{$ and x_1" in found
    assert "line break tab" in found
    assert "\x07" not in found
    assert png(confusion_figure(counts_of(6), names, title="$\\frac{$", subtitle="$_"), dpi=40)


def test_names_and_matrix_must_fit():
    with pytest.raises(ValueError, match="3 names"):
        confusion_figure(np.zeros((2, 2), int), ["a", "b", "c"])


def test_chinese_is_in_the_bundled_font():
    assert missing_glyphs("".join(CHINESE) + "，。（）：ABC éß–") == ""
    everything = b"".join(bytes([high, low]) for high in range(0xB0, 0xF8) for low in range(0xA1, 0xFF))
    assert missing_glyphs(everything.decode("gb2312", errors="ignore")) == ""


def test_bundled_font_is_a_true_type_font_of_moderate_size():
    with lettering():
        path = findfont(FontProperties(family=[FAMILIES[1]]), fallback_to_default=False)
    assert path.endswith("NotoSansSC-Subset.ttf")
    with open(path, "rb") as file:
        content = file.read()
    assert content[:4] == b"\0\1\0\0"
    assert len(content) < 4e6


def test_chinese_leaves_ink_and_not_the_box_of_a_missing_glyph():
    def ink(text):
        figure = Figure(figsize=(1, 1))
        with lettering():
            figure.text(0.3, 0.3, text, size=40)
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
        return np.asarray(canvas.buffer_rgba()).tobytes()

    missing = ink("\U0001f999")
    assert ink("\U0001f9a5") == missing  # two missing glyphs look the same
    assert len({ink("居"), ink("学"), ink("火"), missing}) == 4


def test_a_missing_glyph_warns_by_name():
    with pytest.warns(UserWarning, match=r"'lama \U0001f999'.*empty boxes") as caught:
        png(confusion_figure(counts_of(2), ["居住区", "lama \U0001f999"]), dpi=40)
    assert len(caught) == 1


def test_chinese_gives_no_warning_and_no_log(caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png(confusion_figure(counts_of(9), CHINESE, title="图像", subtitle="测试集"), dpi=40)
    assert caplog.text == ""


def test_png_is_an_image_without_clipped_edges():
    image = Image.open(BytesIO(png(confusion_figure(counts_of(12), LONG), dpi=60))).convert("L")
    pixels = np.asarray(image)
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert edge.min() > 250


def pdf_of(figure):
    file = BytesIO()
    save(figure, file, "pdf")
    return file.getvalue()


def test_pdf_embeds_true_type_fonts():
    content = pdf_of(confusion_figure(counts_of(9), CHINESE))
    assert content.startswith(b"%PDF")
    assert b"/CIDFontType2" in content or b"/TrueType" in content
    assert b"/Type3" not in content
    assert b"NotoSansSCSubset" in content
    streams = re.findall(rb"stream\r?\n(.*?)endstream", content, re.S)
    shown = b"".join(zlib.decompressobj().decompress(part) for part in streams if part[:1] == b"x")
    assert b"BT" in shown  # text is text, not outlines


def test_same_figure_same_bytes():
    figures = [confusion_figure(counts_of(3), ["a", "b", "c"]) for _ in range(2)]
    assert pdf_of(figures[0]) == pdf_of(figures[1])
    assert png(figures[0], dpi=40) == png(figures[1], dpi=40)


def test_global_settings_are_left_alone():
    before = dict(mpl.rcParams)
    png(confusion_figure(counts_of(3), ["a", "b", "c"]), dpi=40)
    assert dict(mpl.rcParams) == before


def history(epochs):
    return [
        {"epoch": e, "train/loss": 2 / e, "val/loss": 2 / e + 0.01 * e, "val/oa": 1 - 1 / (e + 1)}
        for e in range(1, epochs + 1)
    ]


@pytest.mark.parametrize("folds", [1, 5])
def test_learning_curves_show_every_model_and_its_chosen_epoch(folds):
    figure = learning_curves([Curve(history(12), 3 + fold) for fold in range(folds)])
    loss, accuracy = figure.axes
    rings = [line.get_xdata()[0] for line in accuracy.lines if line.get_marker() == "o"]
    assert rings == [3 + fold for fold in range(folds)]
    lines = [line for line in loss.lines if len(line.get_xdata()) == 12]
    assert len(lines) == 2 * folds
    np.testing.assert_allclose(lines[0].get_ydata(), [2 / e for e in range(1, 13)])
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["train", "val", "chosen epoch"]
    assert png(figure, dpi=40)


def test_learning_curve_of_one_epoch_is_visible():
    figure = learning_curves([Curve(history(1), 1)])
    assert figure.axes[0].lines[0].get_marker() == "."


def test_learning_curves_show_the_figure_asked_for():
    rows = [row | {"val/rmse": 30 - row["epoch"]} for row in history(5)]
    figure = learning_curves([Curve(rows, 2)], figure="rmse", label="RMSE")
    _, right = figure.axes
    assert right.get_ylabel() == "RMSE (val)"
    np.testing.assert_array_equal(right.lines[0].get_ydata(), [29, 28, 27, 26, 25])
    assert (right.lines[1].get_xdata()[0], right.lines[1].get_ydata()[0]) == (2, 28)


def terms_of(epochs):
    """A term of constant weight, one of growing weight, and one that begins at the third epoch."""
    rows = []
    for e in range(1, epochs + 1):
        row = {"epoch": e, "train/loss": 3 / e}
        given = {"cross_entropy": (1 / e, 1.0), "triplet": (2 / e, e / 10)} | ({"late_$_{": (5, 0.5)} if e > 2 else {})
        for name, (value, weight) in given.items():
            row |= {f"train/{name}": value, f"weight/{name}": weight, f"weighted/{name}": value * weight}
        rows.append(row)
    return rows


@pytest.mark.parametrize("folds", [1, 3])
def test_term_curves_show_terms_before_and_after_weighting(folds):
    figure = term_curves([Curve(terms_of(6), 3)] * folds, title="terms")
    panels = {axes.get_title("left"): axes for axes in figure.axes if axes.get_title("left")}
    assert list(panels) == ["cross_entropy, weight 1", "triplet", "late_$_{, weight 0.5"]
    triplet = [line.get_ydata() for line in panels["triplet"].lines]
    assert len(triplet) == 2 * folds
    np.testing.assert_allclose(triplet[0], [2 / e for e in range(1, 7)])
    np.testing.assert_allclose(triplet[-1], [0.2] * 6)
    np.testing.assert_array_equal(panels["late_$_{, weight 0.5"].lines[0].get_xdata(), [3, 4, 5, 6])
    (beside,) = [axes for axes in figure.axes if not axes.get_title("left")]  # the only weight that changes
    np.testing.assert_allclose(beside.lines[0].get_ydata(), [e / 10 for e in range(1, 7)])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["before weighting", "after weighting", "weight"]
    assert png(figure, dpi=40)


def test_term_curves_of_one_epoch_are_visible_and_need_a_term():
    figure = term_curves([Curve(terms_of(1), 1)])
    assert {line.get_marker() for axes in figure.axes for line in axes.lines} == {"."}
    with pytest.raises(ValueError, match="no row has a term"):
        term_curves([Curve(history(2), 1)])


@pytest.mark.parametrize(
    ("text", "width", "lines", "expected"),
    [
        ("industrial park", 20, 2, "industrial park"),
        ("industrial park", 7, 2, "industrial\npark"),
        ("industrial park", 3, 2, "indus\ntria…"),
        ("工业园区", 3, 2, "工业园\n区"),
        ("工业园区", 2.5, 1, "工…"),
        ("one two three four", 5, 2, "one two\nthree…"),
        ("", 5, 2, ""),
    ],
)
def test_wrap(text, width, lines, expected):
    assert wrap(text, width, lines) == expected


def test_wrap_whole_breaks_no_word():
    assert wrap_whole("industrial park", 7, 2) == "industrial\npark"
    assert wrap_whole("industrial park", 4, 2) is None
    assert wrap_whole("one two three four", 5, 2) is None
    assert wrap_whole("工业园区", 3, 2) == "工业园\n区"


def test_printable():
    assert printable(" a\nb\t\x00c\u202e ") == "a b c"
