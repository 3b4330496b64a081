"""Makes data up: `python make_data.py FOLDER` writes images of two sensors over 120 places of four classes.

The optical image is bright on its left or on its right, the radar image at its top or at its bottom; the class says
which, so neither of them is enough.
"""

import sys
from pathlib import Path

import numpy as np

PLACES, SIDE = 120, 8


def main(folder: Path) -> None:
    random = np.random.default_rng(0)
    label = np.arange(PLACES) % 4
    optical = random.normal(size=(PLACES, 3, SIDE, SIDE)).astype(np.float32)
    radar = random.normal(size=(PLACES, 2, SIDE, SIDE)).astype(np.float32)
    half = np.arange(SIDE) < SIDE // 2
    optical += 1.5 * (half[None] == (label % 2 == 0)[:, None])[:, None, None, :]
    radar += 1.5 * (half[None] == (label < 2)[:, None])[:, None, :, None]
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "places.npz", optical=optical, radar=radar, label=label)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
