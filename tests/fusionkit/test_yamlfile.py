"""YAML with positions: what is a number, where things stand, and what is said of broken files."""

from __future__ import annotations

import math

import pytest

from fusionkit.errors import Position, RecipeError
from fusionkit.yamlfile import Located, load_yaml


def problems(text: str) -> list[str]:
    """Everything that is said of a file, whether at once or with later findings."""
    try:
        found = load_yaml(text, "f.yaml").problems
    except RecipeError as error:
        found = error.problems
    return [str(problem) for problem in found]


# The core schema of YAML 1.2.2, section 10.3.2, by hand.
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-5", 3e-5),
        ("1e3", 1000.0),
        ("-1.5E+2", -150.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("+12", 12),
        ("010", 10),
        ("0o17", 15),
        ("0xfF", 255),
        ("-.inf", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("2024-01-01", "2024-01-01"),
        ("12:30:00", "12:30:00"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ('"256"', "256"),
        ("!!str 256", "256"),
        ("!!float 1", 1.0),
        ("=", "="),
        ("住宅", "住宅"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    data = load_yaml(f"key: {text}", "f").data["key"]
    assert data == value
    assert type(data) is type(value)


def test_not_a_number_is_read_as_one() -> None:
    assert math.isnan(load_yaml(".nan", "f").data)


def test_nothing_at_all() -> None:
    assert load_yaml("", "f").data is None
    assert load_yaml("# a comment\n", "f").data is None


def test_positions_are_those_of_keys_and_items() -> None:
    located = load_yaml("a: 1\nb:\n  - x\n  -   c: 2\nd: {e: [3, 4]}\n", "f.yaml")
    assert located.data == {"a": 1, "b": ["x", {"c": 2}], "d": {"e": [3, 4]}}
    at = {path: (found.line, found.column) for path, found in located.positions.items()}
    assert at == {
        (): (1, 1),
        ("a",): (1, 1),
        ("b",): (2, 1),
        ("b", 0): (3, 5),
        ("b", 1): (4, 7),
        ("b", 1, "c"): (4, 7),
        ("d",): (5, 1),
        ("d", "e"): (5, 5),
        ("d", "e", 0): (5, 9),
        ("d", "e", 1): (5, 12),
    }


def test_a_key_that_is_not_there_has_the_position_of_the_one_above() -> None:
    located = load_yaml("a:\n  b: 1\n", "f.yaml")
    assert str(located.position(("a", "b", "c", 0))) == "f.yaml:2:3"
    assert str(located.position(("a", "x"))) == "f.yaml:1:1"
    assert Located({}).position(("a",)) == Position("recipe")


def test_a_byte_order_mark_and_windows_lines_move_nothing() -> None:
    located = load_yaml("\ufeffa: 1\r\nb: 2\r\n", "f.yaml")
    assert located.data == {"a": 1, "b": 2}
    assert str(located.position(("a",))) == "f.yaml:1:1"
    assert str(located.position(("b",))) == "f.yaml:2:1"


def test_an_alias_is_a_copy_that_stands_where_it_is_used() -> None:
    located = load_yaml("a: &x {k: 1}\nb: *x\n", "f.yaml")
    assert located.data == {"a": {"k": 1}, "b": {"k": 1}}
    assert located.data["a"] is not located.data["b"]
    assert located.position(("b",)).line == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a:\n\tb: 2", "f.yaml:2:1: a tab indents this line; YAML takes spaces only"),
        ("a:\n  b: 1\n  \tc: 2", "f.yaml:3:3: a tab indents this line; YAML takes spaces only"),
        ("a: 1\n\tb: 2", "f.yaml:2:1: a tab indents this line; YAML takes spaces only"),
        ("a:\tb", "f.yaml:1:3: YAML syntax: a tab stands here; use spaces"),
        ("a: b: c", "f.yaml:1:5: YAML syntax: a `:` that cannot stand here; indent like the lines above, or quote"),
        ("a: 1\n b: 2", "f.yaml:2:3: YAML syntax: a `:` that cannot stand here; indent like the lines above, or quote"),
        ("a: 1\nbcd\ne: 1", "f.yaml:2:1: YAML syntax: this line has no `:`; write `key: value`"),
        ("a:\n  b: 1\n c: 2", "f.yaml:3:2: YAML syntax: the indentation agrees with none of the lines above"),
        ("a: [1,\n2\nb: 3", "f.yaml:3:2: YAML syntax: a `,` or the closing `]` is missing (opened in line 1)"),
        ("a: 1\nb: {c: 1\n", "f.yaml:3:1: YAML syntax: a `,` or the closing `}` is missing (opened in line 2)"),
        ("a: {b: ${HOME}/c}", "f.yaml:1:9: YAML syntax: text with `{` in it needs quotes here"),
        ("a: [b,, c]", "f.yaml:1:7: YAML syntax: no value stands before this `,`; text that starts so needs quotes"),
        ("  a: 1\nb: 2", "f.yaml:2:1: YAML syntax: the indentation agrees with none of the lines above"),
        ("{a: 1}}", "f.yaml:1:7: YAML syntax: something follows the end of a value; quote the whole value"),
        ("a: 1\nb: 'x\nc: 1", "f.yaml:2:4: YAML syntax: the quote is not closed"),
        ("a: @x", "f.yaml:1:4: YAML syntax: text cannot start with `@`; put it in quotes"),
        ("a: *x", "f.yaml:1:4: YAML syntax: there is no anchor &x above"),
        ('a: "x" y', "f.yaml:1:8: YAML syntax: something follows the end of a value; quote the whole value"),
        ("a: 1\n---\nb: 2", "f.yaml:2:1: YAML syntax: a recipe is one document; nothing may follow this `---`"),
        ("a: 1\nb: \x00", "f.yaml:2:4: YAML allows no '\\x00' here"),
        ("a: 1\na: 2\nb: 1\na: 3", "f.yaml:2:1: a: given twice, first in line 1; remove one"),
        ("x: {a: 1}\ny: {b: 1,\n  b: 2}", "f.yaml:3:3: y.b: given twice, first in line 2; remove one"),
        ("a:\n  ? [b]\n  : c", "f.yaml:2:5: a: a key must be a word or a whole number"),
        ("1.5: c", "f.yaml:1:1: a key must be a word or a whole number"),
        ("true: c", "f.yaml:1:1: a key must be a word or a whole number"),
        ("a: &x {k: 1}\nb: {<<: *x}", "f.yaml:2:5: b: the merge key `<<` is not supported; write the keys out"),
        ("a: !!python/object:os.system x", "f.yaml:1:1: a: the tag !!python/object:os.system is not allowed"),
        ("a: !mine {b: 1}", "f.yaml:1:1: a: the tag !mine is not allowed"),
        ("a: !!set {b, c}", "f.yaml:1:1: a: the tag !!set is not allowed"),
        ("a: !!timestamp 2024-01-01", "f.yaml:1:1: a: the tag !!timestamp is not allowed"),
        ("a: !!int x", "f.yaml:1:1: a: 'x' is no int"),
        ("a: !!bool x", "f.yaml:1:1: a: 'x' is no bool"),
        ("a: &x [1, *x]", "f.yaml:1:4: a.1: an alias inside of what it stands for"),
        ("[" * 1500, "f.yaml:1:1: nested too deeply"),
    ],
)
def test_what_is_said_of_a_broken_file(text: str, told: str) -> None:
    assert problems(text)[0].startswith(told)


def test_all_duplicates_and_tags_are_told_at_once_and_the_rest_is_read() -> None:
    text = "a: 1\na: 2\nb: !x 1\nc: 3\nc: 4\n"
    assert [told.split(":")[1] for told in problems(text)] == ["2", "3", "5"]
    assert load_yaml(text, "f").data == {"a": 1, "b": None, "c": 3}


def test_aliases_that_multiply_are_stopped() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert "more than 100000 values, counting what aliases repeat" in problems("\n".join(lines))[0]


def test_a_tab_that_does_not_indent_is_no_fault() -> None:
    assert load_yaml("a: 'b\tc'\nd: |\n  x\n  \ty\n", "f").data == {"a": "b\tc", "d": "x\n\ty\n"}
