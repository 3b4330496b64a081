"""`image_text`: images with captions, from the formats of Flickr30K, COCO and RSICD, or from a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa

from fusionkit.contract import Dataset, Index, Sample
from fusionkit.errors import BadSample, DataError
from fusionkit.flow import InputSpec
from fusionkit.options import DataPath
from fusionkit_datasets import labels as labelling
from fusionkit_datasets.framing import Fit, Framing, Size, upright_size
from fusionkit_datasets.image_text_coco import read_coco_boxes, read_coco_captions
from fusionkit_datasets.image_text_csv import Columns, read_csv
from fusionkit_datasets.image_text_flickr30k import read_flickr30k
from fusionkit_datasets.image_text_karpathy import read_karpathy, read_splits
from fusionkit_datasets.image_text_pairs import Pairs, Part, PerPart, together
from fusionkit_datasets.readers.common import blamed_on, reading
from fusionkit_datasets.references import FileRef

Format: TypeAlias = Literal["flickr30k", "karpathy", "coco", "csv"]

CORNERS = ("x1", "y1", "x2", "y2")
_SUFFIXES: dict[str, Format] = {
    ".token": "flickr30k",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "csv",
    ".pq": "csv",
}
_ONLY_FOR: dict[str, tuple[Format, ...]] = {
    "splits": ("flickr30k", "coco"),
    "columns": ("csv",),
    "label": ("csv",),
    "boxes": ("coco", "csv"),
}


class ImageText(Dataset):
    """Images with captions. A sample is a pair, `image#k` for the k-th caption of an image, from 0.

    Modalities: `image`, RGB of one size, upright by its EXIF data; and `text`. The pairs of an image are a group, and
    the official split is read where there is one. A pair without caption is bad, and so is one whose image cannot be
    read.

    Formats:

        flickr30k   a line `image.jpg#0<TAB>caption` each, such as results_20130124.token; `splits` divides
        karpathy    one JSON with images, their split and sentences: RSICD, UCM, Sydney, and Karpathy's dataset_*.json
        coco        captions_*.json; with `boxes: true` instances_*.json, where the texts are names of categories
        csv         a table with a row for each pair: CSV, TSV or Parquet, with the columns of `columns`

    Args:
        file: the captions; or those of each part, `{train: FILE, val: FILE}`, which then is the split.
        images: the folder of the images; or of each part, where `file` has parts.
        root: folder that all paths are relative to.
        format: of `file`; default: what suffix and content say.
        splits: for flickr30k and coco, Karpathy's JSON, which says what is train, val and test; what COCO's validation
            left over (restval) is train, and images that it does not have are in no part.
        columns: of a table: the names of the columns of images, captions, split and boxes.
        size: height and width of the images, or the side of a square.
        fit: `crop`: the shorter side is resized and the centre is kept; `squash`: the proportions change.
        boxes: the task is to find what the text names: a regression of its box x1, y1, x2, y2, from 0 at the left and
            upper rim of the resized image to 1 at the others. With `crop`, boxes are cut off like the image.
        label: of a table: the column of the classes; an empty cell is no label.
        classes: raw label values in the order of the class indices; default: all that occur, sorted.
        ignore_labels: raw label values that mean "no label".
        label_names: names of the classes, in their order: an array, or a text file with a name a line.
    """

    def __init__(
        self,
        *,
        file: DataPath | PerPart,
        images: DataPath | PerPart = Path("."),
        root: DataPath = Path("."),
        format: Format | None = None,
        splits: DataPath | None = None,
        columns: Columns | None = None,
        size: Size = 224,
        fit: Fit = "crop",
        boxes: bool = False,
        label: str | None = None,
        classes: list[int | str] | None = None,
        ignore_labels: Sequence[int | str] = (),
        label_names: FileRef | None = None,
    ):
        if boxes and label is not None:
            raise DataError("a sample has a box or a class: leave out `label` or `boxes`", option=("label",))
        if label is None:
            labelling.hold_for_classes(classes=classes, ignore_labels=ignore_labels, label_names=label_names)
        if isinstance(images, Mapping) and (not isinstance(file, Mapping) or set(images) != set(file)):
            raise DataError("the parts are not those of `file`", option=("images",))
        self.file, self.images, self.root = file, images, root
        self.format, self.splits, self.columns = format, splits, columns
        self.framing, self.boxes = Framing.of(size, fit), boxes
        self.label, self.classes, self.ignore_labels, self.label_names = label, classes, ignore_labels, label_names
        self.task = "regression" if boxes else "retrieval" if label is None else "classification"
        # In Arrow's memory, that workers share; Python's strings would be copied to each when they are counted.
        self._paths, self._captions = pa.array([], pa.string()), pa.array([], pa.string())
        self._sizes: list[tuple[int, int]] | None = None
        self._last: tuple[str, np.ndarray] | None = None

    def inputs(self) -> dict[str, InputSpec]:
        for folder in self._folders().values():
            if not folder.is_dir():
                raise DataError("there is no such folder", folder, option=("images",))
        return {"image": InputSpec(self.framing.shape), "text": InputSpec((), text=True)}

    def class_names(self) -> tuple[str, ...] | None:
        if self.boxes:
            return CORNERS
        if self.label is None:
            return ()
        if self.label_names is not None:
            return tuple(labelling.read_names(self.root, self.label_names))
        return None if self.classes is None else tuple(map(str, self.classes))

    def index(self, progress: Callable[[int, int], None] | None = None) -> Index:
        self.inputs()
        pairs = self._pairs()
        if not pairs.good:
            raise DataError("no image has a caption", pairs.path, option=("file",))
        targets, names = self._targets(pairs, progress)
        self._paths = pa.array([pair.path for pair in pairs.good], pa.string())
        self._captions = pa.array([pair.caption for pair in pairs.good], pa.string())
        images = np.array([pair.image for pair in pairs.good])
        split = np.array([pair.split for pair in pairs.good]) if pairs.divided else None
        return Index(
            labelling.unique(pair.id for pair in pairs.good),
            targets,
            names,
            columns=pairs.facts | {"image": images} | ({} if split is None else {"split": split}),
            split=split,
            groups=images,
            bad=pairs.bad,
        )

    def read(self, i: int) -> Sample:
        path = self._paths[i].as_py()
        if self._last is None or self._last[0] != path:  # its other captions come next where nobody shuffles
            self._last = path, self.framing.read(Path(path), self._sizes[i] if self._sizes else None)
        return {"image": self._last[1], "text": np.array(self._captions[i].as_py())}

    def _folders(self) -> dict[str, Path]:
        """The folder of each part's images; of all under an empty name."""
        return {part: self.root / folder for part, folder in _by_part(self.images).items()}

    def _pairs(self) -> Pairs:
        """The pairs of all files."""
        with blamed_on("splits"):
            splits = {} if self.splits is None else read_splits(self.root / self.splits)
        folders, found = self._folders(), []
        for part, file in _by_part(self.file).items():
            with blamed_on("file", *filter(None, [part])):
                pairs = self._read(self.root / file, splits)
            if part in folders:
                pairs.place(folders[part], part=part, prefix=f"{part}/" if part else "")
            else:
                pairs.place(folders[""], part=part)
            found.append(pairs)
        return together(found)

    def _read(self, path: Path, splits: Mapping[str, str]) -> Pairs:
        kind = self.format or _format(path)
        for option, formats in _ONLY_FOR.items():
            if getattr(self, option) and kind not in formats:
                raise DataError(f"`{option}` is for the format {' or '.join(formats)}, not {kind}", option=(option,))
        if kind == "flickr30k":
            return read_flickr30k(path, splits)
        if kind == "karpathy":
            return read_karpathy(path)
        if kind == "coco":
            return (read_coco_boxes if self.boxes else read_coco_captions)(path, splits)
        return read_csv(path, self.columns or Columns(), label=self.label, boxes=self.boxes)

    def _targets(self, pairs: Pairs, progress: Callable[[int, int], None] | None) -> tuple[np.ndarray, tuple[str, ...]]:
        """The target of each pair, and the names of classes or corners; pairs with bad boxes are put aside."""
        if self.boxes:
            return self._framed(pairs, progress), CORNERS
        if self.label is None:
            return np.full(len(pairs.good), labelling.UNLABELLED), ()
        with blamed_on("label"):
            names = None if self.label_names is None else labelling.read_names(self.root, self.label_names)
            if (raw := pairs.facts.get(self.label)) is None:
                raise DataError(f"column {self.label!r} holds lists", pairs.path)
            return labelling.encode(raw, classes=self.classes, ignore=self.ignore_labels, names=names)

    def _framed(self, pairs: Pairs, progress: Callable[[int, int], None] | None) -> np.ndarray:
        """The boxes `[n, 4]`, NaN of a pair that has none."""
        size_of = lru_cache(maxsize=None)(upright_size)
        boxes, rows, self._sizes = [], [], []
        for row, pair in enumerate(pairs.good):
            try:
                size = pair.size or size_of(Path(pair.path))
                box = np.full(4, np.nan) if pair.box is None else self.framing.framed(pair.box, size)
            except BadSample as bad:
                pairs.bad.append((pair.id, BadSample(bad.reason, pair.path)))
            else:
                boxes.append(box)
                rows.append(row)
                self._sizes.append(size)
            if progress:
                progress(row + 1, len(pairs.good))
        if not boxes:
            raise DataError(f"no box can be used; the first: {pairs.bad[0][1]}", pairs.path, option=("boxes",))
        pairs.keep(rows)
        return np.stack(boxes)


def _by_part(places: Path | Mapping[Part, Path]) -> dict[str, Path]:
    return {str(part): path for part, path in places.items()} if isinstance(places, Mapping) else {"": places}


def _format(path: Path) -> Format:
    """What the suffix, or of JSON the content, says.

    Raises:
        DataError: they say nothing.
    """
    if found := _SUFFIXES.get(path.suffix.lower()):
        return found
    if path.suffix.lower() == ".json":
        with reading(path):
            text = path.read_bytes()
        has = {"karpathy": b'"sentences"' in text, "coco": b'"annotations"' in text}
        if sum(has.values()) == 1:
            return "karpathy" if has["karpathy"] else "coco"
    raise DataError("it is not clear what this is; say its `format`: flickr30k, karpathy, coco or csv", path)
