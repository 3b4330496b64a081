"""How a recipe names arrays: `file.npz:key`, or a mapping that says more; alone, stacked, or divided into splits."""

from __future__ import annotations

import re
from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    PositiveInt,
    Tag,
    model_validator,
)
from pydantic_core import CoreSchema

from fusionkit.options import DataPath

Format = Literal["npy", "npz", "mat", "hdf5", "text", "raster"]
Slice = Annotated[str, Field(pattern=r"^(-?\d+)?:(-?\d+)?(:-?[1-9]\d*)?$")]
PARTS = ("train", "val", "test")

_SHORT = re.compile(r"(?P<file>(?:[A-Za-z]:[\\/])?[^:]+)(?::(?P<key>.+))?")


class Keys(BaseModel):
    """Base of structured options: strict and closed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class Selected(Keys):
    """Positions taken from one axis of an array."""

    axis: int | str | None = None
    """The axis that `index` picks from: a number from 0, or a letter of `axes`."""
    index: int | list[int] | Slice | None = None
    """What is taken from `axis`: positions such as `[0, 1]`, a range such as `"0:3"`, or one position, which drops
    the axis."""

    @model_validator(mode="after")
    def _both(self) -> Selected:
        if (self.axis is None) != (self.index is None):
            raise ValueError("`axis` and `index` go together")
        return self


class FileRef(Selected):
    """One array of a file. Short form: `file`, or `file:key` (for text files `file:column`)."""

    file: DataPath
    """npy, npz, .mat, HDF5 or delimited text; within `root`."""
    format: Format | None = None
    """Of a file whose suffix does not say it."""
    key: str | None = None
    """Name of the array in an npz, .mat or HDF5 file; needed where the file holds several."""
    column: int | str | None = None
    """One column of a text file, by name or number from 0."""
    columns: str | list[int | str] | None = Field(None, min_length=1)
    """Several columns of a text file: names, numbers or patterns such as `band_*`. Default: all."""
    delimiter: str | None = Field(None, min_length=1, max_length=1)
    """Between the columns. Default: a comma in .csv, a tab in .tsv, white space elsewhere."""
    header: bool | None = None
    """Whether line 1 of a text file names the columns. Default: in .csv and .tsv, and where a column is named."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, str):
            match = _SHORT.fullmatch(value)
            if not match:
                raise ValueError("write `file` or `file:key`")
            return {name: part for name, part in match.groupdict().items() if part is not None}
        if not isinstance(value, dict | cls):
            raise ValueError("write `file`, `file:key` or a mapping with `file`")
        return value

    @model_validator(mode="after")
    def _one_choice(self) -> FileRef:
        if self.column is not None and self.columns is not None:
            raise ValueError("give `column` or `columns`, not both")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        mapping = handler.resolve_ref_schema(handler(schema))
        return {"anyOf": [{"type": "string", "description": "file, or file:key"}, mapping]}

    @property
    def content(self) -> str:
        """Equal where two references read the same from the file, whatever they then take of it."""
        return self.model_dump_json(include=set(FileRef.model_fields) - set(Selected.model_fields))

    def __str__(self) -> str:
        key = next((key for key in (self.key, self.column, self.columns) if key is not None), None)
        return f"{self.file.name}:{key}" if key is not None else self.file.name


class ArrayRef(FileRef):
    """The samples of one modality."""

    axes: str | None = Field(None, pattern="^[nchwtd]+$")
    """The order of the axes, a letter each: n samples, c channels, h rows, w columns, t steps, d features. Default:
    `n`, `nd`, `ntd` or `nchw` by their number; in a list with maps, `nhw`."""


class SceneRef(FileRef):
    """A scene: an array of rows, columns and channels, or a raster."""

    axes: str | None = Field(None, pattern="^[chw]+$")
    """The order of the axes: h rows, w columns, c channels. Default: `hw` and `hwc`; `chw` for rasters."""
    bands: list[PositiveInt] | None = Field(None, min_length=1)
    """Bands of a raster, from 1. Default: all."""
    nodata: float | None = None
    """The value that means that there is no measurement. Default: what a raster declares."""
    fill: float | None = None
    """What to put for missing pixels (nodata or NaN) of a window that has others. Without it such a window is bad."""


class MapRef(FileRef):
    """One value a pixel: labels, a mask, field numbers."""

    band: PositiveInt | None = None
    """Band of a raster, from 1. Default: the first."""


T = TypeVar("T")


class Splits(Keys, Generic[T]):
    """The same of each part of an official split."""

    train: T | None = None
    val: T | None = None
    test: T | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Splits[T]:
        if not self.parts():
            raise ValueError("name the train, val or test part")
        return self

    def parts(self) -> dict[str, T]:
        return {part: value for part in PARTS if (value := getattr(self, part)) is not None}


def _shape(value: Any) -> str:
    """Which form a reference is written in; decides alone, so that errors speak of one form only."""
    if isinstance(value, Splits) or (isinstance(value, dict) and value.keys() & set(PARTS) and "file" not in value):
        return "splits"
    return "list" if isinstance(value, list) else "one"


def _shape_without_list(value: Any) -> str:
    return "splits" if _shape(value) == "splits" else "one"


R = TypeVar("R")
_Stack = Annotated[
    Annotated[R, Tag("one")] | Annotated[Annotated[list[R], Field(min_length=1)], Tag("list")], Discriminator(_shape)
]
Arrays: TypeAlias = Annotated[
    Annotated[ArrayRef, Tag("one")]
    | Annotated[Annotated[list[ArrayRef], Field(min_length=1)], Tag("list")]
    | Annotated[Splits[_Stack[ArrayRef]], Tag("splits")],
    Discriminator(_shape),
]
"""The samples of a modality: one array, a list stacked along the channels, or either for each part of a split."""
Facts: TypeAlias = Annotated[
    Annotated[FileRef, Tag("one")] | Annotated[Splits[FileRef], Tag("splits")], Discriminator(_shape_without_list)
]
"""One value a sample."""
Scenes: TypeAlias = _Stack[SceneRef]
"""A scene, or several stacked along the channels."""
Maps: TypeAlias = Annotated[
    Annotated[MapRef, Tag("one")] | Annotated[Splits[MapRef], Tag("splits")], Discriminator(_shape_without_list)
]
"""One value a pixel, or that for each part of a split."""


def by_part(source: Any) -> dict[str, Any]:
    """The parts of a source; `{"": source}` where it is not divided."""
    return source.parts() if isinstance(source, Splits) else {"": source}


def as_list(source: R | list[R]) -> list[R]:
    """The stacked arrays; one where nothing is stacked."""
    return source if isinstance(source, list) else [source]
