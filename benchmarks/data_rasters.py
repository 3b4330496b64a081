"""Patches a second from rasters of three sensors, ours against TorchGeo's, measured in one run.

    pip install torchgeo                     # beside fusionkit, in an environment for this benchmark
    python benchmarks/data_rasters.py        # under a minute on one core

Three tiled float32 GeoTIFFs of one area are made up: 4 bands at 10 m, 6 at 20 m, 2 at 40 m. TorchGeo draws random
windows with `RandomGeoSampler` from the intersection of three `RasterDataset`s, which brings all sensors to the first
one's resolution, bilinearly. `rasters` reads windows of the same draw twice: warped to that same grid (50 windows are
compared first, number by number), and each sensor at its own resolution, as it does by default, which is fewer numbers.
The three take turns, each with windows of its own, in one process without workers; a ratio is that of the medians of
the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from fusionkit_datasets.rasters import Rasters
from rasterio.transform import from_origin

from fusionkit.options import options_model

SENSORS = {"optical": (10, 4), "swir": (20, 6), "sar": (40, 2)}
"""Pixel size in metres and bands."""
LEFT, TOP, PIXELS, TILE = 400_000, 4_000_000, 64, 256
GOAL = 3.0

Read = Callable[[int], Any]


def make_up(folder: Path, side: int, compress: str) -> None:
    """Write the GeoTIFFs: `side` pixels of the first sensor square."""
    random = np.random.default_rng(0)
    for name, (pixel, bands) in SENSORS.items():
        size = side * 10 // pixel
        profile = {"driver": "GTiff", "dtype": "float32", "count": bands, "height": size, "width": size}
        tiles = {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "compress": compress}
        place = {"crs": "EPSG:32617", "transform": from_origin(LEFT, TOP, pixel, pixel)}
        with rasterio.open(folder / f"{name}.tif", "w", **profile, **tiles, **place) as file:
            for band in range(1, bands + 1):
                file.write(random.random((size, size), dtype=np.float32), band)


def torchgeo_reader(folder: Path, count: int) -> tuple[Read, np.ndarray]:
    """TorchGeo's way to the windows of a random draw, and their middles `[n, 2]`."""
    import torch
    from torchgeo.datasets import RasterDataset
    from torchgeo.samplers import RandomGeoSampler

    first, *others = (RasterDataset(folder / f"{name}.tif") for name in SENSORS)
    dataset: Any = first
    for other in others:
        dataset = dataset & other
    torch.manual_seed(0)
    windows = list(RandomGeoSampler(dataset, size=PIXELS, length=count, generator=torch.Generator().manual_seed(0)))
    middles = [((x.start + x.stop) / 2, (y.start + y.stop) / 2) for x, y, *_ in windows]
    return lambda i: dataset[windows[i]], np.array(middles)


def our_reader(folder: Path, **more: Any) -> Read:
    """Ours; the windows' middles are in windows.csv."""
    options = {
        "root": str(folder),
        "inputs": {name: f"{name}.tif" for name in SENSORS},
        "labels": {"file": "windows.csv", "crs": "EPSG:32617"},
        "window": {"pixels": PIXELS, "of": next(iter(SENSORS))},
    }
    data = Rasters(**dict(options_model(Rasters).model_validate_json(json.dumps(options | more))))
    data.index()
    return data.read


def compare(ours: Read, theirs: Read, count: int) -> None:
    """Raise where the two disagree about a window."""
    for i in range(count):
        mine = np.concatenate([np.asarray(value) for value in ours(i).values()])
        if not np.array_equal(mine, theirs(i)["image"].numpy()):
            raise SystemExit(f"window {i} differs")


def rates(readers: dict[str, Read], count: int, rounds: int) -> dict[str, list[float]]:
    """Windows a second of each reader, round by round; no two read the same windows."""
    found: dict[str, list[float]] = {name: [] for name in readers}
    each = count // (rounds * len(readers))
    position = 0
    for _ in range(rounds):
        for name, read in readers.items():
            start = time.perf_counter()
            for i in range(position, position + each):
                read(i)
            found[name].append(each / (time.perf_counter() - start))
            position += each
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=4096, help="pixels of the 10 m sensor, square")
    parser.add_argument("--windows", type=int, default=4500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compress", default="none", choices=["none", "deflate", "lzw"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_up(folder, arguments.side, arguments.compress)
        try:
            theirs, middles = torchgeo_reader(folder, arguments.windows)
        except ImportError as error:
            raise SystemExit(f"TorchGeo is absent ({error}); install it beside fusionkit to compare") from None
        rows = "\n".join(f"{x!r},{y!r},{i % 2}" for i, (x, y) in enumerate(middles.tolist()))
        (folder / "windows.csv").write_text(f"x,y,label\n{rows}\n")
        same_grid = our_reader(folder, grid={"resolution": 10, "resampling": "bilinear"})
        own_grids = our_reader(folder)
        compare(same_grid, theirs, 50)
        found = rates(
            {"TorchGeo": theirs, "same grid": same_grid, "own grids": own_grids}, len(middles), arguments.rounds
        )
    floor = statistics.median(found["TorchGeo"])
    print("| reader | patches a second | least to most | times TorchGeo | goal |\n|---|---|---|---|---|")
    for reader, values in found.items():
        rate = statistics.median(values)
        goal = "" if reader == "TorchGeo" else f"{GOAL:g}"
        print(f"| {reader} | {rate:.0f} | {min(values):.0f} to {max(values):.0f} | {rate / floor:.1f} | {goal} |")


if __name__ == "__main__":
    main()
