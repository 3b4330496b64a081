"""From a finished run and the rasters of a scene to a map: GeoTIFFs, a picture, and a table of polygons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rasterio.windows import Window

from fusionkit.errors import RequestError, suggestion
from fusionkit.files import beside
from fusionkit.mapping_answers import Answers, Tile, blended
from fusionkit.mapping_files import nodata_of, open_classes, open_values, sidecar
from fusionkit.mapping_polygons import Polygons
from fusionkit.mapping_preview import preview
from fusionkit.progress import Progress
from fusionkit.saved import SavedRun
from fusionkit.scene import SceneWindows


@dataclass(frozen=True)
class Mapped:
    """What was made.

    Args:
        files: that were written, the map first.
        windows: how many were asked about.
        counts: pixels of each class; empty where the map is of no classes.
        notes: what the user should know of it.
    """

    files: list[Path]
    windows: int
    counts: np.ndarray
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Outputs:
    """Where the files of a map go.

    Args:
        map: the GeoTIFF.
        probabilities: the GeoTIFF of the probability of each class; None where nobody asks for it.
        polygons: whether polygons are asked about, of which there are tables then.
        classes: whether the map is of classes, which have names, colours and a picture.
    """

    map: Path
    probabilities: Path | None
    polygons: bool
    classes: bool

    @property
    def sidecar(self) -> Path:
        return self.map.with_name(f"{self.map.name}.aux.xml")

    @property
    def picture(self) -> Path:
        return self.map.with_suffix(".png")

    @property
    def table(self) -> Path:
        return self.map.with_suffix(".csv")

    @property
    def features(self) -> Path:
        return self.map.with_suffix(".geojson")

    def all(self) -> list[Path]:
        found = [self.map, *([self.probabilities] if self.probabilities else [])]
        found += [self.sidecar, self.picture] if self.classes else []
        return found + ([self.table, self.features] if self.polygons else [])

    def hold_apart(self, inputs: Iterable[Path]) -> None:
        """Raise where a file cannot be written, or would take the place of another."""
        seen = {path.resolve() for path in inputs}
        for path in self.all():
            if not path.parent.is_dir():
                raise RequestError(f"{path}: there is no folder {path.parent}; make it first")
            if path.is_dir():
                raise RequestError(f"{path} is a folder; name a file")
            if path.resolve() in seen:
                raise RequestError(f"{path} is an input, or written twice; give the map another name")
            seen.add(path.resolve())


def map_scene(
    saved: SavedRun,
    files: Mapping[str, Path],
    output: Path,
    *,
    probabilities: Path | None = None,
    polygons: Path | None = None,
    stride: int | None = None,
    progress: Progress | None = None,
) -> Mapped:
    """Ask a run about a scene and write a map of what it says, in bounded memory whatever the scene's size.

    A map of classes is a GeoTIFF of class indices with a colour table, names beside it (`.aux.xml`) and a picture
    (`.png`). One of labels or quantities has a band of probabilities or quantities for each. Files appear when all of
    them are whole.

    Args:
        saved: the run.
        files: of the scene, by modality. Modalities without a file are absent.
        output: the map.
        probabilities: where the probability of each class goes, a band a class.
        polygons: a file of polygons: each is asked about, painted on the map, and listed in a CSV and a GeoJSON beside
            it. Without, windows all over the scene are asked about and their answers blended.
        stride: pixels of the map between neighbouring windows; default: what the dataset says.
        progress: where to report; default: standard error.

    Raises:
        RequestError: there is no such modality, it may not be absent, or a file is not as it should be.
    """
    progress = progress or Progress()
    if saved.task.kind == "retrieval":
        raise RequestError("a run of retrieval says what belongs together, of which there is no map")
    if saved.task.kind == "grounding":
        raise RequestError("a run of grounding says where a phrase's thing is, of which there is no map")
    if saved.task.kind != "classification" and (probabilities or polygons):
        what = "--probabilities" if probabilities else "--polygons"
        raise RequestError(f"{what} is for runs that predict classes; this one predicts {saved.task.kind}")
    _hold_names(saved, files)
    outputs = Outputs(output, probabilities, polygons is not None, saved.task.kind == "classification")
    outputs.hold_apart([*files.values(), *([polygons] if polygons else [])])
    windows = saved.recipe.dataset.build().windows_of(files, saved.inputs)
    if windows is None:
        raise RequestError(f"the dataset {saved.recipe.dataset.name} cuts no windows of a scene, so there is no map")
    stride = windows.stride if stride is None else stride
    _hold_sizes(windows, stride, polygons)
    absent = [name for name in saved.inputs if name not in windows.modalities]
    notes = [f"without {name}: {_reason(saved, name)}" for name in absent]
    for note in notes:
        progress.line(f"note: {note}")
    answers = Answers(saved, windows)
    bar, tell = progress.counter("mapping")
    with bar:
        if polygons is None:
            asked, painted = None, blended(answers, windows, stride, tell)
        else:
            asked = Polygons(windows.polygons(polygons), answers, windows.grid)
            painted = asked.painted(windows)
        tags = {
            "FUSIONKIT_VERSION": version("fusionkit-geo"),
            "FUSIONKIT_RUN": saved.run.name,
            "FUSIONKIT_MODALITIES": ", ".join(name for name in saved.inputs if name not in absent),
            "FUSIONKIT_ABSENT": ", ".join(absent),
            "FUSIONKIT_OF": f"polygons of {polygons.name}" if polygons else f"windows, {stride} pixels apart",
        }
        counts = _write(saved, windows, outputs, painted, asked, tags)
    told = _told(answers, asked)
    for note in told:
        progress.line(f"note: {note}")
    notes += told
    return Mapped(outputs.all(), answers.asked, counts, notes)


def _write(
    saved: SavedRun,
    windows: SceneWindows,
    outputs: Outputs,
    painted: Iterable[tuple[Tile, np.ndarray]],
    polygons: Polygons | None,
    tags: Mapping[str, str],
) -> np.ndarray:
    """Write all files beside their places, and rename them when the last is whole; the pixels of each class."""
    names, grid = saved.task.class_names, windows.grid
    counts = np.zeros(len(names) if outputs.classes else 0, dtype=np.int64)
    dtype, nodata = nodata_of(len(names))
    with ExitStack() as stack:
        parts = {path: stack.enter_context(beside(path)) for path in reversed(outputs.all())}  # the map comes last
        with ExitStack() as opened:
            make = open_classes if outputs.classes else open_values
            file = opened.enter_context(make(parts[outputs.map], grid, names, tags))
            shares = None
            if outputs.probabilities:
                shares = opened.enter_context(open_values(parts[outputs.probabilities], grid, names, tags))
            for tile, values in painted:
                at = Window(tile.left, tile.top, tile.width, tile.height)
                values[:, ~windows.measured(tile.top, tile.left, tile.height, tile.width)] = np.nan
                if outputs.classes:
                    known = ~np.isnan(values[0])
                    best = np.where(known, np.nan_to_num(values).argmax(0), nodata)
                    counts += np.bincount(best[known], minlength=len(names))
                    file.write(best.astype(dtype), 1, window=at)
                else:
                    file.write(values, window=at)
                if shares is not None:
                    shares.write(values, window=at)
        if outputs.classes:
            parts[outputs.sidecar].write_bytes(sidecar(names, counts))
            absent = f", without {tags['FUSIONKIT_ABSENT']}" if tags["FUSIONKIT_ABSENT"] else ""
            picture = preview(
                parts[outputs.map],
                names,
                counts,
                title=outputs.map.stem,
                subtitle=f"by {saved.run.name}{absent}",
                rings=[] if polygons is None else polygons.rings(),
            )
            parts[outputs.picture].write_bytes(picture)
        if polygons is not None:
            polygons.table(names).to_csv(parts[outputs.table], index=False)
            parts[outputs.features].write_bytes(polygons.geojson(names))
    return counts


def _hold_names(saved: SavedRun, files: Mapping[str, Path]) -> None:
    for name in files:
        if name not in saved.inputs:
            raise RequestError(f"the run has no modality {name!r}{suggestion(name, saved.inputs)}")
    if not files:
        raise RequestError(f"give a file of at least one modality: {', '.join(f'--{name}' for name in saved.inputs)}")


def _hold_sizes(windows: SceneWindows, stride: int, polygons: Path | None) -> None:
    size, window = (windows.grid.height, windows.grid.width), windows.window
    if polygons is None and windows.needs_polygons:
        raise RequestError("the run was trained on windows that show a polygon; give --polygons FILE")
    if any(side < wide for side, wide in zip(size, window, strict=True)):
        raise RequestError(
            f"the scene is {size[0]} x {size[1]} pixels (rows x columns), smaller than a window of "
            f"{window[0]} x {window[1]}"
        )
    if stride < 1:
        raise RequestError(f"a stride is 1 pixel or more, not {stride}")
    if polygons is None and not windows.centred and stride > min(window):
        raise RequestError(f"a stride of {stride} pixels leaves gaps between windows of {window[0]} x {window[1]}")


def _reason(saved: SavedRun, name: str) -> str:
    """Why a modality may be absent.

    Raises:
        RequestError: the run has never seen samples without it.
    """
    if name not in saved.absences:
        raise RequestError(
            f"the run has never seen samples without {name}, so what it says without means nothing; give "
            f"--{name} FILE, or train with `augment: [modality_dropout]`"
        )
    return saved.absences[name]


def _told(answers: Answers, polygons: Polygons | None) -> list[str]:
    notes = [f"{answers.empty:,} windows have no measurement"] if answers.empty else []
    notes += [f"{count:,} windows have no answer: {reason}" for reason, count in answers.refused.most_common(5)]
    if polygons is not None and (lacking := int((polygons.notes != "").sum())):
        notes.append(f"{lacking} of {len(polygons.notes)} polygons have no answer; the table says why")
    return notes
