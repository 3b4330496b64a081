"""The figure of the fusion beside its baselines: a row a model, intervals, and values as they are read."""

import numpy as np

from fusionkit.estimates import Estimate
from fusionkit.figures import png
from fusionkit.figures_baselines import baseline_figure
from fusionkit.result import TableRow


def test_baseline_figure_has_a_row_a_model():
    metrics = {"oa": Estimate(0.6, 0.55, 0.66), "macro_f1": Estimate(0.5, None, None)}
    rows = [TableRow(name, name, metrics, 5) for name in ("image", "visits", "image + visits (concat)")]
    rows[1] = TableRow("visits", "visits", {"oa": Estimate(None), "macro_f1": Estimate(0.4, 0.3, 0.5)}, 5)
    figure = baseline_figure(rows, note="bootstrap over 9 samples")
    oa, f1 = figure.axes
    assert [label.get_text() for label in oa.get_yticklabels()] == [row.label for row in rows]
    assert [text.get_text() for text in oa.texts] == ["0.600", "0.600"]
    assert [text.get_text() for text in f1.texts] == ["0.500", "0.400", "0.500"]
    spans = [line.get_xdata() for line in oa.lines if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(spans[0], [0.55, 0.66])
    assert png(figure, dpi=40)


def test_errors_have_three_digits_and_shares_three_decimals():
    metrics = {"rmse": Estimate(23.4567, 20, 27), "r2": Estimate(-0.12345, -0.3, 0.1)}
    figure = baseline_figure([TableRow("image", "image", metrics, 5)], figures=("rmse", "r2"))
    rmse, r2 = figure.axes
    assert [text.get_text() for text in rmse.texts] == ["23.5"]
    assert [text.get_text() for text in r2.texts] == ["-0.123"]
    assert (rmse.get_xlabel(), r2.get_xlabel()) == ("RMSE", "R²")
