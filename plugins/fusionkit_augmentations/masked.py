"""Masked values stay masked, whatever is computed in their place."""

from __future__ import annotations

import numpy as np


def with_mask_of(value: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """The changed values, masked where `value` is; `changed` may come from its data."""
    if not isinstance(value, np.ma.MaskedArray):
        return changed
    return np.ma.MaskedArray(np.asarray(changed), np.ma.getmaskarray(value))
