"""What figures share: percentages that do not lie, and shares of rows."""

import numpy as np
import pytest

from fusionkit.drawing import percent, row_shares


@pytest.mark.parametrize(
    ("share", "fine", "whole"),
    [(0, "0.0", "0"), (1, "100", "100"), (0.8734, "87.3", "87"), (0.0001, "<0.1", "<1"), (0.0049, "0.5", "<1")],
)
def test_percent(share, fine, whole):
    assert (percent(share), percent(share, whole=True)) == (fine, whole)


def test_row_shares_of_matrices_with_an_empty_row():
    found = row_shares(np.array([[[1, 3], [0, 0]], [[2, 0], [1, 1]]]))
    np.testing.assert_array_equal(found, [[[0.25, 0.75], [0, 0]], [[1, 0], [0.5, 0.5]]])
