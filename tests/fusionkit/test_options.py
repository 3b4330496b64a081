"""Options out of constructors: types, defaults and descriptions; paths with variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import BaseModel, PositiveInt, ValidationError

from fusionkit.options import DataPath, Options, Probability, argument_docs, arguments_model, expand_path, options_model

if TYPE_CHECKING:
    from nowhere import Spec


class Inner(BaseModel):
    size: int = 1


class Part:
    """A part.

    Some prose: with a colon.

    Args:
        spec: what the core hands over.
        dim: width of
            the result, two lines.
        rate (float): in brackets.
        undocumented_elsewhere: no such option.

    Raises:
        dim: not an argument.
    """

    def __init__(
        self,
        spec: Spec,
        /,
        *rest: Spec,
        dim: PositiveInt = 256,
        rate: Probability,
        sizes: Sequence[int] = (1, 2),
        pair: tuple[int, int] = (3, 4),
        root: DataPath | None = None,
        kind: Literal["a", "b"] = "a",
        gain: float = 1,
    ): ...


def test_keyword_only_arguments_are_the_options() -> None:
    model = options_model(Part)
    assert list(model.model_fields) == ["dim", "rate", "sizes", "pair", "root", "kind", "gain"]
    assert [name for name, told in model.model_fields.items() if told.is_required()] == ["rate"]
    assert model.model_fields["dim"].description == "width of the result, two lines."
    assert model.model_fields["rate"].description == "in brackets."
    assert model.model_fields["kind"].description is None


def test_values_of_json_become_the_types_of_the_constructor() -> None:
    options = options_model(Part).model_validate_json('{"rate": 1, "pair": [5, 6], "sizes": [7], "root": "x/y"}')
    assert dict(options) == {
        "dim": 256,
        "rate": 1.0,
        "sizes": [7],
        "pair": (5, 6),
        "root": Path("x/y"),
        "kind": "a",
        "gain": 1,
    }


@pytest.mark.parametrize(
    "given",
    [
        '{"rate": "0.5"}',
        '{"rate": true}',
        '{"rate": 2}',
        '{"rate": NaN}',
        '{"rate": 0, "dim": 1.0}',
        '{"rate": 0, "gain": Infinity}',
        '{"rate": 0, "gain": NaN}',
        '{"rate": 0, "dmi": 1}',
        '{"rate": 0, "pair": [1, 2, 3]}',
        '{"rate": 0, "kind": "c"}',
        "{}",
    ],
)
def test_options_are_strict(given: str) -> None:
    with pytest.raises(ValidationError):
        options_model(Part).model_validate_json(given)


def test_defaults_are_not_shared() -> None:
    class Listing:
        def __init__(self, *, items: list[int] = [1]): ...  # noqa: B006

    model = options_model(Listing)
    model().items.append(2)  # type: ignore[attr-defined]
    assert dict(model()) == {"items": [1]}


def test_a_class_without_a_constructor_has_no_options() -> None:
    class Empty: ...

    assert issubclass(options_model(Empty), Options)
    assert not options_model(Empty).model_fields


def test_a_constructor_is_inherited() -> None:
    class Child(Part): ...

    assert "dim" in options_model(Child).model_fields


def test_options_may_have_the_names_of_things_in_pydantic() -> None:
    class Odd:
        def __init__(self, *, model_name: str = "x", copy: int = 1): ...

    with pytest.warns(UserWarning, match="shadows"):
        model = options_model(Odd)
    assert dict(model.model_validate_json('{"copy": 2}')) == {"model_name": "x", "copy": 2}


class Untyped:
    def __init__(self, *, dim=3): ...


class Open:
    def __init__(self, **kwargs: int): ...


class Positional:
    def __init__(self, spec: int, dim: int = 3): ...


class NotImported:
    def __init__(self, *, dim: Spec): ...


class NoYaml:
    def __init__(self, *, options: Part): ...


class Private:
    def __init__(self, *, _dim: int = 3): ...


class Calling:
    def __init__(self, *, call: Callable[[], int] | None = None): ...


class Unreadable:
    def __init__(self, *, dim: 1 / 0 = 3): ...


class Misfit:
    def __init__(self, *, width: int, dim: PositiveInt = 0): ...


class OfAnotherKind:
    def __init__(self, *, sizes: tuple[int, ...] = ("a",)): ...


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (Calling, "Calling.__init__: Cannot generate a JsonSchema for core_schema.CallableSchema"),
        (Unreadable, "the type of option 'dim' of Unreadable.__init__ cannot be read: division by zero"),
        (Misfit, "the default of option 'dim' of Misfit.__init__ does not fit its type: .* greater than 0"),
        (OfAnotherKind, "the default of option 'sizes' of OfAnotherKind.__init__ does not fit its type: .* integer"),
        (Untyped, "option 'dim' of Untyped.__init__ has no type"),
        (Open, r"Open.__init__ takes \*\*kwargs; options are named one by one"),
        (Positional, r"option 'dim' of Positional.__init__ needs a `\*` before it"),
        (NotImported, "the type of option 'dim' of NotImported.__init__ is not imported at run time: .*'Spec'"),
        (NoYaml, "NoYaml.__init__: Unable to generate pydantic-core schema for .*Part"),
        (Private, "Private.__init__: Fields must not use names with leading underscores"),
    ],
)
def test_a_constructor_that_is_no_schema(target: type, told: str) -> None:
    with pytest.raises(TypeError, match=told) as error:
        options_model(target)
    assert "\n" not in str(error.value)


def test_a_default_may_be_what_this_environment_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rooted:
        def __init__(self, *, root: DataPath = Path("${NOWHERE}/x")): ...

    monkeypatch.delenv("NOWHERE", raising=False)
    assert options_model(Rooted)().root == Path("${NOWHERE}/x")


def test_the_arguments_of_a_function() -> None:
    def make(folder: Path, progress: Any = None, *, samples: PositiveInt = 10) -> None:
        """Make data up.

        Args:
            folder: where.
            samples: how many.
        """

    model = arguments_model(make)
    assert list(model.model_fields) == ["samples"]
    assert model.model_fields["samples"].description == "how many."


def test_argument_docs_end_with_their_section() -> None:
    text = "Title.\n\nArgs:\n    a: one\n        more: of it\n    b: two\n\n    c: three\n\nReturns:\n    d: four\n"
    assert argument_docs(text) == {"a": "one more: of it", "b": "two", "c": "three"}
    assert argument_docs("no such section: here") == {}


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("a/b", "a/b"),
        ("${DATA_HERE}/b", "/data/b"),
        ("$DATA_HERE/b", "/data/b"),
        ("/x/${DATA_HERE}${DATA_HERE}", "/x/data/data"),
        ("~/b", "/home/me/b"),
        ("${HOME_HERE}/b", "/home/me/b"),
        ("a/~/b", "a/~/b"),
        ("${FUSIONKIT_DATA}/b", "data/b"),
    ],
)
def test_paths(written: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA_HERE", "/data")
    monkeypatch.setenv("HOME_HERE", "~")
    monkeypatch.delenv("FUSIONKIT_DATA", raising=False)
    assert expand_path(Path(written)) == Path(found)


def test_the_folder_of_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSIONKIT_DATA", "/else")
    assert expand_path("${FUSIONKIT_DATA}/b") == Path("/else/b")
    monkeypatch.setenv("FUSIONKIT_DATA", "")
    assert expand_path("${FUSIONKIT_DATA}/b") == Path("data/b")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("${NOT_SET_HERE}/b", "the environment variable NOT_SET_HERE is not set"),
        ("${EMPTY_HERE}/b", "the environment variable EMPTY_HERE is not set"),
        ("~nobody-of-this-name/b", "there is no user ~nobody-of-this-name"),
    ],
)
def test_paths_that_lead_nowhere(written: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    monkeypatch.setenv("EMPTY_HERE", "")
    with pytest.raises(ValueError, match=told):
        expand_path(written)

    class Target:
        def __init__(self, *, root: DataPath): ...

    with pytest.raises(ValidationError, match=told):
        options_model(Target).model_validate_json(f'{{"root": "{written}"}}')


def test_nested_options_keep_their_own_model() -> None:
    class Outer:
        def __init__(self, *, inner: Inner = Inner(), many: dict[str, Inner] = {}): ...  # noqa: B006, B008

    options = options_model(Outer).model_validate_json('{"many": {"a": {"size": 2}}}')
    assert dict(options) == {"inner": Inner(size=1), "many": {"a": Inner(size=2)}}
