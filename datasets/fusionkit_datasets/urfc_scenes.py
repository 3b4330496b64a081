"""Made-up satellite tiles: six built patterns, each with its own turn, place, colours, light and neighbourhood."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

SIZE = 100
_NEIGHBOUR = 0.25  # share of a tile that may show another pattern

_ROWS, _COLUMNS = np.mgrid[:SIZE, :SIZE].astype(np.float32)
_LAWN = np.array([92, 118, 66], np.float32)
_SOIL = np.array([150, 134, 108], np.float32)
_CONCRETE = np.array([164, 160, 152], np.float32)
_ASPHALT = np.array([108, 108, 112], np.float32)
_WATER = np.array([52, 78, 96], np.float32)


def draw_scene(scene: int, city: float, random: np.random.Generator) -> np.ndarray:
    """Draw a tile.

    Args:
        scene: index into `SCENES`.
        city: size of the city, 0 to 1: a large one is denser, darker and under more haze.
        random: where all else comes from.

    Returns:
        RGB, uint8 `[100, 100, 3]`.
    """
    tile = _draw(scene, city, random)
    if random.random() < 0.5:
        neighbour = _draw(int(random.integers(len(SCENES))), city, random)
        along, _ = _turned(random)
        edge = np.quantile(along, random.uniform(1 - _NEIGHBOUR, 1))
        tile = np.where((along > edge)[..., None], neighbour, tile)
    light = random.uniform(0.9, 1.25) - 0.4 * city
    haze = random.uniform(0, 0.15) + 0.15 * city
    tint = random.normal(1, 0.05, 3)
    tile = tile * (light * tint * (1 - haze)) + 140 * haze + random.normal(0, 5, tile.shape)
    return np.clip(tile, 1, 254).astype(np.uint8)


def _draw(scene: int, city: float, random: np.random.Generator) -> np.ndarray:
    return list(SCENES.values())[scene](city, random) * (1 + 0.1 * _clouds(random, 6))[..., None]


def _houses(city: float, random: np.random.Generator) -> np.ndarray:
    """Rows of small roofs with gardens between them."""
    tile = _ground(_LAWN, random, rough=0.25)
    along, across = _turned(random)
    pitch = random.uniform(11, 14) - 2 * city
    roofs, shade = _boxes(along, across, pitch, 0.8 * pitch, 0.62, random)
    _paint(tile, (across / pitch / 0.8) % 4 < 0.5, _ASPHALT)
    _paint(tile, roofs, np.array([158, 96, 78]), shade)
    return tile


def _campus(city: float, random: np.random.Generator) -> np.ndarray:
    """A running track around a field, and a few long buildings."""
    tile = _ground(0.5 * (_LAWN + _SOIL), random, rough=0.15)
    along, across = _turned(random)
    side = random.choice([-1, 1])
    blocks, shade = _boxes(along, across, random.uniform(34, 42), random.uniform(16, 20), 0.62, random)
    _paint(tile, blocks, np.array([196, 188, 178]), shade)
    radius, half = random.uniform(15, 19) - 2 * city, random.uniform(14, 20)
    middle = across - side * random.uniform(8, 16)
    off = np.hypot(np.maximum(np.abs(along) - half, 0), middle)
    _paint(tile, off < radius + 6, np.array([176, 84, 66]))
    _paint(tile, off < radius, np.array([84, 134, 62]))
    return tile


def _sheds(city: float, random: np.random.Generator) -> np.ndarray:
    """A few very large roofs with ridges, on concrete."""
    tile = _ground(_CONCRETE, random, rough=0.08)
    along, across = _turned(random)
    length, width = random.uniform(50, 64), random.uniform(30, 38) - 4 * city
    roofs, shade = _boxes(along, across, length, width, 0.84, random)
    colour = np.array([[226, 228, 230], [120, 150, 196]])[random.integers(2)]
    _paint(tile, roofs, colour, shade * (1 - 0.12 * (across % 6 < 1.5)))
    return tile


def _lines(city: float, random: np.random.Generator) -> np.ndarray:
    """A wide band of parallel lines: tracks, or a runway with its taxiways."""
    tile = _ground(_SOIL if random.random() < 0.5 else _LAWN, random, rough=0.15)
    along, across = _turned(random)
    half, pitch = random.uniform(24, 34), random.uniform(5, 7)
    band = np.abs(across) < half
    _paint(tile, band, np.array([128, 118, 108]))
    _paint(tile, band & (across % pitch < 0.35 * pitch), np.array([62, 58, 58]))
    _paint(tile, (np.abs(across - half) < 4) & (along % 40 < 30), np.array([214, 210, 200]))
    return tile


def _open(city: float, random: np.random.Generator) -> np.ndarray:
    """Grass, woods and water, hardly a straight edge."""
    tile = _ground(_LAWN, random, rough=0.15)
    woods, water = _clouds(random, 7), _clouds(random, 4)
    _paint(tile, woods > 0.3, np.array([48, 76, 42]), 1 + 0.3 * _clouds(random, 40))
    _paint(tile, water > np.quantile(water, random.uniform(0.7, 0.85)), _WATER)
    _paint(tile, np.abs(_clouds(random, 5)) < 0.04, np.array([190, 180, 160]))
    return tile


def _towers(city: float, random: np.random.Generator) -> np.ndarray:
    """High blocks close together, each with its shadow, in a net of streets."""
    tile = _ground(_ASPHALT, random, rough=0.1)
    along, across = _turned(random)
    pitch = random.uniform(21, 26) - 4 * city
    shift = random.uniform(3, 5) + 2 * city
    turn = random.uniform(0, 2 * np.pi)
    roofs, shade = _boxes(along, across, pitch, pitch, 0.58, random)
    shadow = roofs.copy()
    for part in (0.5, 1.0):
        rows, columns = round(part * shift * np.sin(turn)), round(part * shift * np.cos(turn))
        shadow |= np.roll(roofs, (rows, columns), (0, 1))
    _paint(tile, shadow, np.array([34, 36, 44]))
    _paint(tile, roofs, np.array([198, 194, 190]), shade)
    return tile


SCENES: dict[str, Callable[[float, np.random.Generator], np.ndarray]] = {
    "houses": _houses,
    "campus": _campus,
    "sheds": _sheds,
    "lines": _lines,
    "open": _open,
    "towers": _towers,
}


def _turned(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in pixels about a middle near the tile's, turned by any angle."""
    angle = random.uniform(0, 2 * np.pi)
    y = _ROWS - SIZE / 2 - random.uniform(-8, 8)
    x = _COLUMNS - SIZE / 2 - random.uniform(-8, 8)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def _boxes(
    along: np.ndarray, across: np.ndarray, length: float, width: float, fill: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rectangles in a grid: where they are, and a shade that differs from one to the next."""
    u, v = along / length + random.random(), across / width + random.random()
    column, row = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    shades = random.uniform(0.75, 1.15, (16, 16)).astype(np.float32)
    built = random.random((16, 16)) < 0.94
    cell = column % 16, row % 16
    inside = (np.abs(u - column - 0.5) < fill / 2) & (np.abs(v - row - 0.5) < fill / 2)
    return inside & built[cell], shades[cell]


def _ground(colour: np.ndarray, random: np.random.Generator, *, rough: float) -> np.ndarray:
    shade = 1 + rough * (0.6 * _clouds(random, 8) + 0.4 * _clouds(random, 30))
    return shade[..., None] * (colour * random.normal(1, 0.05, 3)).astype(np.float32)


def _paint(tile: np.ndarray, where: np.ndarray, colour: np.ndarray, shade: np.ndarray | None = None) -> None:
    colour = colour.astype(np.float32)
    tile[where] = colour if shade is None else shade[where][:, None] * colour


def _clouds(random: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise, about -1 to 1, with that many cells a side."""
    spread = _interpolation(cells)
    return spread @ random.uniform(-1, 1, (cells + 1, cells + 1)).astype(np.float32) @ spread.T


@cache
def _interpolation(cells: int) -> np.ndarray:
    """`[100, cells + 1]`, from the values at evenly spaced points to those at each pixel, linearly between two."""
    place = np.linspace(0, cells, SIZE, dtype=np.float32)[:, None]
    return np.maximum(0, 1 - np.abs(place - np.arange(cells + 1, dtype=np.float32)))
