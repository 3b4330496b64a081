"""Figure of a regression: what it predicts against what is true."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fusionkit.drawing import BLUE, INK, ORANGE, PALE, SOFT, heading, plain
from fusionkit.lettering import bold, lettering, printable, warn_of_missing_glyphs, wrap
from fusionkit.regression import figures

_POINTS = 3000
"""Beyond so many, points are counted in hexagons."""
_SIDE, _WIDTH, _HEIGHT = 3.6, 4.8, 6.2
"""Of the square panel and of its place in the grid, in inches."""
_DENSITY = LinearSegmentedColormap.from_list("density", ["#b9d3ea", BLUE, "#0b2c4a"])


def predicted_against_true(
    target: np.ndarray,
    prediction: np.ndarray,
    names: Sequence[str],
    *,
    units: Sequence[str] = (),
    title: str = "Predicted against true",
    subtitle: str = "",
) -> Figure:
    """Predictions over the reference with the 1:1 line and the least-squares line, and the residuals below.

    Both axes are alike. Points far from all others would squeeze them: such stand at the edge, in orange, and are
    counted. A name with a character that no font has gives a warning.

    Args:
        target, prediction: `[n, K]`, a panel a quantity.
        names: of the quantities, in any script.
        units: of the quantities; an empty one is left out.
        title, subtitle: above.

    Raises:
        ValueError: as for `fusionkit.regression.figures`, or not as many names or units.
    """
    target, prediction = np.asarray(target, np.float64), np.asarray(prediction, np.float64)
    units = units or [""] * len(names)
    width = target.shape[1] if target.ndim == 2 else 0
    if target.shape != prediction.shape or not 0 < width == len(names) == len(units):
        shapes = f"target and prediction of {target.shape} and {prediction.shape}"
        raise ValueError(f"{len(names)} names and {len(units)} units for {shapes}")
    told = [figures(target[:, [k]], prediction[:, [k]]) for k in range(width)]
    warn_of_missing_glyphs([*names, *units])
    across = min(3, len(names))
    down = -(-len(names) // across)
    wide, high = across * _WIDTH, down * _HEIGHT
    with lettering():
        figure = Figure(figsize=(wide, high))  # labels may stand outside; `save` makes the page fit
        for k, name in enumerate(names):
            row, column = divmod(k, across)
            left, top = column * _WIDTH, high - row * _HEIGHT
            panels = [
                figure.add_axes((left / wide, (top - drop) / high, _SIDE / wide, tall / high))
                for drop, tall in ((_SIDE, _SIDE), (_SIDE + 1.4, 0.75))
            ]
            _scatter(panels[0], target[:, k], prediction[:, k], told[k], units[k])
            _residuals(panels[1], prediction[:, k] - target[:, k], units[k])
            if len(names) > 1:
                shown = wrap(name, 20, 2)
                panels[0].set_title(shown, loc="left", size=12, color=INK, parse_math=False, **bold(shown))
            if k == 0:
                heading(panels[0], title, subtitle, "", up=14 if len(names) > 1 else -16)
    return figure


def _scatter(axes: Axes, target: np.ndarray, prediction: np.ndarray, told: dict[str, float], unit: str) -> None:
    """The points, or hexagons of many, with the two lines and the figures."""
    low, high = _limits(np.concatenate([target, prediction]))
    outside = (np.minimum(target, prediction) < low) | (np.maximum(target, prediction) > high)
    x, y = target[~outside], prediction[~outside]
    margin = 0.03 * (high - low)
    frame = (low - margin, high + margin)
    axes.set(xlim=frame, ylim=frame, aspect="equal", xlabel=_axis("reference", unit), ylabel=_axis("prediction", unit))
    if len(x) > _POINTS:
        seen = axes.hexbin(x, y, gridsize=55, extent=(*frame, *frame), mincnt=1, norm=LogNorm(), cmap=_DENSITY, lw=0.1)
        bar = axes.figure.colorbar(seen, cax=axes.inset_axes((1.03, 0.25, 0.025, 0.5)))
        bar.set_label("samples in a hexagon", color=SOFT, size=9)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, labelcolor=SOFT, labelsize=9)
    else:
        axes.plot(x, y, "o", ms=5 if len(x) < 500 else 3.5, mec="none", color=BLUE, alpha=0.55 if len(x) < 500 else 0.3)
    if outside.any():
        edge = [np.clip(values[outside], low, high) for values in (target, prediction)]
        label = f"{outside.sum():,} farther out"
        axes.plot(*edge, "D", ms=6, mec="white", mew=0.6, color=ORANGE, clip_on=False, zorder=5, label=label)
    axes.plot(frame, frame, color=INK, lw=1.2, label="1:1")
    if np.ptp(target) > 0:
        slope, offset = np.polyfit(target - target.mean(), prediction, 1)
        line = [offset + slope * (end - target.mean()) for end in frame]
        axes.plot(frame, line, color=ORANGE, lw=1.4, ls="--", alpha=0.8, label="least squares")
    plain(axes)
    axes.grid(visible=True, color=PALE)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.legend(loc="lower right", labelcolor=INK, fontsize=9, framealpha=0.65, edgecolor="none")
    bias = float((prediction - target).mean())
    lines = [
        f"RMSE {told['rmse']:.4g}{_after(unit)}",
        f"MAE {told['mae']:.4g}{_after(unit)}",
        f"R² {'–' if np.isnan(told['r2']) else format(told['r2'], '.4g')}",
        f"bias {bias:+.3g}{_after(unit)}",
        f"n {len(target):,}",
    ]
    box = {"facecolor": "white", "alpha": 0.65, "edgecolor": "none", "pad": 3}
    axes.text(
        0.03, 0.97, "\n".join(lines), transform=axes.transAxes, va="top", color=INK, size=10, bbox=box, parse_math=False
    )


def _residuals(axes: Axes, residual: np.ndarray, unit: str) -> None:
    """A histogram around zero; what is far from all others counts in the outermost bars."""
    low, high = _limits(residual)
    reach = max(abs(low), abs(high)) or 1.0
    bins = int(np.clip(np.sqrt(len(residual)), 9, 60)) // 2 * 2 + 1  # odd: zero is in the middle of a bar
    axes.hist(np.clip(residual, -reach, reach), bins=bins, range=(-reach, reach), color=BLUE, alpha=0.75)
    axes.axvline(0, color=INK, lw=1.2)
    axes.set(xlim=(-reach, reach), xlabel=_axis("prediction − reference", unit), ylabel="samples")
    plain(axes)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(2, integer=True))


def _limits(values: np.ndarray) -> tuple[float, float]:
    """The range of the values without those far from nearly all: three times the range of the middle 90 % away."""
    low, high = np.percentile(values, [5, 95])
    reach = 3 * (high - low) or np.inf
    near = values[(values >= low - reach) & (values <= high + reach)]
    least, most = float(near.min()), float(near.max())
    return (least, most) if least < most else (least - 0.5, most + 0.5)


def _axis(name: str, unit: str) -> str:
    return f"{name} ({printable(unit)})" if unit else name


def _after(unit: str) -> str:
    return f" {printable(unit)}" if unit else ""
