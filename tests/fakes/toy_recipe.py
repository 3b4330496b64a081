"""A recipe of two made-up modalities, and its data: what tests of the command line and of grids train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

RECIPE = """\
data:
  source: arrays
  inputs: {{near: "toy.npz:near", far: "toy.npz:far"}}
  labels: "toy.npz:label"
  split: {{test: 0.25, val: 0.25}}
  batch_size: {batch_size}
modalities: {{near: mlp, far: mlp}}
fusion: {{name: concat, dim: 8}}
train: {{epochs: {epochs}}}
"""


def write_toy(
    folder: Path, *, samples: int = 80, apart: float = 4, shift: float = 0, batch_size: int = 16, epochs: int = 1
) -> None:
    """Write `toy.yaml` and `toy.npz`: of four classes each modality alone tells two pairs apart.

    Args:
        samples: of which half are for training.
        apart: between the means of the pairs, in standard deviations.
        shift: is added to all values.
        batch_size, epochs: of the recipe.
    """
    random = np.random.default_rng(0)
    label = np.arange(samples) % 4
    near, far = (random.normal(size=(samples, 3)).astype(np.float32) + np.float32(shift) for _ in range(2))
    near[:, 0] += apart * (label % 2)
    far[:, 0] += apart * (label // 2)
    np.savez(folder / "toy.npz", near=near, far=far, label=label)
    (folder / "toy.yaml").write_text(RECIPE.format(batch_size=batch_size, epochs=epochs), encoding="utf-8")
