"""Figure of the modality gap: where the embeddings of two modalities lie."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from fusionkit.drawing import BLUE, INK, ORANGE, PALE, SOFT, heading, percent, plain
from fusionkit.embedding_figures import alignment, gap
from fusionkit.lettering import lettering, printable
from fusionkit.randomness import generator

MOST, JOINED = 1000, 60
"""So many samples are drawn at most, and so many of them with a line between what belongs together."""


def gap_figure(
    answers: np.ndarray, modalities: tuple[str, str], *, title: str = "Modality gap", subtitle: str = "", seed: int = 0
) -> Figure | None:
    """The embeddings, at length one, in the plane of the first two principal components of both modalities together.

    Args:
        answers: `[n, 2 E]` the embeddings of the two modalities side by side; zeros where one is absent.
        modalities: the names of the first and the second.
        title, subtitle: above.
        seed: of the choice, where there are more than `MOST` samples.

    Returns:
        the figure; None of fewer than two samples that have both modalities, or of a single number each.
    """
    pair = np.asarray(answers, np.float64).reshape(len(answers), 2, -1)
    lengths = np.linalg.norm(pair, axis=2, keepdims=True)
    pair = (pair / np.where(lengths > 0, lengths, 1))[(lengths > 0).all((1, 2))]
    if len(pair) < 2 or pair.shape[2] < 2:
        return None
    told = [measure(*torch.from_numpy(pair).unbind(1)) for measure in (gap, alignment)]
    centre = pair.mean((0, 1))
    _, spread, axes_of = np.linalg.svd((pair - centre).reshape(-1, pair.shape[2]), full_matrices=False)
    shares = np.square(spread) / max(np.square(spread).sum(), np.finfo(float).tiny)
    drawn = np.sort(generator(seed, "gap").permutation(len(pair))[:MOST])
    flat = (pair - centre) @ axes_of[:2].T
    centres = flat.mean(0)
    with lettering():
        figure = Figure(figsize=(6.2, 5.6))
        axes = figure.add_subplot()
        for sample in flat[drawn[:: max(1, len(drawn) // JOINED)]]:
            axes.plot(*sample.T, color=SOFT, lw=0.5, alpha=0.5, zorder=1)
        for k, (name, colour) in enumerate(zip(modalities, (BLUE, ORANGE), strict=True)):
            axes.plot(*flat[drawn, k].T, "o", ms=4, mec="none", color=colour, alpha=0.5, label=printable(name))
        axes.plot(
            *centres.T, color=INK, lw=2, marker="D", ms=8, mec="white", zorder=5, label=f"centres, {told[0]:.2f} apart"
        )
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(
            xlabel=f"first principal component, {percent(float(shares[0]))} % of the variance",
            ylabel=f"second, {percent(float(shares[1]))} %",
        )
        plain(axes)
        axes.grid(visible=True, color=PALE)
        legend = axes.legend(loc="best", labelcolor=INK, fontsize=10, framealpha=0.75, edgecolor="none")
        for text in legend.get_texts():
            text.set_parse_math(False)
        few = f"{len(drawn):,} of {len(pair):,} samples" if len(drawn) < len(pair) else f"{len(pair):,} samples"
        note = f"{few}; lines join what belongs together (mean squared distance {told[1]:.2f})"
        heading(axes, title, subtitle, note)
    return figure
