"""`rasters`: ground windows of co-located rasters, each read at its own resolution and CRS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, PositiveInt

from fusionkit.contract import Dataset, Index, Sample
from fusionkit.errors import BadSample, DataError, suggestion
from fusionkit.flow import InputSpec
from fusionkit.options import DataPath
from fusionkit_datasets import labels as labelling
from fusionkit_datasets.rasters_labels import Labelled, Labels, RasterLabels, from_raster, from_vectors
from fusionkit_datasets.rasters_mapping import RasterWindows
from fusionkit_datasets.rasters_reading import Place, Promise, WindowReader
from fusionkit_datasets.rasters_sources import Grid, Opened, Source, files_of, open_raster
from fusionkit_datasets.rasters_windows import Frame, PixelWindow, WindowSize, positions, shape_in_pixels, size_in
from fusionkit_datasets.readers.common import blamed_on
from fusionkit_datasets.references import FileRef

_LOOKED_AT = 32
"""Windows that are read while listing, to hold the values against their scale."""


class Rasters(Dataset):
    """Ground windows of co-located rasters: optical, SAR, elevation, hyperspectral; one sample a labelled place.

    Each source is read at its own resolution and in its own CRS: its window is made of the whole pixels nearest to the
    window on the ground, without resampling. With a `grid`, all are warped on the fly to one resolution and CRS.

    The reference is the modality that `window` names, else the first. It says where the scenes are: a place is in the
    scene whose reference covers it. Other sources of a scene may lie differently or be missing.

    A pixel outside a source, of its nodata value, masked or NaN is missing. A window without any measurement is absent;
    one with some is a masked array, whose other pixels count in no statistics and are the mean to a model; or it has
    `fill` there.

    `positions` count reference pixels on the ground, over all scenes of one CRS, so that `split: {blocks: ...}` keeps
    overlapping windows on one side, also those of overlapping scenes. The column `scene` divides by scenes.

    Args:
        inputs: per modality, its source.
        labels: a raster of classes, or points or polygons with classes.
        window: side of the windows on the ground, in units of the reference's CRS (metres mostly), or
            `{pixels: 64, of: MODALITY}`.
        root: folder that paths are relative to.
        grid: `own`, each source as it is; or `{resolution: 10, resampling: bilinear}`.
        masks: masks of the labels' polygons as modalities of their own, `{crown: rgb}`: `crown` is 1 inside the polygon
            and 0 outside, on the pixels of `rgb`.
        classes: raw label values in the order of the class indices; default: all that occur, sorted.
        ignore_labels: raw label values that mean "not labelled".
        min_count: classes of fewer samples are not labels either.
        label_names: names of the classes, in their order: an array, or a text file with a name a line.
    """

    def __init__(
        self,
        *,
        inputs: Annotated[dict[str, Source], Field(min_length=1)],
        labels: Labels,
        window: WindowSize,
        root: DataPath = Path("."),
        grid: Literal["own"] | Grid = "own",
        masks: dict[str, str] | None = None,
        classes: list[int | str] | None = None,
        ignore_labels: Sequence[int | str] = (),
        min_count: PositiveInt = 1,
        label_names: FileRef | None = None,
    ):
        self.sources, self.labels, self.window, self.root = inputs, labels, window, root
        self.grid = None if isinstance(grid, str) else grid
        self.masks, self.classes, self.ignore_labels = masks or {}, classes, ignore_labels
        self.min_count, self.label_names = min_count, label_names
        self._files: dict[str, dict[str, Path] | Path] = {}
        self._frames: list[Frame] = []
        self._samples: Labelled | None = None
        self._reader = WindowReader(inputs, self.grid, {})

    def inputs(self) -> dict[str, InputSpec]:
        promises = self._headers()
        self._reader = WindowReader(self.sources, self.grid, promises)
        specs = {}
        for name, source in self.sources.items():
            specs[name] = InputSpec((promises[name].bands + source.polygon, *promises[name].shape))
        return specs | {name: InputSpec((1, *promises[like].shape)) for name, like in self.masks.items()}

    def windows_of(self, files: Mapping[str, Path], inputs: Mapping[str, InputSpec]) -> RasterWindows:
        return RasterWindows(
            files,
            inputs,
            sources=self.sources,
            masks=self.masks,
            window=self.window,
            common=self.grid,
            centred=isinstance(self.labels, RasterLabels),
        )

    def class_names(self) -> tuple[str, ...] | None:
        if self.label_names is not None:
            return tuple(labelling.read_names(self.root, self.label_names))
        return None if self.classes is None else tuple(map(str, self.classes))

    def index(self, progress: Callable[[int, int], None] | None = None) -> Index:
        self.inputs()
        self._frames, bad = self._find_frames()
        with blamed_on("labels"):
            if isinstance(self.labels, RasterLabels):
                self._samples = from_raster(self.root, self.labels, self._frames, self.ignore_labels)
            else:
                self._samples = from_vectors(self.root, self.labels, self._frames)
        self._refuse_points(self._samples)
        samples = self._samples
        names = None if self.label_names is None else labelling.read_names(self.root, self.label_names)
        with blamed_on("labels"):
            ignored = [*self.ignore_labels, *self._rare(samples.raw)]
            targets, class_names = labelling.encode(samples.raw, classes=self.classes, ignore=ignored, names=names)
        self._look()
        shape = self._reader.promises[self._reference].shape
        scenes = np.array([frame.scene for frame in self._frames])
        return Index(
            ids=samples.ids,
            targets=targets,
            class_names=class_names,
            columns=samples.columns | {"scene": scenes[samples.scene]},
            positions=positions(self._frames, samples.scene, samples.x, samples.y, max(shape)),
            window=shape,
            bad=bad + samples.bad,
        )

    def read(self, i: int) -> Sample:
        sample: Sample = {name: self._cut(name, i) for name in self.sources}
        if all(value is None for value in sample.values()):
            raise BadSample("no source has a measurement in this window", self.root)
        for name, like in self.masks.items():
            sample[name] = self._mask(like, i)
        return sample

    @property
    def _reference(self) -> str:
        return self.window.of if isinstance(self.window, PixelWindow) else next(iter(self.sources))

    def _headers(self) -> dict[str, Promise]:
        """What each modality's windows are, by the first file that can be read, beside the reference's first."""
        self._refuse_options()
        for name, source in self.sources.items():
            with blamed_on("inputs", name):
                self._files[name] = files_of(self.root, source.file)
        reference = self._first(self._reference)
        frame = Frame.of("", reference)
        size = self._size(frame)
        found = {}
        for name in self.sources:
            opened = self._first(name)
            pixel = opened.raster.transform
            if self.grid:
                shape = shape_in_pixels(size, frame.target(self.grid).transform)
            else:
                shape = shape_in_pixels(size_in(opened.raster.crs, size, frame), pixel)
            found[name] = Promise(len(opened.bands), shape, (-pixel.e, pixel.a))
            opened.raster.close()
        reference.raster.close()
        return found

    def _refuse_options(self) -> None:
        named = {("masks", mask): like for mask, like in self.masks.items()}
        if isinstance(self.window, PixelWindow):
            named["window", "of"] = self.window.of
        for option, name in named.items():
            if name not in self.sources:
                raise DataError(f"there is no modality {name!r}{suggestion(name, self.sources)}", option=option)
        for mask in self.masks:
            if mask in self.sources:
                raise DataError(f"{mask!r} is the name of a source", option=("masks", mask))
        for name, source in self.sources.items():
            if source.resampling and not self.grid:
                message = "nothing is resampled where each source keeps its own grid; give a common `grid`"
                raise DataError(message, option=("inputs", name, "resampling"))
            if source.polygon and isinstance(self.labels, RasterLabels):
                raise DataError("labels from a raster have no polygons", option=("inputs", name, "polygon"))
        if self.masks and isinstance(self.labels, RasterLabels):
            raise DataError("labels from a raster have no polygons", option=("masks",))

    def _refuse_points(self, samples: Labelled) -> None:
        wanted: list[tuple[str, ...]] = [("masks",)] if self.masks else []
        wanted += [("inputs", name, "polygon") for name, source in self.sources.items() if source.polygon]
        for i, geometry in enumerate(samples.polygons if wanted else []):
            if geometry["type"] not in ("Polygon", "MultiPolygon"):
                message = f"{samples.ids[i]} is a {geometry['type']}, which has no inside"
                raise DataError(message, option=wanted[0])

    def _first(self, name: str) -> Opened:
        """The first file of a modality that can be opened.

        Raises:
            DataError: none can; told of the first.
        """
        files = self._files[name]
        failure: DataError | None = None
        for path in files.values() if isinstance(files, dict) else [files]:
            try:
                # A source may lie askew where it is warped; the reference may not.
                return open_raster(path, self.sources[name], askew=self.grid is not None and name != self._reference)
            except DataError as error:
                failure = failure or error
        if failure is None:
            raise ValueError("a modality has files")
        failure.option = ("inputs", name)
        raise failure

    def _size(self, frame: Frame) -> tuple[float, float]:
        """Height and width of the windows on the ground, in units of the reference's CRS."""
        if isinstance(self.window, PixelWindow):
            return -frame.transform.e * self.window.pixels, frame.transform.a * self.window.pixels
        return self.window, self.window

    def _find_frames(self) -> tuple[list[Frame], list[tuple[str, BadSample]]]:
        """Every scene whose reference can be opened, and what is wrong with the others."""
        reference = self._files[self._reference]
        frames, bad = [], []
        for scene, path in (reference if isinstance(reference, dict) else {"": reference}).items():
            try:
                opened = open_raster(path, self.sources[self._reference])
            except DataError as error:
                bad.append((f"scene {scene}", BadSample(error.message, path)))
                continue
            frames.append(Frame.of(scene, opened))
            opened.raster.close()
        for name, files in self._files.items():
            if isinstance(files, dict) and isinstance(reference, dict):
                for scene in sorted(set(files) - set(reference)):
                    reason = f"this scene has no file of {self._reference}, the reference"
                    bad.append((f"scene {scene}", BadSample(reason, files[scene])))
            elif isinstance(files, dict):
                message = f"has one file a scene, but {self._reference}, the reference, is one file"
                raise DataError(message, option=("inputs", name))
        return frames, bad

    def _rare(self, raw: np.ndarray) -> list[str]:
        values, counts = np.unique(raw[raw != ""] if raw.dtype.kind == "U" else raw, return_counts=True)
        return [str(value) for value in values[counts < self.min_count].tolist()]

    def _cut(self, name: str, i: int) -> np.ndarray | None:
        place, path = self._placed(name, i)
        return None if path is None else self._reader.cut(name, path, place)

    def _mask(self, like: str, i: int) -> np.ndarray | None:
        place, path = self._placed(like, i)
        return None if path is None else self._reader.mask(like, path, place)

    def _placed(self, name: str, i: int) -> tuple[Place, Path | None]:
        """Where a sample's window is, and in what file; None where the scene has none of this modality."""
        samples = self._indexed()
        frame, files = self._frames[samples.scene[i]], self._files[name]
        polygon = samples.polygons[i] if samples.polygons else None
        place = Place(frame, float(samples.x[i]), float(samples.y[i]), polygon)
        return place, files.get(frame.scene) if isinstance(files, dict) else files

    def _look(self) -> None:
        """Hold the values of some windows against the scales.

        Raises:
            DataError: they do not fit, or a source has nothing in any of the windows.
        """
        count = len(self._indexed().ids)
        looked = np.unique(np.linspace(0, count - 1, min(count, _LOOKED_AT)).astype(int)).tolist()
        for name in self.sources:
            placed = [self._placed(name, i) for i in looked]
            if not self._reader.look(name, [(path, place) for place, path in placed if path is not None]):
                message = f"has no measurement in any of {len(looked)} windows looked at; see that it lies where"
                raise DataError(f"{message} {self._reference} does, and its `nodata`", option=("inputs", name))

    def _indexed(self) -> Labelled:
        if self._samples is None:
            raise ValueError("`index` comes before `read`")
        return self._samples
