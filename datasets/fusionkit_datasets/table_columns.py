"""What the columns of a table hold, a kind a modality: images, rasters, arrays in files, or the values themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeAlias

import numpy as np
from pydantic import Discriminator, Field, PositiveInt, Tag

from fusionkit.errors import BadSample, DataError
from fusionkit_datasets import readers
from fusionkit_datasets.images import image_size, read_image
from fusionkit_datasets.layout import ONE_SAMPLE, Layout, LayoutError, lay_out
from fusionkit_datasets.manifest import Manifest
from fusionkit_datasets.missing import settle
from fusionkit_datasets.readers import rasters
from fusionkit_datasets.readers.common import by
from fusionkit_datasets.references import FileRef, Keys, Selected

Size: TypeAlias = tuple[PositiveInt, PositiveInt]


class Cells(Protocol):
    """One modality of a table, row by row.

    Args:
        shape: of a sample.
        ragged: whether samples may have fewer steps.
    """

    shape: tuple[int, ...]
    ragged: bool

    def read(self, row: int) -> np.ndarray | None:
        """The sample of a row; None where its cells are empty.

        Raises:
            BadSample: it cannot be used.
        """
        ...


class ImageColumn(Keys):
    """A column of paths of images (JPEG, PNG, ...), read as `[C, H, W]`."""

    type: Literal["image"]
    column: str
    """The column of the paths."""
    channels: Literal[1, 3, 4] = 3
    """3: RGB; grey images are repeated, palettes resolved, an alpha channel is left out. 1: grey, of 8 or 16 bits.
    4: RGB and a fourth."""
    size: Size | None = None
    """Height and width to which every image is resampled. Without it, all must be as large as the first."""

    def shape_of(self, path: Path) -> tuple[int, ...]:
        return (self.channels, *(self.size or image_size(path, self.channels)))

    def read_file(self, path: Path) -> np.ndarray | None:
        return read_image(path, self.channels, self.size)

    def open(self, manifest: Manifest, root: Path) -> Cells:
        return FileCells(self, [self.column], manifest, root)


class RasterColumn(Keys):
    """A column of paths of rasters (GeoTIFF, ...), read as `[C, H, W]`. A raster without a valid pixel is absent."""

    type: Literal["raster"]
    column: str | list[str] = Field(min_length=1)
    """The column of the paths; of several, the bands are stacked."""
    bands: list[PositiveInt] | None = Field(None, min_length=1)
    """Bands that are read, from 1. Default: all."""
    size: Size | None = None
    """Height and width to which every raster is resampled. Without it, all must be as large as the first."""
    fill: float | None = None
    """What to put for missing pixels (nodata, masked or NaN) of a raster that has others. Without it that is bad."""

    def shape_of(self, path: Path) -> tuple[int, ...]:
        channels, *own_size = rasters.header(path, self.bands)[0].shape
        return (channels, *(self.size or own_size))

    def read_file(self, path: Path) -> np.ndarray | None:
        values, missing = rasters.load(path, self.bands, self.size)
        return settle(values, missing, self.fill, path)

    def open(self, manifest: Manifest, root: Path) -> Cells:
        return FileCells(self, [self.column] if isinstance(self.column, str) else self.column, manifest, root)


class ArrayColumn(Selected):
    """A column of paths of arrays (npy, npz, .mat, HDF5, text), one sample a file. One that is all NaN is absent."""

    type: Literal["array"]
    column: str
    """The column of the paths."""
    key: str | None = None
    """Name of the array in npz, .mat and HDF5 files."""
    axes: str | None = Field(None, pattern="^[chwtd]+$")
    """The order of the axes, a letter each: c channels, h rows, w columns, t steps, d features. Default: `d`, `td` or
    `chw` by their number."""
    steps: PositiveInt | None = None
    """For sequences that differ in length: the length of the longest."""

    def shape_of(self, path: Path) -> tuple[int, ...]:
        shape = self._layout(readers.header(path.parent, self._reference(path)).shape, path).shape
        if self.steps is None:
            return shape
        if len(shape) != 2:
            raise DataError(f"`steps` is for sequences; this is {by(shape)}", path, option=("steps",))
        return (self.steps, shape[1])

    def read_file(self, path: Path) -> np.ndarray | None:
        array = readers.load(path.parent, self._reference(path))
        value = self._layout(array.shape, path).arrange(array)
        return None if value.dtype.kind == "f" and np.isnan(value).all() else value

    def open(self, manifest: Manifest, root: Path) -> Cells:
        return FileCells(self, [self.column], manifest, root, ragged=self.steps is not None)

    def _reference(self, path: Path) -> FileRef:
        return FileRef.model_construct(file=Path(path.name), key=self.key)

    def _layout(self, shape: tuple[int, ...], path: Path) -> Layout:
        try:
            return lay_out(shape, self.axes, self.axis, self.index, default=ONE_SAMPLE)
        except LayoutError as error:
            raise DataError(str(error), path) from None


class ValueColumns(Keys):
    """Columns of numbers, read as a vector. Where all are empty, the modality is absent."""

    type: Literal["values"] = "values"
    columns: str | list[str] = Field(min_length=1)
    """Names or patterns such as `band_*`, or one column of lists (Parquet)."""

    def open(self, manifest: Manifest, root: Path) -> Cells:
        return ValueCells(manifest, manifest.matching(self.columns))


class FileCells:
    """A modality whose cells name files."""

    def __init__(
        self,
        options: ImageColumn | RasterColumn | ArrayColumn,
        columns: list[str],
        manifest: Manifest,
        root: Path,
        *,
        ragged: bool = False,
    ):
        self.options, self.columns, self.root, self.ragged = options, columns, root, ragged
        self._words = [manifest.words(column) for column in columns]
        self.shape = self._first_shape(manifest)

    def read(self, row: int) -> np.ndarray | None:
        paths = self._paths(row)
        if not paths:
            return None
        try:
            values = [self.options.read_file(path) for path in paths]
        except DataError as error:
            raise BadSample(error.message, error.path or paths[0]) from error
        present = [value for value in values if value is not None]
        if len(present) < len(values):
            return None
        shape = present[0].shape
        if any(value.shape[1:] != shape[1:] for value in present):
            raise BadSample(f"the rasters differ in size: {', '.join(by(value.shape) for value in present)}", paths[0])
        value = present[0] if len(present) == 1 else np.concatenate(present)
        if value.shape != self.shape and not self.ragged:
            resample = value.shape[1:] != self.shape[1:] and "size" in type(self.options).model_fields
            hint = "; `size` resamples all to one" if resample else ""
            raise BadSample(f"is {by(value.shape)}, not {by(self.shape)}{hint}", paths[0])
        return value

    def _paths(self, row: int) -> list[Path]:
        """The files of a row; none where all its cells are empty."""
        words = [column[row] for column in self._words]
        if any(words) and not all(words):
            raise BadSample(f"column {self.columns[words.index('')]!r} is empty, others are not")
        return [self.root / word for word in words if word]

    def _first_shape(self, manifest: Manifest) -> tuple[int, ...]:
        """The shape that the first readable files have, to which all others are held."""
        reason: Exception | None = None
        for row in range(len(manifest)):
            try:
                if paths := self._paths(row):
                    shapes = [self.options.shape_of(path) for path in paths]
                    return (sum(shape[0] for shape in shapes), *shapes[0][1:]) if len(shapes) > 1 else shapes[0]
            except (BadSample, DataError) as error:
                reason = reason or error
        names = " and ".join(map(repr, self.columns))
        if reason is None:
            raise DataError(f"column {names} is empty", manifest.path)
        raise DataError(f"no file of column {names} can be read; the first: {reason}", manifest.path)


class ValueCells:
    """A modality whose values stand in the table."""

    ragged = False

    def __init__(self, manifest: Manifest, names: list[str]):
        self.path, self.names = manifest.path, names
        self._values, self._bad = manifest.numbers(names)
        self._lines = {row: manifest.line(row) for row in np.flatnonzero(np.isnan(self._values).any(1)).tolist()}
        self.shape: tuple[int, ...] = (self._values.shape[1],)

    def read(self, row: int) -> np.ndarray | None:
        if row in self._bad:
            raise BadSample(self._bad[row], self.path, line=self._lines.get(row))
        values = self._values[row]
        if row not in self._lines:
            return values
        missing = np.isnan(values)
        if missing.all():
            return None
        where = f" of {self.names[int(missing.argmax())]!r}" if len(self.names) == len(values) else ""
        reason = f"{int(missing.sum())} of {len(values)} values are missing, the first{where}"
        raise BadSample(reason, self.path, line=self._lines[row])


def _type(value: Any) -> str:
    return value.get("type", "values") if isinstance(value, dict) else getattr(value, "type", "values")


TableInput: TypeAlias = Annotated[
    Annotated[ImageColumn, Tag("image")]
    | Annotated[RasterColumn, Tag("raster")]
    | Annotated[ArrayColumn, Tag("array")]
    | Annotated[ValueColumns, Tag("values")],
    Discriminator(
        _type,
        custom_error_type="input_type",
        custom_error_message="`type` is one of image, raster, array, values",
    ),
]
"""One modality of a table."""
