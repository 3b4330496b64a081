"""Pixels without a measurement."""

from __future__ import annotations

import numpy as np

from fusionkit.errors import BadSample


def settle(values: np.ndarray, missing: np.ndarray | None, fill: float | None, path: object = "") -> np.ndarray | None:
    """Deal with missing pixels: none of them changes nothing, all of them means that the modality is absent.

    Args:
        values: of one sample.
        missing: where there is no measurement, of the same shape; NaN is missing anyway. None: nowhere else.
        fill: what to put there; None for nothing.
        path: the file, for the message.

    Raises:
        BadSample: some are missing, and nothing is to be put there.
    """
    if values.dtype.kind == "f":
        nan = np.isnan(values)
        missing = nan if missing is None else missing | nan
    if missing is None or not missing.any():
        return values
    if missing.all():
        return None
    if fill is None:
        count = int(missing.sum())
        raise BadSample(f"{count} of {missing.size} values are missing (nodata or NaN), and no `fill` is given", path)
    least = np.min_scalar_type(int(fill) if float(fill).is_integer() else fill)
    filled = values.astype(np.result_type(values.dtype, least))
    filled[missing] = fill
    return filled
