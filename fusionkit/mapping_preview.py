"""The picture of a map: its classes in colour, with a legend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fusionkit.drawing import INK, PALE, heading, percent
from fusionkit.figures import png
from fusionkit.lettering import lettering, warn_of_missing_glyphs, wrap
from fusionkit.mapping_files import colours, nodata_of

_SIDE, _DPI = 7.0, 160
"""The longer side of the map in inches."""
_WIDE = 22
"""Letters of a line of the legend."""


def preview(
    path: Path,
    names: Sequence[str],
    counts: np.ndarray,
    *,
    title: str,
    subtitle: str = "",
    rings: Sequence[np.ndarray] = (),
) -> bytes:
    """A PNG of a map of classes, as large as a page at most; every so manieth pixel of a larger map.

    Args:
        path: the map.
        names: of the classes.
        counts: pixels of each; the legend tells their shares, and leaves out what is nowhere.
        title, subtitle: above the map.
        rings: outlines to draw, columns and rows `[n, 2]` of each.
    """
    warn_of_missing_glyphs(names)
    with rasterio.open(path) as file:
        step = max(1.0, max(file.height, file.width) / (_SIDE * _DPI))
        shape = max(1, round(file.height / step)), max(1, round(file.width / step))
        classes = file.read(1, out_shape=shape)
        height_of, width_of = file.shape
    table = np.array([*colours(len(names)), tuple(int(PALE[i : i + 2], 16) for i in (1, 3, 5))], dtype=np.uint8)
    _, nodata = nodata_of(len(names))
    picture = table[np.where(classes == nodata, len(names), classes)]
    inches = _SIDE * np.array(shape) / max(shape)
    there = [k for k in np.argsort(-counts).tolist() if counts[k]]
    with lettering():
        figure = Figure(figsize=(inches[1] + 4, max(inches[0], 0.3 * len(there)) + 1.2))
        width, height = figure.get_size_inches()
        axes = figure.add_axes((0.2 / width, 1 - (inches[0] + 1) / height, inches[1] / width, inches[0] / height))
        axes.imshow(picture, interpolation="nearest", extent=(0, width_of, height_of, 0))
        axes.add_collection(LineCollection(list(rings), colors="white", linewidths=0.8), autolim=False)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        keys = [
            Patch(color=table[k] / 255, label=f"{wrap(names[k], _WIDE, 2)}  {percent(counts[k] / counts.sum())} %")
            for k in there
        ]
        if len(there) < len(names) or (classes == nodata).any():
            keys.append(Patch(facecolor=PALE, edgecolor="#c3cbd3", label="no answer"))
        legend = axes.legend(handles=keys, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, labelcolor=INK)
        for text in legend.get_texts():
            text.set_parse_math(False)
        heading(axes, title, subtitle, "shares are of the pixels with an answer")
    return png(figure, _DPI)
