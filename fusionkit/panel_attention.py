"""Where words look in an image: the attention of a finished run's fusion, sample by sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from fusionkit.contract import Tokenizer
from fusionkit.model import FusionModel
from fusionkit.samples import Sample
from fusionkit.saved import SavedRun
from fusionkit.text import restore_tokenizers

OPTION = "keep_attention"
"""The option by which fusions hand their attention out; it changes no weight."""


@dataclass(frozen=True)
class Look:
    """Where one token looks.

    Args:
        token: what it stands for.
        image: the modality it looks at.
        weights: `[h, w]`, the mean over the heads.
    """

    token: str
    image: str
    weights: Float[np.ndarray, "h w"]


class Attention:
    """The attention of a run from text, or a token that reads for it, to the cells of a map.

    Args:
        saved: the run; its fusion is asked for attention where it can be.
    """

    def __init__(self, saved: SavedRun):
        self.saved = saved
        fusion = saved.recipe.fusion
        self.model: FusionModel | None = None
        if saved.folds != (None,) or OPTION not in type(fusion.options).model_fields:
            return
        fusion.options = fusion.options.model_copy(update={OPTION: True})
        _, _, specs = saved.plan.prove()
        self.grids = {name: spec.grid for name, spec in specs.items() if spec.grid is not None}
        self.tokenizers: dict[str, Tokenizer] = restore_tokenizers(saved.recipe, saved.run.path, None)
        if self.grids and self.tokenizers:
            self.model = saved.model(None)

    def of(self, sample: Sample) -> list[Look]:
        """Every token's look at every map; empty where there is nothing to tell."""
        if self.model is None:
            return []
        batch = self.saved.batch([sample])
        with torch.inference_mode():
            attention = self.model(batch).attention
        looks = []
        for key, weights in attention.items():
            reader, _, image = key.partition("<-")
            grid = self.grids.get(image)
            if grid is None or sample.get(image) is None or weights.shape[-1] != grid[0] * grid[1]:
                continue
            held = weights[0].float().mean(0).unflatten(1, grid).numpy()
            for token, seen in zip(self._tokens(reader, sample), held, strict=False):
                looks.append(Look(token, image, seen))
        return looks

    def _tokens(self, reader: str, sample: Sample) -> list[str]:
        """What the queries stand for: words of a text that is there; nothing of other modalities."""
        if reader in self.tokenizers:
            text = sample.get(reader)
            tokenizer = self.tokenizers[reader]
            return [] if text is None else tokenizer.words(tokenizer(str(text)))
        return [] if reader in self.saved.inputs else [reader]
