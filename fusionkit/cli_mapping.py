"""The part of `fusionkit predict` that makes maps: `--MODALITY FILE` for each modality of the run, and what is told."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from fusionkit.errors import RequestError

SUFFIXES = (".tif", ".tiff")


def scene_files(words: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """Divide what is left of a command line into the files of a scene, by modality, and all else.

    Args:
        words: such as `--image`, `scene.tif`, `--lidar=dsm.tif`, `data.root=elsewhere`.

    Raises:
        RequestError: an option has no file, or comes twice.
    """
    files: dict[str, Path] = {}
    others, left = [], list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("--"):
            others.append(word)
            continue
        name, given, value = word[2:].partition("=")
        if not given:
            value = left.pop(0) if left and not left[0].startswith("--") else ""
        if not value:
            raise RequestError(f"--{name} needs a file")
        if name in files:
            raise RequestError(f"--{name} is given twice; a modality has one file")
        files[name] = Path(value)
    return files, others


def make_map(
    run: Path,
    files: dict[str, Path],
    output: Path,
    *,
    probabilities: Path | None,
    polygons: Path | None,
    stride: int | None,
) -> None:
    """Make a map, and tell on standard error what is in it and what lies where."""
    from fusionkit.drawing import percent
    from fusionkit.mapping import map_scene
    from fusionkit.repeat import differences
    from fusionkit.saved import SavedRun

    if output.suffix.lower() not in SUFFIXES:
        raise RequestError(f"{output}: a map is written as {' or '.join(SUFFIXES)}")
    for name, path in ((name, path) for name, path in files.items() if path.is_dir()):
        raise RequestError(f"--{name} {path} is a folder; a map is made of one scene, file by file")
    saved = SavedRun.load(run)
    for note in differences(run):
        print(f"note: {note}", file=sys.stderr)
    done = map_scene(saved, files, output, probabilities=probabilities, polygons=polygons, stride=stride)
    for k in sorted(range(len(done.counts)), key=lambda k: -done.counts[k]):
        if done.counts[k]:
            print(f"{saved.task.class_names[k]}: {percent(done.counts[k] / done.counts.sum())} %", file=sys.stderr)
    print(f"{done.windows:,} windows; written: {', '.join(str(path) for path in done.files)}", file=sys.stderr)
