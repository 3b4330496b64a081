"""Shared by the tests of datasets: options as a recipe gives them, and files of MATLAB's newer generation."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
from rasterio import Affine

from fusionkit.options import options_model


@pytest.fixture
def make() -> Callable[..., Any]:
    """Build a dataset from options that went through JSON and validation, as those of a recipe do."""

    def make(target: type, /, **options: Any) -> Any:
        return target(**dict(options_model(target).model_validate_json(json.dumps(options, default=str))))

    return make


@pytest.fixture
def geotiff() -> Callable[..., Path]:
    """Write values `[C, H, W]` as a GeoTIFF; by default of pixels of 10 m, its upper left corner at (1000, 2000)."""

    def geotiff(
        path: Path, values: np.ndarray, *, pixel: float = 10, corner: Any = (1000, 2000), **profile: Any
    ) -> Path:
        count, height, width = values.shape
        where = {"crs": "EPSG:32617", "transform": Affine(pixel, 0, corner[0], 0, -pixel, corner[1])}
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = {"count": count, "height": height, "width": width, "dtype": values.dtype}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that do not say where they lie
            with rasterio.open(path, "w", driver="GTiff", **shape, **(where | profile)) as file:
                file.write(values)
        return path

    return geotiff


@pytest.fixture
def save73() -> Callable[..., None]:
    """Write a .mat file as MATLAB does with `save -v7.3`: HDF5 behind a block of text, axes in reverse."""
    classes = {"f8": "double", "f4": "single", "u1": "uint8", "i2": "int16", "b1": "logical"}

    def save73(path: Path, **variables: Any) -> None:
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, value in variables.items():
                if isinstance(value, str):
                    data = file.create_dataset(name, data=np.array([[ord(c)] for c in value], np.uint16))
                    data.attrs["MATLAB_class"] = np.bytes_("char")
                elif isinstance(value, list):
                    words = [
                        file.create_dataset(f"#refs#/{name}{i}", data=np.array([[ord(c)] for c in word], np.uint16))
                        for i, word in enumerate(value)
                    ]
                    for word in words:
                        word.attrs["MATLAB_class"] = np.bytes_("char")
                    data = file.create_dataset(name, (1, len(words)), h5py.ref_dtype)
                    data[0] = [word.ref for word in words]
                    data.attrs["MATLAB_class"] = np.bytes_("cell")
                else:
                    array = np.atleast_2d(value)
                    data = file.create_dataset(name, data=array.T, compression="gzip", chunks=True)
                    data.attrs["MATLAB_class"] = np.bytes_(classes[array.dtype.str[1:]])
        with path.open("r+b") as raw:
            raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")

    return save73
