"""Our notation, for griffe, which reads the Python code.

Shapes are shown as docstrings write them: `Float[Tensor, "B N D"]` as `Float[B, N, D]`. And arguments that a docstring
describes together, as `target, prediction: class indices`, become one each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import griffe

_TYPES = {"Bool", "Float", "Int", "Int64", "Shaped"}
_ARRAYS = {"Tensor", "np.ndarray"}
_TOGETHER = re.compile(r"^( +)(\w+(?:, \w+)+)(: .+(?:\n\1 +.+)*)", re.MULTILINE)


class Notation(griffe.Extension):
    """Rewrites what is read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = one_each(obj.docstring.value)
        if isinstance(obj, griffe.Function):
            for annotation in (obj.returns, *(parameter.annotation for parameter in obj.parameters)):
                show_shapes(annotation)
        elif isinstance(obj, griffe.Attribute):
            show_shapes(obj.annotation)


def one_each(docstring: str) -> str:
    """The docstring with each argument described by itself."""
    return _TOGETHER.sub(
        lambda found: "\n".join(f"{found[1]}{name}{found[3]}" for name in found[2].split(", ")), docstring
    )


def show_shapes(annotation: str | griffe.Expr | None) -> None:
    """Rewrite the shapes in an annotation."""
    for part in _parts(annotation):
        if not (isinstance(part, griffe.ExprSubscript) and str(part.left) in _TYPES):
            continue
        if isinstance(part.slice, griffe.ExprTuple) and str(part.slice.elements[0]) in _ARRAYS:
            axes = str(part.slice.elements[1]).strip("'\"")
            part.slice = ", ".join(axes.split()) or "()"


def _parts(found: Any) -> Iterator[griffe.Expr]:
    """The expressions within one, itself the first."""
    if isinstance(found, griffe.Expr):
        yield found
        found = [getattr(found, field.name) for field in fields(found) if field.name != "parent"]
    if isinstance(found, list):
        for one in found:
            yield from _parts(one)
