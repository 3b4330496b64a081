"""Very many classes: the most frequent are drawn, with their PA, in a figure of readable size."""

import numpy as np
import pytest

from fusionkit.figures import png
from fusionkit.figures_classes import SHOWN, frequent_classes


def test_the_most_frequent_classes_and_how_often_they_are_found():
    counts = np.zeros((3000, 3000), int)
    counts[7, 7], counts[7, 8] = 30, 10
    counts[9, 3] = 20
    figure = frequent_classes(counts, [f"answer {k}" for k in range(3000)], title="vqa")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["answer 7", "answer 9"]
    assert [bar.get_width() for bar in axes.patches] == [0.75, 0]
    assert [text.get_text() for text in axes.texts][:2] == ["75.0 %   40", "0.0 %   20"]
    assert png(figure).startswith(b"\x89PNG")


def test_no_more_than_can_be_read():
    figure = frequent_classes(np.ones((500, 500), int), ["名 $x_1$"] * 500)
    assert len(figure.axes[0].patches) == SHOWN
    assert figure.get_size_inches().max() < 12


def test_names_are_as_many_as_classes():
    with pytest.raises(ValueError, match="2 names"):
        frequent_classes(np.ones((3, 3)), ["a", "b"])
