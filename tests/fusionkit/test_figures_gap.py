"""The figure of the modality gap shows what scikit-learn's components are."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from fusionkit.figures_gap import gap_figure


def answers(n: int = 30) -> np.ndarray:
    random = np.random.default_rng(0)
    first = random.normal(size=(n, 5)) + np.eye(5)[0] * 2
    second = random.normal(size=(n, 5)) * 3 + np.eye(5)[1]
    return np.concatenate([first, second], axis=1)


def test_points_are_the_principal_components() -> None:
    held = answers()
    held[3, :5] = 0  # absent
    figure = gap_figure(held, ("image", "文本 $x$"))
    assert figure is not None
    axes = figure.axes[0]
    units = held[np.arange(30) != 3].reshape(29, 2, 5)
    units = units / np.linalg.norm(units, axis=2, keepdims=True)
    fitted = PCA(2).fit(units.reshape(-1, 5))
    named = {line.get_label(): np.stack(line.get_data(), 1) for line in axes.lines}
    expected = fitted.transform(units.reshape(-1, 5)).reshape(29, 2, 2)
    for k, name in enumerate(("image", "文本 $x$")):
        np.testing.assert_allclose(np.abs(named[name]), np.abs(expected[:, k]), atol=1e-9)
    gap = np.linalg.norm(units[:, 0].mean(0) - units[:, 1].mean(0))
    centres = named[f"centres, {gap:.2f} apart"]
    np.testing.assert_allclose(np.abs(centres), np.abs(expected.mean(0)), atol=1e-9)
    assert f"{100 * fitted.explained_variance_ratio_[0]:.1f} % of the variance" in axes.get_xlabel()
    joined = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linewidth() < 1]
    assert len(joined) == 29


def test_many_samples_are_drawn_from() -> None:
    figure = gap_figure(answers(2000), ("a", "b"))
    assert figure is not None
    assert {len(line.get_xdata()) for line in figure.axes[0].lines} == {2, 1000}
    assert any("1,000 of 2,000 samples" in text.get_text() for text in figure.axes[0].texts)


@pytest.mark.parametrize("held", [np.zeros((5, 8)), np.ones((5, 2)), np.ones((1, 8))])
def test_what_cannot_be_drawn(held: np.ndarray) -> None:
    assert gap_figure(held, ("a", "b")) is None


def test_embeddings_all_the_same() -> None:
    assert gap_figure(np.ones((9, 8)), ("a", "b")) is not None
