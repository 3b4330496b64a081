"""`patches`: windows around the labelled pixels of co-registered scenes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, PositiveInt

from fusionkit.contract import Dataset, Index, Sample
from fusionkit.errors import DataError, suggestion
from fusionkit.flow import InputSpec
from fusionkit.options import DataPath
from fusionkit_datasets import labels as labelling
from fusionkit_datasets.patches_mapping import PatchWindows
from fusionkit_datasets.readers.common import blamed_on, by, listed
from fusionkit_datasets.references import FileRef, MapRef, Maps, Scenes, Splits, as_list, by_part
from fusionkit_datasets.scenes import Layer, Place, Scene, read_map, scene_header


class Patches(Dataset):
    """Windows around the labelled pixels of co-registered scenes: one sample a pixel, labelled as its centre is.

    A scene is an array (`file.mat:key`, `file.npy`, ...) with rows, columns and channels in this order unless `axes`
    says otherwise, or a raster (GeoTIFF, ...), whose bands are the channels. A list of scenes is stacked along the
    channels. All scenes and maps have the same rows and columns; rasters that say where they lie must lie in the same
    place. Windows are continued beyond the border by reflection. A window in which a scene has no valid pixel does not
    have that modality. Scenes are held in memory, npy files mapped.

    A window of even size reaches one pixel further up and left than down and right.

    Args:
        inputs: per modality, its scene.
        labels: map of the classes; for an official split by maps `{train: ..., test: ...}`.
        root: folder that paths are relative to.
        patch_size: height and width of the windows, in pixels.
        masks: for an official split by masks, `{train: ..., test: ...}`; a pixel is in the part whose mask is not 0.
        classes: raw label values in the order of the class indices; default: all that occur, sorted.
        ignore_labels: raw label values that mean "not labelled".
        label_names: names of the classes, in their order: an array, or a text file with a name a line.
        columns: maps of further facts to split by: a field, a block.
        counts: modalities that hold event counts, which are not standardised.
    """

    def __init__(
        self,
        *,
        inputs: Annotated[dict[str, Scenes], Field(min_length=1)],
        labels: Maps,
        root: DataPath = Path("."),
        patch_size: PositiveInt = 11,
        masks: Splits[MapRef] | None = None,
        classes: list[int] | None = None,
        ignore_labels: Sequence[int] = (0,),
        label_names: FileRef | None = None,
        columns: dict[str, MapRef] | None = None,
        counts: Sequence[str] = (),
    ):
        self.sources, self.labels, self.root, self.patch_size = inputs, labels, root, patch_size
        self.masks, self.columns, self.counts = masks, columns or {}, counts
        self.classes, self.ignore_labels, self.label_names = classes, ignore_labels, label_names
        self._positions = np.zeros((0, 2), np.int32)
        self._scenes: dict[str, Scene] | None = None

    def inputs(self) -> dict[str, InputSpec]:
        return self._headers()[0]

    def class_names(self) -> tuple[str, ...] | None:
        if self.label_names is not None:
            return tuple(labelling.read_names(self.root, self.label_names))
        return None if self.classes is None else tuple(map(str, self.classes))

    def index(self, progress: Callable[[int, int], None] | None = None) -> Index:
        _, place = self._headers()
        self._positions, raw, split = self._labelled(place)
        names = None if self.label_names is None else labelling.read_names(self.root, self.label_names)
        with blamed_on("labels"):
            targets, class_names = labelling.encode(raw, classes=self.classes, ignore=(), names=names)
        rows, columns = self._positions.T
        if self.masks is not None:
            split = self._masked(self.masks, place, rows, columns)
        facts = {
            name: self._map(reference, place, "columns", name)[rows, columns]
            for name, reference in self.columns.items()
        }
        self._scenes = self._open()
        return Index(
            ids=[f"{row}_{column}" for row, column in self._positions.tolist()],
            targets=targets,
            class_names=class_names,
            columns=facts,
            split=split,
            positions=self._positions,
            window=(self.patch_size, self.patch_size),
        )

    def read(self, i: int) -> Sample:
        if self._scenes is None:  # in a worker that was not forked
            self._scenes = self._open()
        row, column = self._positions[i].tolist()
        return {name: scene.window(row, column, self.patch_size) for name, scene in self._scenes.items()}

    def windows_of(self, files: Mapping[str, Path], inputs: Mapping[str, InputSpec]) -> PatchWindows:
        return PatchWindows(files, inputs, sources=self.sources)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_scenes": None}  # a worker opens the files itself

    def _headers(self) -> tuple[dict[str, InputSpec], Place]:
        """The shape of each modality's windows, and the place that all scenes show."""
        for name in self.counts:
            if name not in self.sources:
                raise DataError(f"there is no modality {name!r}{suggestion(name, self.sources)}", option=("counts",))
        specs, places = {}, []
        for name, source in self.sources.items():
            channels = 0
            for reference in as_list(source):
                with blamed_on("inputs", name):
                    more, place = scene_header(self.root, reference)
                    channels += more
                    places.append(place)
                    places[0].check(place)
            specs[name] = InputSpec((channels, self.patch_size, self.patch_size), counts=name in self.counts)
        if self.patch_size > min(places[0].size):
            message = f"windows of {self.patch_size} pixels are larger than the scene, {by(places[0].size)}"
            raise DataError(message, option=("patch_size",))
        return specs, places[0]

    def _open(self) -> dict[str, Scene]:
        scenes = {}
        for name, source in self.sources.items():
            with blamed_on("inputs", name):
                scenes[name] = Scene([Layer(self.root, reference) for reference in as_list(source)])
        return scenes

    def _map(self, reference: MapRef, scene: Place, *option: str) -> np.ndarray:
        with blamed_on(*option):
            values, place = read_map(self.root, reference)
            scene.check(place)
            return values

    def _labelled(self, place: Place) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Row and column of every labelled pixel `[n, 2]`, its raw label, and its part of the official split."""
        parts = by_part(self.labels)
        if "" not in parts and self.masks is not None:
            raise DataError("`labels` are divided already; give masks for a single map of labels", option=("masks",))
        positions, raw = {}, {}
        for part, reference in parts.items():
            values = self._map(reference, place, "labels", *([part] if part else []))
            labelled = ~(np.isnan(values) | np.isin(values, self.ignore_labels))
            positions[part], raw[part] = np.argwhere(labelled), values[labelled]
        everywhere = np.concatenate(list(positions.values()))
        twice = len(everywhere) - len(np.unique(everywhere, axis=0))
        if twice:
            raise DataError(f"{twice} pixels are labelled in more than one of {listed(parts)}", option=("labels",))
        sizes = [len(found) for found in positions.values()]
        return everywhere, np.concatenate(list(raw.values())), None if "" in parts else np.repeat(list(parts), sizes)

    def _masked(self, masks: Splits[MapRef], place: Place, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The part of each pixel; empty where no mask covers it."""
        split = np.full(len(rows), "", dtype="U5")
        for part, reference in masks.parts().items():
            values = self._map(reference, place, "masks", part)[rows, columns]
            inside = ~np.isnan(values) & (values != 0)
            if count := int((inside & (split != "")).sum()):
                raise DataError(f"{count} labelled pixels are in this mask and in another", option=("masks", part))
            split[inside] = part
        return split
