"""Makes data up: `python make_data.py FOLDER` writes vectors of two sensors, some with a wrong label.

Of four classes, each sensor tells two pairs apart. A third of the labels of training and validation are wrong, none of
the test.
"""

import sys
from pathlib import Path

import numpy as np

SAMPLES = 160


def main(folder: Path) -> None:
    random = np.random.default_rng(0)
    label = random.integers(0, 4, SAMPLES)
    near, far = (random.normal(size=(SAMPLES, 3)).astype(np.float32) for _ in range(2))
    near[:, 0] += 3 * (label % 2)
    far[:, 0] += 3 * (label // 2)
    part = np.array(["train", "val", "test", "train"])[np.arange(SAMPLES) % 4]
    wrong = (random.random(SAMPLES) < 1 / 3) & (part != "test")
    label = np.where(wrong, random.integers(0, 4, SAMPLES), label)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "sensors.npz", near=near, far=far, label=label, part=part)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
