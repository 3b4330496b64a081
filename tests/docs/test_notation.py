"""Shapes and arguments as griffe is to read them."""

from __future__ import annotations

import griffe
import pytest
from fusionkit_site.notation import Notation, one_each, show_shapes

IMPORTS = """
from __future__ import annotations
from typing import Literal
import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor
"""


@pytest.fixture
def read(tmp_path):
    """Reads a module of this text, without importing it."""

    def read(text: str) -> griffe.Module:
        (tmp_path / "shaped.py").write_text(f"{IMPORTS}{text}", encoding="utf-8")
        module = griffe.load("shaped", search_paths=[tmp_path], extensions=griffe.load_extensions(Notation()))
        assert isinstance(module, griffe.Module)
        return module

    return read


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ('Float[Tensor, "B N D"]', "Float[B, N, D]"),
        ('Bool[Tensor, " B"]', "Bool[B]"),
        ('Shaped[Tensor, "B ..."]', "Shaped[B, ...]"),
        ('Bool[Tensor, "..."]', "Bool[...]"),
        ('Float[Tensor, ""]', "Float[()]"),
        ('dict[str, Float[np.ndarray, "H W"]]', "dict[str, Float[H, W]]"),
        ('Int64[Tensor, " B"] | Float[Tensor, "B K"] | None', "Int64[B] | Float[B, K] | None"),
        ('Literal["fused", "both"]', "Literal['fused', 'both']"),
        ("tuple[Tensor, str]", "tuple[Tensor, str]"),
    ],
)
def test_shapes_are_shown_without_quotes(read, written, shown):
    module = read(f"value: {written}\ndef function(given: {written}) -> {written}: ...\n")
    function = module["function"]
    assert [str(module["value"].annotation), str(function.parameters["given"].annotation), str(function.returns)] == [
        shown
    ] * 3


def test_a_function_without_types_is_left_as_it_is(read):
    assert read("def function(given): ...\n")["function"].parameters["given"].annotation is None
    show_shapes(None)


def test_arguments_described_together_become_one_each(read):
    text = '''
def function(first, second, third):
    """What it does, second, third: words with a colon.

    Args:
        first, second: class indices,
            and more of them.
        third: another.
    """
'''
    docstring = read(text)["function"].docstring
    (arguments,) = [part for part in docstring.parse("google", warnings=False) if part.kind.value == "parameters"]
    assert [(argument.name, argument.description) for argument in arguments.value] == [
        ("first", "class indices,\nand more of them."),
        ("second", "class indices,\nand more of them."),
        ("third", "another."),
    ]
    assert docstring.value.startswith("What it does, second, third: words with a colon.")


def test_an_argument_alone_stays_as_it_is():
    assert one_each("Args:\n    first: a, b: c\n") == "Args:\n    first: a, b: c\n"
