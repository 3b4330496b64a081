"""Scales of raster values: what a recipe states, what is made of it, and whether the values seen agree."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import Discriminator, Field, Tag

from fusionkit.errors import DataError
from fusionkit_datasets.references import Keys

_REFLECTANCE = (-0.1, 2.0)
"""What reflectance can be: noise leads a little below 0; snow, clouds and glints above 1."""
_DARK = 1e-3
"""Where nearly all values are below this, they had been reflectance before the factor."""
_LOUDEST = 60.0
"""No backscatter is this strong, in decibels."""
_FEW = 0.01
"""The share of values that noise may put out of range."""


class Reflectance(Keys):
    """Numbers that become reflectance, 0 to 1, by a factor."""

    reflectance: Annotated[float, Field(gt=0)]
    """The factor, for example 1e-4."""

    def apply(self, values: np.ndarray, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The values times the factor, as 32-bit floats, and what is missing then."""
        return values * np.float32(self.reflectance), missing

    def check(self, values: np.ndarray) -> None:
        """Hold some measured values, as they are in the file, against the factor.

        Raises:
            DataError: most would be no reflectance.
        """
        scaled = values.astype(np.float64) * self.reflectance
        low, middle, high = np.quantile(scaled, [0.02, 0.5, 0.98])
        seen = f"of the values seen, times {self.reflectance:g}, the middle 96 % are {low:.4g} to {high:.4g}"
        if np.mean((scaled < _REFLECTANCE[0]) | (scaled > _REFLECTANCE[1])) > 0.5:
            power = int(np.ceil(np.log10(max(abs(high), abs(low)) / self.reflectance / _REFLECTANCE[1])))
            better = f"perhaps `reflectance: {10.0**-power:g}`"
        elif 0 < np.abs([low, middle, high]).max() < _DARK:
            better = "leave `scale` out where the file holds reflectance already"
        else:
            return
        raise DataError(f"{seen}, which is no reflectance (0 to 1); write the factor that makes it so, {better}")


class Sar(Keys):
    """Backscatter of a radar."""

    sar: Literal["db", "linear"]
    """What the file holds: decibels or linear power."""
    to: Literal["db", "linear"] | None = None
    """What the model is to be given. Default: as in the file. Power of 0 or less has no decibels and is missing."""

    def apply(self, values: np.ndarray, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The values converted, where that is asked for, and what is missing then."""
        if self.to in (None, self.sar):
            return values, missing
        values = values.astype(np.float32)
        if self.to == "linear":
            return np.power(np.float32(10), values / 10), missing
        missing = missing | ~(values > 0)
        return 10 * np.log10(np.where(missing, np.float32(1), values)), missing

    def check(self, values: np.ndarray) -> None:
        """Hold some measured values, as they are in the file, against what they are said to be.

        Raises:
            DataError: they are something else.
        """
        if self.sar == "db" and np.mean(values > _LOUDEST) > _FEW:
            raise DataError(
                f"the values reach {values.max():.4g} and {np.mean(values > _LOUDEST):.0%} of those seen are above "
                f"{_LOUDEST:g}, so they are no decibels; write `sar: linear`, or leave `scale` out for digital numbers"
            )
        if self.sar == "linear" and np.mean(values < 0) > _FEW:
            raise DataError(
                f"{np.mean(values < 0):.0%} of the values seen are negative (down to {values.min():.4g}), which linear "
                "power is not; write `sar: db`"
            )


def _form(value: Any) -> str:
    return "sar" if isinstance(value, Sar) or (isinstance(value, dict) and "sar" in value) else "reflectance"


Scale: TypeAlias = Annotated[
    Annotated[Reflectance, Tag("reflectance")] | Annotated[Sar, Tag("sar")], Discriminator(_form)
]
