"""From the width of one network's tokens to that of another's."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field
from torch import nn

from fusionkit.errors import RequestError

_KIND = re.compile(r"linear|mlp([1-9][0-9]?)x_gelu")
Projector = Annotated[str, Field(pattern=f"^({_KIND.pattern})$")]
"""`linear`, or `mlpNx_gelu`."""


def make_projector(kind: str, width: int, dim: int) -> nn.Sequential:
    """The projector of Liu et al., Improved Baselines with Visual Instruction Tuning (LLaVA-1.5), CVPR 2024.

    Args:
        kind: "linear", one layer; or "mlpNx_gelu", N of them with exact GELUs between, the first of which widens.
            All have biases; there is neither norm nor dropout.
        width: of what comes in.
        dim: of what goes out, and of what is between.

    Raises:
        RequestError: there is no such projector.
    """
    found = _KIND.fullmatch(kind)
    if found is None:
        raise RequestError(f"there is no projector {kind!r}; linear, mlp2x_gelu, mlp3x_gelu, ...")
    layers: list[nn.Module] = [nn.Linear(width, dim)]
    for _ in range(1, int(found[1] or 1)):
        layers += [nn.GELU(), nn.Linear(dim, dim)]
    return nn.Sequential(*layers)
