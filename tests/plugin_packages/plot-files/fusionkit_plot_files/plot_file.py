"""The format of `.plot` files."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusionkit import BadSample

MAGIC, VERSION = b"PLOT", 1
_HEADER = struct.Struct("<4sHHHHH")


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Args:
        image: bands, height and width; None where there is no image.
        spectrum: bands; None where there is no spectrum.
    """

    image: tuple[int, int, int] | None
    spectrum: int | None

    @property
    def size(self) -> int:
        """Of the whole file, in bytes."""
        return _HEADER.size + 2 * int(np.prod(self.image or 0)) + 4 * (self.spectrum or 0)


def read_header(path: Path) -> Header:
    """Read a file's header alone.

    Raises:
        BadSample: it cannot be read, or is not a file of this format.
    """
    return _header(_bytes(path, _HEADER.size), path)


def read_plot(path: Path) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Read the image, uint16 `[C, H, W]`, and the spectrum, float32 `[D]`; None where there is none.

    Raises:
        BadSample: as for `read_header`; or it is not as long as its header says.
    """
    content = _bytes(path)
    header = _header(content, path)
    if len(content) != header.size:
        raise BadSample(f"has {len(content)} bytes, and by its header {header.size}", path)
    image = spectrum = None
    if header.image is not None:
        values = np.frombuffer(content, "<u2", int(np.prod(header.image)), _HEADER.size)
        image = values.reshape(header.image).astype(np.uint16)
    if header.spectrum is not None:
        spectrum = np.frombuffer(content, "<f4", header.spectrum, header.size - 4 * header.spectrum).astype(np.float32)
    return image, spectrum


def write_plot(path: Path, image: np.ndarray | None, spectrum: np.ndarray | None) -> None:
    """Write an image `[C, H, W]` of counts and a spectrum `[D]`, or None where there is none."""
    bands = 0 if spectrum is None else len(spectrum)
    content = _HEADER.pack(MAGIC, VERSION, *((0, 0, 0) if image is None else image.shape), bands)
    content += b"" if image is None else image.astype("<u2").tobytes()
    content += b"" if spectrum is None else spectrum.astype("<f4").tobytes()
    path.write_bytes(content)


def _bytes(path: Path, most: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise BadSample(f"cannot be read: {error.strerror}", path) from error


def _header(content: bytes, path: Path) -> Header:
    if not content:
        raise BadSample("is empty", path)
    if not content.startswith(MAGIC):
        raise BadSample("is no .plot file", path)
    if len(content) < _HEADER.size:
        raise BadSample(f"ends within its header, after {len(content)} bytes", path)
    _, version, *image, spectrum = _HEADER.unpack_from(content)
    if version != VERSION:
        raise BadSample(f"is of version {version} of the format, and {VERSION} is known", path)
    bands, height, width = image
    return Header((bands, height, width) if any(image) else None, spectrum or None)
