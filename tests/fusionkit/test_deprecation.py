"""Deprecations: told where they are used, and refused once their version is at hand."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import fusionkit_fakes as fakes
import pytest
import yaml
from pydantic import BaseModel, Field

from fusionkit import recipe as recipe_module
from fusionkit.contract import Fusion
from fusionkit.deprecation import FusionkitDeprecationWarning, deprecated, deprecated_keys, gone_in, is_ahead
from fusionkit.grids import load_grid
from fusionkit.recipe import load_recipe
from fusionkit.registry import Registry

MARK = "use `film`; gone in 0.3"


def marks_in(source: str) -> Iterator[str]:
    """What is given to `deprecated(...)`, or to anything as `deprecated=`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            given = [keyword.value for keyword in node.keywords if keyword.arg == "deprecated"]
            if getattr(node.func, "id", getattr(node.func, "attr", "")) == "deprecated":
                given += node.args
            yield from (str(mark.value) for mark in given if isinstance(mark, ast.Constant))


def test_what_is_deprecated_stays_for_one_minor_version() -> None:
    root = Path(__file__).parents[2]
    sources = [
        path for folder in ("fusionkit", "plugins", "datasets") for path in sorted((root / folder).rglob("*.py"))
    ]
    assert len(sources) > 100
    marks = [mark for path in sources for mark in marks_in(path.read_text(encoding="utf-8"))]
    late = [mark for mark in marks if not is_ahead(mark, version("fusionkit-geo"))]
    assert not late, f"to be removed by now, or marked too late: {late}"


def test_marks_are_found() -> None:
    source = """
Component("fusion", "a", "b:c", deprecated="use `b`; gone in 0.3")
class Section(BaseModel):
    width: Annotated[int, Field(gt=0, deprecated="use `dim`; gone in 0.4")] = 3
    @deprecated("use `b`; gone in 0.5")
    def a(self): ...
@deprecation.deprecated("use `c`; gone in 0.6")
class Old: ...
"""
    assert {str(gone_in(mark)) for mark in marks_in(source)} == {"0.3", "0.4", "0.5", "0.6"}


@pytest.mark.parametrize(
    ("installed", "right"),
    [("0.1.0", True), ("0.2.9", True), ("0.3.0rc1", False), ("0.3.0", False), ("1.0", False)],
)
def test_a_mark_is_ahead_by_a_minor_version(installed: str, right: bool) -> None:
    assert is_ahead(MARK, installed) is right


@pytest.mark.parametrize(
    "mark", ["use `film`", "gone in 0.3", "use `film`; gone in 3", "use `film`; gone in 0.3 or so"]
)
def test_a_mark_names_its_version(mark: str) -> None:
    with pytest.raises(ValueError, match="a deprecation ends with the version in which it goes"):
        gone_in(mark)
    with pytest.raises(ValueError, match="unlike"):
        deprecated(mark)


def test_a_deprecated_function_warns_and_works() -> None:
    @deprecated(MARK)
    def twice(x: int) -> int:
        return 2 * x

    with pytest.warns(FusionkitDeprecationWarning, match="use `film`; gone in 0.3"):
        assert twice(2) == 4


class Old(fakes.Cat):
    def __init__(
        self,
        inputs: Any,
        *,
        dim: int = 6,
        width: Annotated[int | None, Field(deprecated="use `dim`; gone in 0.3")] = None,
    ):
        super().__init__(inputs, dim=width or dim)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The fakes, of which `plus` is deprecated, and an option of `cat`."""
    made = fakes.registry()
    marked = {"plus": MARK}
    made.components = [
        replace(e, component=replace(e.component, deprecated=marked.get(e.component.name))) for e in made.components
    ]
    monkeypatch.setattr(fakes, "Cat", Old)
    return made


def warned(registry: Registry, **changes: Any) -> list[str]:
    return list(map(str, load_recipe(fakes.recipe(**changes), registry=registry).warnings))


def test_a_recipe_is_told_of_what_is_deprecated_in_it(registry: Registry) -> None:
    assert issubclass(registry.resolve("fusion", "cat"), Fusion)
    assert warned(registry, fusion="cat") == []
    assert warned(registry, fusion="plus") == [
        "recipe: fusion: fusion 'plus' of fusionkit-fakes is deprecated: use `film`; gone in 0.3"
    ]
    assert warned(registry, fusion={"name": "cat", "width": 3}) == [
        "recipe: fusion.width: is deprecated: use `dim`; gone in 0.3"
    ]


def test_a_resolved_recipe_has_used_no_option_that_stands_at_its_default(registry: Registry) -> None:
    recipe = load_recipe(fakes.recipe(fusion="cat"), registry=registry)
    resolved = recipe.resolved()
    assert resolved["fusion"] == {"name": "cat", "dim": 6, "width": None}
    assert load_recipe(resolved, registry=registry).warnings == []


def test_check_says_so_with_the_place(
    registry: Registry, fusionkit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe_module, "load_registry", lambda: registry)
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(fakes.recipe(fusion={"name": "cat", "width": 3}), sort_keys=False))
    answer = fusionkit("check", tmp_path / "r.yaml")
    assert answer.code == 0
    assert re.fullmatch(r"warning: \S*r\.yaml:\d+:3: fusion\.width: is deprecated: .*\n", answer.err)


def test_a_grid_says_so_once(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(fakes.recipe(fusion={"name": "cat", "width": 3})))
    (tmp_path / "grid.yaml").write_text("base: base.yaml\naxes: {train.epochs: [1, 2]}\n")
    (note,) = load_grid(tmp_path / "grid.yaml", registry=registry).notes
    assert note.endswith("fusion.width: is deprecated: use `dim`; gone in 0.3")


def test_keys_of_the_core_are_found_at_any_depth() -> None:
    class Part(BaseModel):
        old: Annotated[int, Field(deprecated=MARK)] = 0

    class Whole(BaseModel):
        parts: list[dict[str, Part]]

    given = Whole.model_validate({"parts": [{"a": {}}, {"a": {"old": 1}, "b": {"old": 0}}]})
    assert list(deprecated_keys(given)) == [(("parts", 1, "a", "old"), MARK)]


STRANGER = """
from fusionkit import Component, hookimpl

@hookimpl
def fusionkit_components():
    yield Component("loss", "ancient", "stranger.loss:Ancient", "as it was", deprecated="use `modern`; gone in 2.0")
"""
LOSS = """
from fusionkit import Loss

class Ancient(Loss):
    '''A loss of old.'''

    def forward(self, output, batch): ...
"""


def test_the_lists_show_it(fusionkit, packages):
    packages.add("stranger", plugin=STRANGER, loss=LOSS)
    (line,) = [line for line in fusionkit("plugins").out.splitlines() if " ancient " in line]
    assert line.endswith("ok      deprecated: use `modern`; gone in 2.0; as it was")
    assert '"deprecated": "use `modern`; gone in 2.0"' in fusionkit("plugins", "--json").out
    assert "\n\nDeprecated: use `modern`; gone in 2.0.\n\nA loss of old." in fusionkit("plugins", "show", "ancient").out
