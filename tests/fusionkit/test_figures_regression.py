"""Predictions against the reference: the points, the lines, the figures told, outliers and very many points."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from sklearn.linear_model import LinearRegression

from fusionkit.figures import png
from fusionkit.figures_regression import predicted_against_true
from fusionkit.lettering import lettering


def noisy(n, quantities=1, seed=0):
    random = np.random.default_rng(seed)
    target = np.exp(random.normal(4, 0.5, (n, quantities)))
    return target, 0.8 * target + 20 + random.normal(0, 15, target.shape)


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def told(axes):
    return axes.texts[0].get_text().split("\n")


def test_figures_are_told_in_their_unit():
    figure = predicted_against_true(
        np.array([[1.0], [2.0], [3.0], [6.0]]), np.array([[1.0], [4.0], [3.0], [2.0]]), ["biomass"], units=["t/ha"]
    )
    assert told(figure.axes[0]) == ["RMSE 2.236 t/ha", "MAE 1.5 t/ha", "R² -0.4286", "bias -0.5 t/ha", "n 4"]
    assert figure.axes[0].get_xlabel() == "reference (t/ha)"
    assert figure.axes[0].get_ylabel() == "prediction (t/ha)"


def test_reference_lies_across_and_both_axes_are_alike():
    target, prediction = noisy(50)
    upper, lower = predicted_against_true(target, prediction, ["biomass"]).axes
    assert upper.get_xlim() == upper.get_ylim()
    assert upper.get_aspect() == 1
    points, one_to_one = upper.lines[0], lines(upper)["1:1"]
    np.testing.assert_array_equal(points.get_xdata(), target[:, 0])
    np.testing.assert_array_equal(points.get_ydata(), prediction[:, 0])
    np.testing.assert_array_equal(one_to_one.get_xdata(), one_to_one.get_ydata())
    assert sum(bar.get_height() for bar in lower.patches) == 50


def test_least_squares_line_is_that_of_sklearn():
    target, prediction = noisy(50)
    upper, _ = predicted_against_true(target, prediction, ["biomass"]).axes
    line = lines(upper)["least squares"]
    ends = np.asarray(line.get_xdata())[:, np.newaxis]
    expected = LinearRegression().fit(target, prediction).predict(ends)
    np.testing.assert_allclose(line.get_ydata(), expected[:, 0])


def test_outliers_stand_at_the_edge_and_are_counted():
    target, prediction = noisy(50)
    prediction[3], prediction[5] = 9000, -4000
    upper, lower = predicted_against_true(target, prediction, ["biomass"]).axes
    assert len(upper.lines[0].get_xdata()) == 48
    outside = lines(upper)["2 farther out"]
    low, high = upper.get_ylim()
    assert high < 400
    assert all(low < y < high for y in outside.get_ydata())
    assert sum(bar.get_height() for bar in lower.patches) == 50
    assert "farther out" not in " ".join(lines(predicted_against_true(*noisy(50), ["biomass"]).axes[0]))


def test_outliers_on_one_side_leave_no_void_on_the_other():
    target, prediction = noisy(5000)
    prediction[3] = -9000
    upper, _ = predicted_against_true(target, prediction, ["biomass"]).axes
    assert upper.get_xlim()[0] > -100


def test_very_many_points_are_counted_in_hexagons():
    figure = predicted_against_true(*noisy(20_000), ["biomass"])
    (hexagons,) = figure.axes[0].collections
    assert 19_900 < np.sum(hexagons.get_array()) <= 20_000
    assert png(figure, dpi=40)


def test_a_panel_a_quantity():
    names = ["地上生物量", "height of the canopy above the ground", "$_{", "d"]
    target, prediction = noisy(60, 4)
    figure = predicted_against_true(target, prediction, names, units=["吨/公顷", "m", "$", ""], title="t", subtitle="s")
    uppers = figure.axes[::2]
    titles = [axes.get_title("left").replace("\n", " ") for axes in uppers]
    assert titles == names
    for k, axes in enumerate(uppers):
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), prediction[:, k])
    with lettering():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    boxes = [axes.get_tightbbox(canvas.get_renderer()) for axes in uppers[1:]]
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[k + 1 :])
    assert png(figure, dpi=40)


@pytest.mark.parametrize("n", [1, 20])
def test_a_constant_target_has_no_line_and_no_r2(n):
    figure = predicted_against_true(np.full((n, 1), 3.0), np.full((n, 1), 3.0), ["biomass"])
    assert "least squares" not in lines(figure.axes[0])
    assert "R² –" in told(figure.axes[0])
    assert png(figure, dpi=40)


@pytest.mark.parametrize(
    ("shape", "names", "units", "message"),
    [
        ((5, 2), 3, 0, "3 names"),
        ((5, 2), 1, 0, "1 names"),
        ((5, 2), 2, 1, "1 units"),
        ((5,), 1, 0, r"of \(5,\) and"),
        ((0, 1), 1, 0, "no samples"),
        ((5, 0), 0, 0, "0 names"),
    ],
)
def test_names_units_and_values_must_fit(shape, names, units, message):
    with pytest.raises(ValueError, match=message):
        predicted_against_true(np.zeros(shape), np.zeros(shape), ["a"] * names, units=["m"] * units)


def test_shapes_of_target_and_prediction_must_agree():
    with pytest.raises(ValueError, match=r"\(5, 2\) and \(5, 1\)"):
        predicted_against_true(np.zeros((5, 2)), np.zeros((5, 1)), ["a", "b"])
