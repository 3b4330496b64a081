"""How fast visit files become counts, against plain Python, and how much memory 400,000 places take.

    python benchmarks/data.py speed               # two minutes; ratios of what is measured in one run
    python benchmarks/data.py memory              # 400,000 places: 10 minutes, 18 GB in the temporary folder

`speed`: visit files of about 150 KB, made up, are read from disk and counted: by `plain`, which splits and counts as
one would write it, and by ours with NumPy alone and with numba. All cells are compared first. They take turns, each on
all files; a ratio is that of the medians of the rounds. Then two processes, warmed up, share the files.

`memory`: places with a short visit file each, all different, and tiles (hard links to a hundred) go through
`fusionkit data prepare urfc`, and then through `URFC.index` and the reading of 2,000 samples. The memory is the
proportional set size of the process and its workers together, looked at every half second.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fusionkit_datasets.urfc_make import draw_place
from fusionkit_datasets.urfc_visits import DATES, Parser, count_visits
from joblib import Parallel, delayed

FIRST_DAY = datetime.date(2018, 10, 1)
SIZE = 150_000
GOALS = {"numpy": 12, "numba": 40, "numba, two processes": 1.8}
LIMIT = 1.5e9


def plain(path: Path) -> np.ndarray:
    """Read a visit file the plain way: split, and count one by one."""
    counts = np.zeros((7, 26, 24), np.int64)
    with path.open(encoding="utf-8") as file:
        for line in file:
            _, visits = line.rstrip("\n").split("\t")
            for record in visits.split(","):
                date, hours = record.split("&")
                day = datetime.date(int(date[:4]), int(date[4:6]), int(date[6:]))
                i = (day - FIRST_DAY).days
                for hour in hours.split("|"):
                    counts[i % 7, i // 7, int(hour)] += 1
    return counts


def ours(path: Path, parser: Parser) -> np.ndarray:
    counts, bad = count_visits(path.read_bytes(), parser)
    assert not bad  # noqa: S101 - the files are clean
    return counts


def ours_all(paths: list[Path], parser: Parser) -> None:
    for path in paths:
        ours(path, parser)


def make_files(folder: Path, count: int) -> list[Path]:
    """Visit files of about 150 KB: made-up places put together."""
    number, paths = 0, []
    for i in range(count):
        data = b""
        while len(data) < SIZE:
            data += draw_place(0, "train", number).visits
            number += 1
        paths.append(folder / f"{i:06d}_001.txt")
        paths[-1].write_bytes(data)
    return paths


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def speed(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        paths = make_files(Path(name), arguments.files)
        for path in paths:
            expected = plain(path)
            for parser in ("numpy", "numba"):
                if not np.array_equal(ours(path, parser), expected):
                    raise SystemExit(f"{path}: {parser} counts otherwise")
        size = statistics.mean(path.stat().st_size for path in paths)
        print(f"{len(paths)} files of {size / 1000:.0f} KB on average, all cells equal, {arguments.rounds} rounds\n")
        found: dict[str, list[float]] = {"plain": [], "numpy": [], "numba": [], "one process": [], "two processes": []}
        for _ in range(arguments.rounds):
            found["plain"].append(seconds(lambda: [plain(path) for path in paths]) / len(paths))
            for parser in ("numpy", "numba"):
                found[parser].append(seconds(lambda parser=parser: ours_all(paths, parser)) / len(paths))
        # As much work as takes a few seconds; a share is large enough that handing it out costs nothing.
        many = paths * max(1, round(2 / (statistics.median(found["numba"]) * len(paths))))
        shares = [many[start : start + 500] for start in range(0, len(many), 500)]
        for name, processes in (("one process", 1), ("two processes", 2)) * arguments.rounds:
            with Parallel(processes, batch_size=1) as parallel:
                parallel(delayed(ours_all)(paths, "numba") for _ in range(2 * processes))
                work = (delayed(ours_all)(share, "numba") for share in shares)
                found[name].append(seconds(lambda parallel=parallel, work=work: parallel(work)) / len(many))
    median = {name: statistics.median(values) for name, values in found.items()}
    ratios = {
        "plain": ("", 1.0),
        "numpy": ("plain", median["plain"] / median["numpy"]),
        "numba": ("plain", median["plain"] / median["numba"]),
        "numba, two processes": ("one process", median["one process"] / median["two processes"]),
    }
    print("| reader | ms a file | least to most | against | times as fast | goal |\n|---|---|---|---|---|---|")
    for name, (against, ratio) in ratios.items():
        values = [1000 * value for value in found["two processes" if "two" in name else name]]
        spread = f"{min(values):.3f} to {max(values):.3f}"
        goal = f"{GOALS[name]:g}" if name in GOALS else ""
        print(f"| {name} | {statistics.median(values):.3f} | {spread} | {against} | {ratio:.1f} | {goal} |")


def make_places(root: Path, count: int) -> None:
    """Places of the large round, in its folders."""
    tiles = root / "tiles"
    tiles.mkdir(parents=True)
    for number in range(100):
        from PIL import Image

        Image.fromarray(draw_place(0, "train", number).tile).save(tiles / f"{number}.jpg", quality=90)
    for label in range(1, 10):
        (root / f"train/{label:03d}").mkdir(parents=True)
    for part in range(10):
        (root / f"train_part/{part}").mkdir(parents=True)
    for number in range(count):
        label = number % 9 + 1
        stem = f"{number:06d}_{label:03d}"
        os.link(tiles / f"{number % 100}.jpg", root / f"train/{label:03d}/{stem}.jpg")
        # The number in base 182 * 24: all files differ in their counts.
        cells = (number // (182 * 24), number % (182 * 24))
        line = ",".join(f"{DATES[cell // 24]}&{cell % 24:02d}" for cell in (cells[0], cells[1], cells[1]))
        (root / f"train_part/{number % 10}/{stem}.txt").write_text(f"{number:016x}\t{line}\n")


def peak(*words: object) -> tuple[float, float]:
    """The most memory that a command and its children take together, in bytes, and the seconds that it takes."""
    start, most = time.perf_counter(), 0.0
    process = subprocess.Popen([str(word) for word in words])
    while process.poll() is None:
        most = max(most, sum(map(proportional, family(process.pid))))
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"{words[0]} failed")
    return most, time.perf_counter() - start


def family(pid: int) -> list[int]:
    """A process and all that come of it."""
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:  # it has ended
        return []
    return [pid, *(member for child in children for member in family(child))]


def proportional(pid: int) -> float:
    try:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(float(row.split()[1]) * 1024 for row in rows if row.startswith("Pss:"))


READ = """
import sys
from pathlib import Path
from fusionkit_datasets.urfc import URFC
data = URFC(root=Path(sys.argv[1]), cache=Path(sys.argv[2]))
index = data.index()
for i in range(0, len(index), max(1, len(index) // 2000)):
    data.read(i)
print(f"listed {len(index)} places, {len(set(index.groups.tolist()))} groups")
"""


def memory(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        root, cache = Path(name) / "urfc", Path(name) / "cache"
        make_places(root, arguments.places)
        shutil.rmtree(root / "tiles")
        prepare = [Path(sys.executable).with_name("fusionkit"), "data", "prepare", "urfc", root, "--cache", cache]
        steps = {
            "prepare": prepare,
            "prepare again: verify": prepare,
            "index and read": [sys.executable, "-c", READ, root, cache],
        }
        found = {step: peak(*words) for step, words in steps.items()}
    print(f"\n{arguments.places} places with tiles, {len(os.sched_getaffinity(0))} cores\n")
    print("| step | peak memory, MB | goal | seconds |\n|---|---|---|---|")
    for step, (most, took) in found.items():
        print(f"| {step} | {most / 1e6:.0f} | {LIMIT / 1e6:.0f} | {took:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("speed")
    one.add_argument("--files", type=int, default=40)
    one.add_argument("--rounds", type=int, default=7)
    one.set_defaults(work=speed)
    two = commands.add_parser("memory")
    two.add_argument("--places", type=int, default=400_000)
    two.set_defaults(work=memory)
    arguments = parser.parse_args()
    arguments.work(arguments)


if __name__ == "__main__":
    main()
