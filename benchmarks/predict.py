"""Peak memory and windows a second of a map of a large scene, on one core.

    python benchmarks/predict.py                 # 20,000 x 20,000 pixels, three bands: some minutes
    python benchmarks/predict.py --side 4000     # smaller scenes

A scene of fields is made up, a tiled and compressed GeoTIFF, and a small run is trained on a corner of it: windows of
100 pixels, an `mlp`. The whole is then mapped, windows half overlapping, in a process of its own, whose peak memory
(resident set) is that of Python, torch, GDAL's cache and the map together. How much of the map is right is told as
well: fields are far larger than windows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

BANDS, CLASSES, WINDOW, FIELD, TRAINED = 3, 4, 100, 500, 4000
"""`FIELD`: pixels of a side of a field; `TRAINED`: of the corner that the run is trained on."""
GOAL = 3.0


def classes_of(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The class of the field that each pixel is in, `[rows, columns]`."""
    row, column = np.meshgrid(rows // FIELD, columns // FIELD, indexing="ij")
    return (row * 7 + column * 3 + row * column) % CLASSES


def make_up(path: Path, side: int) -> None:
    """Write the scene, strip by strip: each class has a colour, and every pixel some noise."""
    random = np.random.default_rng(0)
    colours = random.integers(60, 190, (CLASSES, BANDS))
    profile = {"driver": "GTiff", "dtype": "uint8", "count": BANDS, "height": side, "width": side, "compress": "lzw"}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "bigtiff": "IF_SAFER"}
    place = {"crs": "EPSG:32617", "transform": from_origin(400_000, 4_000_000, 1, 1)}
    with rasterio.open(path, "w", **profile, **tiles, **place) as file:
        for top in range(0, side, 256):
            rows = np.arange(top, min(top + 256, side))
            noise = random.integers(0, 4, (BANDS, len(rows), side), dtype=np.uint8) * np.uint8(16)
            values = colours[classes_of(rows, np.arange(side))].transpose(2, 0, 1).astype(np.uint8) + noise
            file.write(values, window=((top, top + len(rows)), (0, side)))


def train(folder: Path, side: int) -> Path:
    """A run on points within the corner; the folder that it leaves."""
    from fusionkit import run

    random = np.random.default_rng(1)
    points = random.integers(WINDOW, min(side, TRAINED) - WINDOW, (400, 2))
    labels = [classes_of(*point[:, None])[0, 0] for point in points]
    rows = [f"{400_000.5 + x},{3_999_999.5 - y},class {k}" for (y, x), k in zip(points.tolist(), labels, strict=True)]
    (folder / "points.csv").write_text("\n".join(["x,y,label", *rows]) + "\n")
    recipe = {
        "name": "benchmark",
        "data": {
            "source": "rasters",
            "root": str(folder),
            "inputs": {"image": "scene.tif"},
            "labels": {"file": "points.csv", "crs": "EPSG:32617"},
            "window": {"pixels": WINDOW, "of": "image"},
            "split": {"test": 0.2, "val": 0.2},
        },
        "modalities": {"image": {"encoder": {"name": "mlp", "width": 64}}},
        "fusion": "concat",
        "loss": "cross_entropy",
        "train": {"epochs": 5, "lr": 3e-3},
        "baselines": False,
    }
    return run(recipe, runs=folder / "runs").path


def predict(run: Path, folder: Path) -> None:
    """Map the scene and print what it took, as JSON."""
    from fusionkit.mapping import map_scene
    from fusionkit.saved import SavedRun

    start = time.perf_counter()
    done = map_scene(SavedRun.load(run), {"image": folder / "scene.tif"}, folder / "map.tif")
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in kB
    print(json.dumps({"windows": done.windows, "seconds": seconds, "gigabytes": peak}))


def right(path: Path) -> float:
    """The share of the map that is of the field's class; classes are numbered alike."""
    hits = total = 0
    with rasterio.open(path) as file:
        for top in range(0, file.height, 1024):
            rows = np.arange(top, min(top + 1024, file.height))
            seen = file.read(1, window=((top, top + len(rows)), (0, file.width)))
            hits += int((seen == classes_of(rows, np.arange(file.width))).sum())
            total += seen.size
    return hits / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=20_000, help="pixels of the scene, square")
    parser.add_argument("--predict", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.predict:
        predict(*arguments.predict)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_up(folder / "scene.tif", arguments.side)
        run = train(folder, arguments.side)
        command = [sys.executable, __file__, "--predict", str(run), str(folder)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        told = json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)
        share, size = right(folder / "map.tif"), (folder / "scene.tif").stat().st_size / 2**20
    print("| scene | MB on disk | windows | seconds | windows a second | peak GB | goal | right |")
    print("|---|---|---|---|---|---|---|---|")
    side = f"{arguments.side:,} x {arguments.side:,} x {BANDS}"
    print(
        f"| {side} | {size:,.0f} | {told['windows']:,} | {told['seconds']:.0f} | "
        f"{told['windows'] / told['seconds']:.0f} | {told['gigabytes']:.2f} | below {GOAL:g} | {share:.1%} |"
    )


if __name__ == "__main__":
    main()
