"""Sentences out of pydantic's errors: one a mistake, about the type that the value comes nearest to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PositiveInt,
    Tag,
    ValidationError,
)

from fusionkit.explain import explain


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Column(Closed):
    file: str
    delimiter: str = ","
    column: int = 0


class Parts(Closed):
    train: str | Column
    test: str | Column


class Model(Closed):
    whole: int = 0
    number: Annotated[float, Field(ge=0, le=1)] = 0
    flag: bool = False
    text: str = ""
    path: Path = Path()
    choice: Literal["cosine", "linear"] = "cosine"
    maybe: PositiveInt | None = None
    items: list[int] = Field([1], min_length=1)
    pair: tuple[int, int] = (1, 2)
    several: PositiveInt | Literal["auto"] | list[int] = 1
    labels: str | Column | Parts = ""
    named: dict[str, str | list[str]] = {}
    counted: dict[int, str] = {}
    columns: dict[str, Column] = {}
    listed: list[Column] = []


def told(data: Any, **other: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as error:
        Model.model_validate_json(json.dumps(data))
    return {".".join(map(str, path)): message for path, message in explain(error.value, Model, data, **other)}


@pytest.mark.parametrize(
    ("data", "sentences"),
    [
        ({"whole": "256"}, {"whole": "should be a whole number, not the text '256'"}),
        ({"whole": True}, {"whole": "should be a whole number, not true"}),
        ({"whole": 1.5}, {"whole": "should be a whole number, not 1.5"}),
        ({"whole": 1.0}, {"whole": "should be a whole number, not 1.0"}),
        ({"whole": [1]}, {"whole": "should be a whole number"}),
        ({"number": "1"}, {"number": "should be a number, not the text '1'"}),
        ({"number": True}, {"number": "should be a number, not true"}),
        ({"number": None}, {"number": "should be a number, not null"}),
        ({"number": 2}, {"number": "should be less than or equal to 1, not 2"}),
        ({"number": float("nan")}, {"number": "should be a finite number, not nan"}),
        ({"number": float("-inf")}, {"number": "should be a finite number, not -inf"}),
        ({"flag": 1}, {"flag": "should be true or false, not 1"}),
        ({"flag": "no"}, {"flag": "should be true or false, not the text 'no'"}),
        ({"text": 3}, {"text": "should be text, not 3"}),
        ({"path": 3}, {"path": "should be text, not 3"}),
        ({"choice": "cosin"}, {"choice": "should be 'cosine' or 'linear', not the text 'cosin'"}),
        ({"maybe": 0}, {"maybe": "should be greater than 0, not 0"}),
        ({"items": 1}, {"items": "should be a list, not 1"}),
        ({"items": []}, {"items": "should have at least 1 item, not 0"}),
        ({"items": [1, "2"]}, {"items.1": "should be a whole number, not the text '2'"}),
        ({"pair": [1]}, {"pair.1": "is required and missing"}),
        ({"named": [1]}, {"named": "should be a mapping of keys to values"}),
        ({"columns": {"a": 1}}, {"columns.a": "should be a mapping of keys to values, not 1"}),
        # unions: the type that the value comes nearest to; all of them where it comes near none
        ({"several": 0}, {"several": "should be greater than 0, not 0"}),
        ({"several": [1, "a"]}, {"several.1": "should be a whole number, not the text 'a'"}),
        (
            {"several": "x"},
            {"several": "should be a whole number; or should be 'auto'; or should be a list, not the text 'x'"},
        ),
        ({"labels": {"file": "x", "colum": 1}}, {"labels.colum": "unknown key; did you mean 'column'?"}),
        (
            {"labels": {"train": "x", "tset": "y"}},
            {"labels.tset": "unknown key; did you mean 'test'?"},
        ),
        (
            {"labels": {"train": "x", "test": {"file": "y", "delimeter": ";"}}},
            {"labels.test.delimeter": "unknown key; did you mean 'delimiter'?"},
        ),
        ({"labels": {"train": "x", "test": {"file": 1}}}, {"labels.test.file": "should be text, not 1"}),
        (
            {"labels": {"train": "x", "test": 3}},
            {"labels.test": "should be text; or should be a mapping of keys to values, not 3"},
        ),
        ({"named": {"str": 1}}, {"named.str": "should be text; or should be a list, not 1"}),
        ({"named": {"a": ["b", 1]}}, {"named.a.1": "should be text, not 1"}),
        # keys
        ({"wohle": 1}, {"wohle": "unknown key; did you mean 'whole'?"}),
        ({"columns": {"a": {"file": "x", "fiel": 1}}}, {"columns.a.fiel": "unknown key; did you mean 'file'?"}),
        (
            {"listed": [{"file": "x"}, {"fiel": "x"}]},
            {"listed.1.fiel": "unknown key; did you mean 'file'?"},
        ),
        ({"listed": [{"file": "x", "zzz": 1}]}, {"listed.0.zzz": "unknown key; choose from column, delimiter, file"}),
        ({"epochs": 1}, {"epochs": "unknown key; it belongs to train"}),
        ({"batch_size": 1}, {"batch_size": "unknown key; it belongs to data"}),
        ({"group_pattern": 1}, {"group_pattern": "unknown key; it belongs to data.split"}),
        ({"seed": 1}, {"seed": "unknown key; it belongs to the top level"}),
        (
            {"listed": [{"file": "x", "epochs": 1}]},
            {"listed.0.epochs": "unknown key; choose from column, delimiter, file"},
        ),
        ({"counted": {"x": "y"}}, {"counted.x": "should be a whole number, not the text 'x'"}),
    ],
)
def test_one_sentence_a_mistake(data: Any, sentences: dict[str, str]) -> None:
    assert told(data) == sentences


def test_all_mistakes_are_told() -> None:
    assert list(told({"whole": "x", "flag": 3, "wohle": 1, "items": ["a"]})) == ["whole", "flag", "items.0", "wohle"]


def test_keys_that_the_caller_knows_are_suggested_too() -> None:
    assert told({"sorce": 1}, other_keys=["source"]) == {"sorce": "unknown key; did you mean 'source'?"}
    nested = {"columns": {"a": {"file": "x", "sorce": 1}}}
    assert "source'" not in told(nested, other_keys=["source"])["columns.a.sorce"]


def test_a_misspelt_key_is_not_missing_as_well() -> None:
    assert told({"labels": {"train": "x", "zzz": "y"}}).keys() == {"labels.test", "labels.zzz"}
    assert told({"listed": [{"fiel": "x"}, {}]}).keys() == {"listed.0.fiel", "listed.1.file"}


def test_the_keys_to_choose_from_are_those_of_the_type_that_was_tried() -> None:
    given = {"labels": {"train": "x", "test": "y", "file": "z"}}
    assert told(given) == {"labels.file": "unknown key; choose from test, train"}


def refused(value: str) -> str:
    raise ValueError(f"there is no file {value}")


class Ref(Closed):
    file: Annotated[str, AfterValidator(refused)]


def long_form(value: Any) -> Any:
    return {"file": value} if isinstance(value, str) else value


class Tagged(Closed):
    ref: Annotated[
        Annotated[Ref, BeforeValidator(long_form), Tag("one")] | Annotated[list[Ref], Tag("list")],
        Discriminator(lambda value: "list" if isinstance(value, list) else "one"),
    ]


def test_what_is_wrong_within_the_long_form_is_told_of_the_short_one() -> None:
    with pytest.raises(ValidationError) as error:
        Tagged.model_validate_json('{"ref": "x"}')
    assert list(explain(error.value, Tagged, {"ref": "x"})) == [(("ref",), "there is no file x")]


def test_half_a_character_is_none() -> None:
    assert told({"text": "\ud800"}) == {"": "holds half of a surrogate pair, which is no character"}


def test_whole_numbers_as_keys_are_followed() -> None:
    assert told({"counted": {1: "a", 2: 3}}) == {"counted.2": "should be text, not 3"}
